package collector

import (
	"runtime"
	"testing"
	"time"
)

func TestPercent_FallsAsTheHeapGrows(t *testing.T) {
	t.Parallel()
	for reachable, want := range map[uint64]int{
		0: 300, 1: 300, 8 << 20: 300, 16 << 20: 200, 32 << 20: 100, 64 << 20: 50, 65 << 20: 50, 10 << 30: 50, 1 << 62: 50,
	} {
		if got := percent(reachable); got != want {
			t.Errorf("%d bytes: %d per cent, want %d", reachable, got, want)
		}
	}
}

func TestReachable_CountsWhatIsAlive(t *testing.T) {
	ballast := make([]byte, 80<<20)
	runtime.GC()
	if got := reachable(); got < uint64(len(ballast)) {
		t.Errorf("%d bytes, a slice of %d is alive", got, len(ballast))
	}
	runtime.KeepAlive(ballast)
}

func TestAdjust_FollowsEveryCollection(t *testing.T) {
	runtime.GC() // what other tests left
	set := make(chan int, 100)
	adjust(&cycle{set: func(percent int) int { set <- percent; return 0 }})
	if first := <-set; first != relaxedPercent {
		t.Fatalf("%d per cent for a small heap", first)
	}
	ballast := make([]byte, 80<<20)
	runtime.GC()
	await(t, set, leastPercent)
	runtime.KeepAlive(ballast)
	ballast = nil
	runtime.GC()
	await(t, set, relaxedPercent)
}

func await(t *testing.T, set <-chan int, want int) {
	t.Helper()
	select {
	case got := <-set:
		if got != want {
			t.Fatalf("%d per cent, want %d", got, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("nothing was set after a collection, want %d per cent", want)
	}
}
