package bench

import (
	"os"
	"runtime"
	"testing"
	"time"
)

func TestMedianAndQuantile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		median float64
	}{
		{nil, 0}, {[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 2}, 2}, {[]float64{8, 1, 2, 4}, 3},
	} {
		if got := median(c.values); got != c.median {
			t.Errorf("of %v: %v, want %v", c.values, got, c.median)
		}
	}
	if got := quantile([]float64{3, 1, 2}, 0.99); got != 3 {
		t.Errorf("the p99 of three is %v", got)
	}
}

func TestPayloadOf_HasItsSize(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1 << 10, 200 << 10} {
		if got := len(payloadOf(size)); got != size {
			t.Errorf("%d bytes, want %d", got, size)
		}
	}
	if got := len(timedPayload()); got < payloadBytes-16 || got > payloadBytes+16 {
		t.Errorf("a timed payload has %d bytes", got)
	}
}

func TestMeter_CountsOurOwnWork(t *testing.T) {
	t.Parallel()
	m := meter{sender: os.Getpid()}
	before := m.read()
	if before.database != nil || before.receiver != nil {
		t.Error("something is known of nobody")
	}
	if known := runtime.GOOS == "linux"; (before.sender != nil) != known {
		t.Fatalf("our own CPU is known: %t", before.sender != nil)
	} else if !known {
		return // and said to be unknown
	}
	for begin := time.Now(); time.Since(begin) < 100*time.Millisecond; {
		_ = payloadOf(1000)
	}
	cpu := m.read().per(1, before)
	if cpu.SenderUS == nil || *cpu.SenderUS <= 0 || cpu.DatabaseUS != nil {
		t.Errorf("%+v", cpu)
	}
	if bytes, ok := peakMemory(os.Getpid()); !ok || bytes < 1<<20 {
		t.Errorf("at most %d bytes", bytes)
	}
}
