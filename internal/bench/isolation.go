package bench

import (
	"context"
	"fmt"
	"strings"
)

// isolationCase is a mix of endpoints, each of which gets ten events a second.
type isolationCase struct {
	name                   string
	healthy, hang, failing int
	dump                   int    // events that one more tenant commits at once
	dumpTo                 string // the receiver's path for these
}

var isolationCases = []isolationCase{
	{name: "10 healthy", healthy: 10},
	{name: "5 of 10 hang for 30 s, 2 answer 500", healthy: 3, hang: 5, failing: 2},
	{name: "10 healthy, another tenant dumps 100,000 events", healthy: 10, dump: 100_000, dumpTo: "/dump"},
	{name: "10 healthy, another hangs in the middle of 30,000", healthy: 10, dump: 30_000, dumpTo: pathTires},
	{name: "100 healthy", healthy: 100},
	{name: "90 of 100 hang for 30 s", healthy: 10, hang: 90},
}

// isolationRate is how many events a second each tenant gets.
const isolationRate = 10

// measureIsolation times what the healthy endpoints get beside others that are not,
// each case on a database of its own.
func measureIsolation(ctx context.Context, s *suite) error {
	s.say("isolation: each case for %s", s.config.IsolationFor)
	for _, kind := range isolationCases {
		if !strings.Contains(kind.name, s.config.Case) {
			continue
		}
		measured, err := s.isolate(ctx, kind)
		if err != nil {
			return fmt.Errorf("%s: %w", kind.name, err)
		}
		s.say("%s: p50 %.1f ms, p99 %.1f ms, max %.1f ms", kind.name, measured.P50MS, measured.P99MS, measured.MaxMS)
		s.report.Isolation = append(s.report.Isolation, measured)
	}
	return nil
}

func (s *suite) isolate(ctx context.Context, kind isolationCase) (Isolation, error) {
	if err := s.receiver.reset(ctx); err != nil {
		return Isolation{}, err
	}
	l, err := newSendingLab(ctx, s)
	if err != nil {
		return Isolation{}, err
	}
	defer l.close()
	defer s.receiver.reset(ctx) // lets go of what hangs, so that the sender can end
	tenants, err := l.subscribeMix(ctx, kind)
	if err != nil {
		return Isolation{}, err
	}
	if kind.dump > 0 {
		dump := l.work(load{name: "dump", events: kind.dump, tenants: 1, perEvent: 1, payload: payloadOf(payloadBytes)})
		if err := dump.commit(ctx); err != nil {
			return Isolation{}, err
		}
	}
	sent, err := l.publishSteadily(ctx, tenants, isolationRate*float64(len(tenants)), s.config.IsolationFor)
	if err != nil {
		return Isolation{}, err
	}
	timed := 0
	for i := range sent.events {
		if i%len(tenants) < kind.healthy {
			timed++
		}
	}
	t, err := s.awaitTimed(ctx, timed)
	return Isolation{
		Case: kind.name, HealthyEndpoints: kind.healthy, Endpoints: len(tenants), Events: timed,
		P50MS: milliseconds(t.P50), P99MS: milliseconds(t.P99), MaxMS: milliseconds(t.Max),
		LateP99MS: quantile(sent.late, 0.99),
	}, err
}

// subscribeMix makes a tenant with one endpoint for each of the case's, the healthy
// ones first.
func (l *lab) subscribeMix(ctx context.Context, kind isolationCase) (tenants []string, err error) {
	for _, group := range []struct {
		name, path string
		n          int
	}{
		{"healthy", pathTimed, kind.healthy},
		{"hangs", pathHang, kind.hang},
		{"fails", pathFail, kind.failing},
	} {
		if err := l.subscribe(ctx, group.name, group.n, 1, group.path, 0); err != nil {
			return nil, err
		}
		for i := range group.n {
			tenants = append(tenants, tenantName(group.name, i))
		}
	}
	if kind.dump == 0 {
		return tenants, nil
	}
	return tenants, l.subscribe(ctx, "dump", 1, 1, kind.dumpTo, 0)
}
