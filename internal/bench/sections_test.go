package bench

import (
	"errors"
	"testing"

	"github.com/posthorn/posthorn/internal/pgtest"
)

// The figures are the machine's; that they are figures, and agree with each other, is
// the tests' business.

func TestThroughput_HasTheCeilingAndEveryCase(t *testing.T) {
	t.Parallel()
	r := measure(t, "throughput").Throughput
	if r.RawPerSecond <= 0 || r.Rounds != 2 || len(r.Cases) != 4 {
		t.Fatalf("%+v", r)
	}
	for i, want := range []struct {
		name                        string
		endpoints, perEvent, events int
	}{
		{caseNaive, 1, 1, 8}, {caseOne, 1, 1, 200}, {caseFanOut, 10, 10, 20}, {caseMany, 7, 1, 200},
	} {
		c := r.Cases[i]
		if c.Name != want.name || c.Endpoints != want.endpoints || c.EndpointsPerEvent != want.perEvent || c.Events != want.events {
			t.Errorf("%+v, want %+v", c, want)
		}
		checkCase(t, c)
	}
}

func TestPayloads_AreOfThreeSizes(t *testing.T) {
	t.Parallel()
	cases := measure(t, "payloads").Payloads
	if len(cases) != 3 {
		t.Fatalf("%+v", cases)
	}
	for i, bytes := range []int{1 << 10, 16 << 10, 200 << 10} {
		if cases[i].PayloadBytes != bytes || cases[i].MegabytesPerSecond <= 0 {
			t.Errorf("%+v", cases[i])
		}
		checkCase(t, cases[i])
	}
}

func checkCase(t *testing.T, c Case) {
	t.Helper()
	if c.RawPerSecond <= 0 || c.DeliveriesPerSecond <= 0 || c.RecordedSeconds <= 0 || c.PayloadBytes <= 0 {
		t.Errorf("%+v", c)
	}
	if c.LowestRatio <= 0 || c.Ratio < c.LowestRatio || c.HighestRatio < c.Ratio {
		t.Errorf("the ratios are not in order: %+v", c)
	}
	if c.CPU.DatabaseUS != nil {
		t.Error("the CPU time of a server that is not ours is known")
	}
}

func TestLatency_IsMeasuredAtBothRates(t *testing.T) {
	t.Parallel()
	all := measure(t, "latency").Latency
	if len(all) != 2 || all[0].PerSecond != 100 || all[1].PerSecond != 1000 || all[0].Events != 10 || all[1].Events != 100 {
		t.Fatalf("%+v", all)
	}
	for _, l := range all {
		if l.P50MS <= 0 || l.P99MS < l.P50MS || l.MaxMS < l.P99MS || l.LateMaxMS < l.LateP99MS || l.AchievedPerSecond <= 0 {
			t.Errorf("%+v", l)
		}
	}
}

func TestIsolation_TimesTheHealthyOnes(t *testing.T) {
	t.Parallel()
	all := measure(t, "isolation").Isolation
	if len(all) != 1 || all[0].HealthyEndpoints != 3 || all[0].Endpoints != 10 || all[0].Events != 6 {
		t.Fatalf("%+v", all)
	}
	if i := all[0]; i.P50MS <= 0 || i.P99MS < i.P50MS || i.MaxMS < i.P99MS {
		t.Errorf("%+v", i)
	}
}

func TestProducer_ComparesAtThreeNumbersOfConnections(t *testing.T) {
	t.Parallel()
	all := measure(t, "producer").Producer
	if len(all) != 3 || all[0].Connections != 1 || all[1].Connections != 8 || all[2].Connections != 32 {
		t.Fatalf("%+v", all)
	}
	for _, p := range all {
		if p.PlainPerSecond <= 0 || p.OutboxPerSecond <= 0 || p.LowestRatio <= 0 || p.Ratio < p.LowestRatio || p.HighestRatio < p.Ratio {
			t.Errorf("%+v", p)
		}
	}
}

func TestIdle_OnAPrivateServerIsKnownOfBoth(t *testing.T) {
	t.Parallel()
	r, err := Run(t.Context(), tiny(t, "idle"))
	if err != nil {
		t.Fatal(err)
	}
	if r.Idle.Seconds <= 0 || !r.Machine.Private || r.Machine.Fsync != "on" {
		t.Errorf("%+v, %+v", r.Idle, r.Machine)
	}
	if r.Machine.OS != "linux" {
		return // nothing is known of other processes
	}
	if r.Idle.SenderPercent == nil || r.Idle.DatabasePercent == nil || r.Idle.MemoryBytes == nil {
		t.Errorf("%+v", r.Idle)
	}
}

func TestBacklog_HoldsMemoryAgainstSmallOnes(t *testing.T) {
	t.Parallel()
	r := measure(t, "backlog")
	b := r.Backlog
	if b.Events != 300 || b.SmallEvents != 200 || b.DeliveriesPerSecond <= 0 || b.RecordedSeconds <= 0 {
		t.Errorf("%+v", b)
	}
	if r.Machine.OS != "linux" {
		return
	}
	if b.CPU.SenderUS == nil || b.BeforeBytes == nil || b.GrowthPercent == nil || *b.PeakBytes < *b.SmallPeakBytes || *b.SmallPeakBytes < *b.BeforeBytes {
		t.Errorf("%+v", b)
	}
}

func TestStored_ComparesFullWithEmpty(t *testing.T) {
	t.Parallel()
	r, err := Run(t.Context(), tiny(t, "stored"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.WriteTable(t.Output()); err != nil {
		t.Error(err)
	}
	s := r.Stored
	if s.Deliveries != 2000 || s.FillSeconds <= 0 || s.Rounds != 2 || s.EmptyPerSecond <= 0 || s.FullPerSecond <= 0 {
		t.Errorf("%+v", s)
	}
	if s.LowestRatio <= 0 || s.Ratio < s.LowestRatio || s.HighestRatio < s.Ratio {
		t.Errorf("the ratios are not in order: %+v", s)
	}
	if len(s.Latency) != 2 || len(s.Lists) < 15 {
		t.Fatalf("%+v", s)
	}
	for _, l := range s.Latency {
		for _, p := range []Percentiles{l.Empty, l.Full} {
			if p.P50MS <= 0 || p.P99MS < p.P50MS || p.PooledP50MS <= 0 || p.PooledP99MS < p.PooledP50MS {
				t.Errorf("%+v", l)
			}
			// Of two rounds of 25 ms each.
			if want := 2 * int(l.PerSecond*0.025); p.Events != want {
				t.Errorf("%d events at %.0f/s, want %d", p.Events, l.PerSecond, want)
			}
		}
	}
	for _, l := range s.Lists {
		if l.FirstMS <= 0 || l.NextMS <= 0 {
			t.Errorf("%+v", l)
		}
	}
}

func TestStored_NeedsAServerOfItsOwn(t *testing.T) {
	t.Parallel()
	c := tiny(t, "stored")
	c.DatabaseURL = pgtest.NewEmpty(t).URL
	if _, err := Run(t.Context(), c); !errors.Is(err, errTwoDatabases) {
		t.Errorf("it says %v", err)
	}
}
