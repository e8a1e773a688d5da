package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/posthorn/posthorn/internal/bench"
)

// benchCommand is posthorn bench.
type benchCommand struct {
	Only         []string      `placeholder:"SECTION" help:"Measure only these, separated by commas: throughput, payloads, latency, idle, producer, isolation, backlog, stored. Default: all."`
	Quick        bool          `help:"Measure less of everything, for a look in about three minutes. The defaults in brackets are then used."`
	DatabaseURL  string        `placeholder:"URL" help:"Measure on this database, which must be empty and is emptied afterwards; DATABASE_URL is not used. Default: a private PostgreSQL."`
	Events       int           `placeholder:"N" help:"Deliveries of 1 KB that wait at the start of a drain. Default: 50000 (20000)."`
	Endpoints    int           `placeholder:"N" help:"Endpoints of the case of many. Default: 1000."`
	Rounds       int           `placeholder:"N" help:"How often the cases take turns; medians are printed. Default: 5 (2)."`
	LatencyFor   time.Duration `placeholder:"DURATION" help:"How long events are published at each rate, a quarter of it in each turn beside what is stored. Default: 10s (4s)."`
	ProducerFor  time.Duration `placeholder:"DURATION" help:"How long each turn of the producers is. Default: 2s (500ms)."`
	IsolationFor time.Duration `placeholder:"DURATION" help:"How long each case of isolation lasts. Default: 20s (5s)."`
	Case         string        `placeholder:"TEXT" help:"Of isolation only the cases whose names hold this."`
	IdleFor      time.Duration `placeholder:"DURATION" help:"How long the idle processes are watched. Default: 10s (4s)."`
	Backlog      int           `placeholder:"N" help:"Events of the large backlog. Default: 1000000 (100000)."`
	Stored       int           `placeholder:"N" help:"Deliveries stored, beside which others are sent; a million takes 1.2 GB. Default: 1000000 (100000)."`
	JSON         bool          `name:"json" help:"Print JSON."`
	SVG          string        `name:"svg" placeholder:"FILE" help:"Draw the figures into this file too."`
	Role         string        `hidden:"" help:"Be this process of a benchmark: receiver, sender or naive."`
}

// Run implements the command.
func (c *benchCommand) Run(ctx context.Context, s *streams) error {
	if c.Role != "" {
		return c.play(ctx, s)
	}
	relaxCollector() // as in serve; the ceiling profits from it too
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	report, err := bench.Run(ctx, bench.Config{
		Executable: executable, DatabaseURL: c.DatabaseURL, Only: c.Only, Quick: c.Quick, Events: c.Events, Endpoints: c.Endpoints,
		Rounds: c.Rounds, LatencyFor: c.LatencyFor, ProducerFor: c.ProducerFor, IsolationFor: c.IsolationFor, Case: c.Case,
		IdleFor: c.IdleFor, Backlog: c.Backlog, Stored: c.Stored, Progress: s.err,
		Logger: slog.New(slog.NewTextHandler(s.err, nil)),
	})
	if err != nil {
		return err
	}
	if c.SVG != "" {
		if err := os.WriteFile(c.SVG, report.Plot(), 0o644); err != nil {
			return fmt.Errorf("--svg: %w", err)
		}
	}
	if c.JSON {
		encoder := json.NewEncoder(s.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(report)
	}
	return report.WriteTable(s.out)
}

// play is one of the benchmark's processes, until its standard input ends.
func (c *benchCommand) play(ctx context.Context, s *streams) error {
	switch c.Role {
	case bench.RoleReceiver:
		return bench.Receive(s.in, s.out)
	case bench.RoleSender:
		return bench.Send(ctx, s.in, func(ctx context.Context, url string) error { return serveForBench(ctx, url, s) })
	case bench.RoleNaive:
		relaxCollector()
		return bench.SendNaively(ctx, s.in, s.out)
	}
	return fmt.Errorf("--role %s: there is no such process", c.Role)
}

// serveForBench is posthorn serve, to the letter: what is measured is what is
// deployed. Of the environment only what is not Posthorn's has a say.
func serveForBench(ctx context.Context, url string, s *streams) error {
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "POSTHORN_") {
			os.Unsetenv(name)
		}
	}
	if err := os.Setenv("DATABASE_URL", url); err != nil { // not a flag: other users see a command line
		return err
	}
	// Output is the protocol's with the benchmark; a log line there would break it.
	quiet := &streams{in: strings.NewReader(""), out: s.err, err: s.err}
	status := run(ctx, []string{"serve", "--roles=dispatch", "--addr=127.0.0.1:0", "--allow-http", "--allow-private-networks=127.0.0.0/8"}, quiet)
	if status != 0 {
		return fmt.Errorf("posthorn serve: exit status %d", status)
	}
	return nil
}
