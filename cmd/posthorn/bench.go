package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/posthorn/posthorn/internal/bench"
)

// benchCommand is posthorn bench.
type benchCommand struct {
	Events     int           `default:"20000" help:"Events that wait at the start."`
	Endpoints  int           `default:"1" help:"Endpoints that each event goes to."`
	Rounds     int           `default:"3" help:"How often net/http and Posthorn take turns; medians are printed."`
	LatencyFor time.Duration `default:"10s" help:"How long events are published at 100 a second."`
	JSON       bool          `name:"json" help:"Print JSON."`
	Receiver   bool          `hidden:"" help:"Be the receiver of a benchmark."`
}

// benchJSON is a report as --json prints it.
type benchJSON struct {
	Events              int     `json:"events"`
	Endpoints           int     `json:"endpoints"`
	Rounds              int     `json:"rounds"`
	RawPerSecond        float64 `json:"raw_per_second"`
	DeliveriesPerSecond float64 `json:"deliveries_per_second"`
	Ratio               float64 `json:"ratio"`
	RecordedSeconds     float64 `json:"recorded_seconds"`
	LatencyP50Ms        float64 `json:"latency_p50_ms"`
	LatencyP99Ms        float64 `json:"latency_p99_ms"`
}

// Run implements the command.
func (c *benchCommand) Run(ctx context.Context, s *streams) error {
	if c.Receiver {
		return bench.Receive(s.in, s.out)
	}
	relaxCollector() // as in serve; the ceiling profits from it too
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	r, err := bench.Run(ctx, bench.Config{
		Executable: executable, Events: c.Events, Endpoints: c.Endpoints, Rounds: c.Rounds,
		LatencyFor: c.LatencyFor, Progress: s.err,
	})
	if err != nil {
		return err
	}
	if !c.JSON {
		return printReport(s.out, r)
	}
	return json.NewEncoder(s.out).Encode(benchJSON{
		Events: r.Events, Endpoints: r.Endpoints, Rounds: r.Rounds, RawPerSecond: r.RawPerSecond,
		DeliveriesPerSecond: r.DeliveriesPerSecond, Ratio: r.Ratio, RecordedSeconds: r.RecordedSeconds,
		LatencyP50Ms: milliseconds(r.LatencyP50), LatencyP99Ms: milliseconds(r.LatencyP99),
	})
}

func printReport(w io.Writer, r bench.Report) error {
	fmt.Fprintf(w, "%d events waiting, %d endpoint(s), 1 KB each; medians of %d rounds\n\n", r.Events, r.Endpoints, r.Rounds)
	for _, row := range []struct {
		what   string
		format string
		value  float64
		unit   string
	}{
		{"raw net/http, signed, no database", "%.0f", r.RawPerSecond, "requests/s"},
		{"posthorn, commit to received", "%.0f", r.DeliveriesPerSecond, "deliveries/s"},
		{"ratio", "%.2f", r.Ratio, ""},
		{"all recorded after", "%.2f", r.RecordedSeconds, "s"},
		{"commit to received at 100/s, p50", "%.1f", milliseconds(r.LatencyP50), "ms"},
		{"commit to received at 100/s, p99", "%.1f", milliseconds(r.LatencyP99), "ms"},
	} {
		line := fmt.Sprintf("%-34s %8s %s", row.what, fmt.Sprintf(row.format, row.value), row.unit)
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " ")); err != nil {
			return err
		}
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
