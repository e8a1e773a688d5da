// Package bench measures Posthorn beside the raw ceiling of net/http, on one
// machine, in the same run: what counts is the ratio. The receiver is a process
// of its own, the database a durable private PostgreSQL.
package bench

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/posthorn/posthorn/internal/netguard"
)

// Config says what to measure.
type Config struct {
	// Executable is the program that `<Executable> bench --receiver` makes a
	// receiver of.
	Executable string
	// Events is how many events wait at the start of a drain. Zero means 20,000.
	Events int
	// Rounds is how often raw and Posthorn take turns. Zero means 3.
	Rounds int
	// Endpoints is how many endpoints an event goes to. Zero means 1.
	Endpoints int
	// LatencyFor is how long events are published at 100 a second. Zero means 10 s.
	LatencyFor time.Duration
	// Progress takes a line now and then. Nil discards them.
	Progress io.Writer
	// Logger takes the dispatcher's log. Nil discards it.
	Logger *slog.Logger
}

// payloadBytes is the size of an event's payload.
const payloadBytes = 1024

// Report is what was measured: medians over the rounds.
type Report struct {
	// Events, Endpoints and Rounds are the configuration.
	Events, Endpoints, Rounds int
	// RawPerSecond is what bare net/http reaches: 64 goroutines that sign and POST.
	RawPerSecond float64
	// DeliveriesPerSecond is Posthorn's, from the commit of the waiting events to
	// the last one received.
	DeliveriesPerSecond float64
	// Ratio is the median over the rounds of DeliveriesPerSecond to RawPerSecond.
	Ratio float64
	// RecordedSeconds is how long after the commit everything was recorded.
	RecordedSeconds float64
	// LatencyP50 and LatencyP99 are from commit to received, at 100 events a second.
	LatencyP50, LatencyP99 time.Duration
}

// loopback lets the receivers of a benchmark be called: they are on this machine.
var loopback = netguard.Policy{AllowHTTP: true, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}

// Run measures. It takes about ten seconds a round.
func Run(ctx context.Context, c Config) (Report, error) {
	c = c.withDefaults()
	receiver, err := startReceiver(ctx, c.Executable)
	if err != nil {
		return Report{}, err
	}
	defer receiver.stop()
	lab, err := newLab(ctx, c)
	if err != nil {
		return Report{}, err
	}
	defer lab.close()

	report := Report{Events: c.Events, Endpoints: c.Endpoints, Rounds: c.Rounds}
	var raws, ours, ratios, recorded []float64
	for round := range c.Rounds {
		raw, err := runRaw(ctx, receiver, c.Events*c.Endpoints)
		if err != nil {
			return Report{}, err
		}
		drained, err := lab.drain(ctx, receiver)
		if err != nil {
			return Report{}, err
		}
		fmt.Fprintf(c.Progress, "round %d: raw %.0f/s, posthorn %.0f/s, ratio %.2f\n",
			round+1, raw, drained.perSecond, drained.perSecond/raw)
		raws, ours = append(raws, raw), append(ours, drained.perSecond)
		ratios, recorded = append(ratios, drained.perSecond/raw), append(recorded, drained.recorded.Seconds())
	}
	report.RawPerSecond, report.DeliveriesPerSecond = median(raws), median(ours)
	report.Ratio, report.RecordedSeconds = median(ratios), median(recorded)
	report.LatencyP50, report.LatencyP99, err = lab.latency(ctx, receiver, c.LatencyFor)
	return report, err
}

func (c Config) withDefaults() Config {
	if c.Events == 0 {
		c.Events = 20_000
	}
	if c.Rounds == 0 {
		c.Rounds = 3
	}
	if c.Endpoints == 0 {
		c.Endpoints = 1
	}
	if c.LatencyFor == 0 {
		c.LatencyFor = 10 * time.Second
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
