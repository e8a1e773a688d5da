package bench

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// section is one question. Its run puts the answer into the suite's report.
type section struct {
	name string
	run  func(ctx context.Context, s *suite) error
}

// sections are in the order in which they run: the quiet ones first.
var sections = []section{
	{"throughput", measureThroughput},
	{"payloads", measurePayloads},
	{"latency", measureLatency},
	{"idle", measureIdle},
	{"producer", measureProducer},
	{"isolation", measureIsolation},
	{"backlog", measureBacklog},
	{"stored", measureStored},
}

// Sections are the names that Config.Only takes, in the order in which they run.
func Sections() []string {
	var names []string
	for _, s := range sections {
		names = append(names, s.name)
	}
	return names
}

// suite is one run of the benchmark: what the sections share.
type suite struct {
	config   Config
	server   *server
	receiver *receiver
	report   *Report
}

// Run measures. With the defaults it takes eight to nine minutes on two cores, of
// which it tells by Config.Progress.
func Run(ctx context.Context, c Config) (*Report, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &suite{config: c, report: &Report{StartedAt: time.Now().UTC()}}
	if s.server, err = startServer(ctx, c); err != nil {
		return nil, err
	}
	defer s.server.stop()
	if s.receiver, err = startReceiver(ctx, c.Executable); err != nil {
		return nil, err
	}
	defer s.receiver.stop()
	if s.report.Machine, err = s.machine(ctx); err != nil {
		return nil, err
	}
	for _, section := range sections {
		if len(c.Only) > 0 && !slices.Contains(c.Only, section.name) {
			continue
		}
		if err := section.run(ctx, s); err != nil {
			return nil, fmt.Errorf("bench: %s: %w", section.name, err)
		}
	}
	s.report.Seconds = time.Since(s.report.StartedAt).Seconds()
	return s.report, nil
}

// say prints a line of progress.
func (s *suite) say(format string, args ...any) {
	fmt.Fprintf(s.config.Progress, format+"\n", args...)
}
