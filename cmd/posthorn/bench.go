package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
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
	Isolation  time.Duration `placeholder:"DURATION" help:"Measure instead how healthy endpoints fare beside hanging and failing ones, each case for so long."`
	Case       string        `placeholder:"TEXT" help:"Of those only the cases whose names hold this."`
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
	if c.Isolation > 0 {
		return c.isolation(ctx, s, executable)
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

// isolationJSON is a case as --json prints it.
type isolationJSON struct {
	Case      string  `json:"case"`
	Healthy   int     `json:"healthy_endpoints"`
	Endpoints int     `json:"endpoints"`
	P50Ms     float64 `json:"p50_ms"`
	P99Ms     float64 `json:"p99_ms"`
	MaxMs     float64 `json:"max_ms"`
}

func (c *benchCommand) isolation(ctx context.Context, s *streams, executable string) error {
	cases, err := bench.RunIsolation(ctx, bench.Config{Executable: executable, Progress: s.err, Logger: slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: slog.LevelError}))}, c.Case, c.Isolation)
	if err != nil {
		return err
	}
	if !c.JSON {
		fmt.Fprintf(s.out, "commit to received at the healthy endpoints, 10 events/s each, for %s\n\n%-50s %9s %9s %9s\n", c.Isolation, "", "p50", "p99", "max")
	}
	for _, i := range cases {
		if c.JSON {
			err = json.NewEncoder(s.out).Encode(isolationJSON{i.Case, i.Healthy, i.Endpoints, milliseconds(i.P50), milliseconds(i.P99), milliseconds(i.Max)})
		} else {
			_, err = fmt.Fprintf(s.out, "%-50s %6.1f ms %6.1f ms %6.1f ms\n", i.Case, milliseconds(i.P50), milliseconds(i.P99), milliseconds(i.Max))
		}
		if err != nil {
			return err
		}
	}
	return nil
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
