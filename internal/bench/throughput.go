package bench

import (
	"context"
	"fmt"
)

// naiveShare is how much less waits for the naive design, which takes so much longer.
const naiveShare = 25

// fanOut is how many endpoints the case of fanning out sends each event to.
const fanOut = 10

// The names of the cases of throughput.
const (
	caseNaive  = "naive: one River job per delivery"
	caseOne    = "1 endpoint"
	caseFanOut = "10 endpoints per event"
	caseMany   = "many endpoints"
)

// measureThroughput drains 1 KB events for one endpoint, for ten at once and spread
// over a thousand, beside the naive design and the ceiling.
func measureThroughput(ctx context.Context, s *suite) error {
	s.say("throughput: %d deliveries of 1 KB wait; %d rounds", s.config.Events, s.config.Rounds)
	l, err := newSendingLab(ctx, s)
	if err != nil {
		return err
	}
	defer l.close()
	contestants, err := l.throughputCases(ctx)
	if err != nil {
		return err
	}
	if err := warmUp(ctx, contestants); err != nil {
		return err
	}
	cases, raws, err := s.takeTurns(ctx, contestants)
	if err != nil {
		return err
	}
	t := &Throughput{
		Rounds:       s.config.Rounds,
		RawPerSecond: median(collect(raws, func(r rawRun) float64 { return r.perSecond })),
		RawCPU:       medianCPU(collect(raws, func(r rawRun) CPU { return r.cpu })),
		Cases:        cases,
	}
	t.PeakMemoryBytes = ofProcess(l.sender.cmd.Process.Pid, peakMemory)
	s.report.Throughput = t
	return nil
}

// warmUp has each of Posthorn's cases drain once, unmeasured: connections, plans and
// heap are then those of a sender at work. A naive job has no more to warm up than its
// first few.
func warmUp(ctx context.Context, all []contestant) error {
	for _, c := range all {
		if c.about.Name == caseNaive {
			continue
		}
		if _, err := c.drain(ctx); err != nil {
			return fmt.Errorf("%s: %w", c.about.Name, err)
		}
	}
	return nil
}

// throughputCases makes the endpoints and says who drains what.
func (l *lab) throughputCases(ctx context.Context) ([]contestant, error) {
	c := l.suite.config
	payload := payloadOf(payloadBytes)
	baseline, err := newNaive(ctx, l)
	if err != nil {
		return nil, err
	}
	all := []contestant{{
		about: Case{Name: caseNaive, Endpoints: 1, EndpointsPerEvent: 1, Events: max(1, c.Events/naiveShare), PayloadBytes: payloadBytes}, payload: payload, rawPosts: c.Events,
		drain: func(ctx context.Context) (drained, error) {
			return baseline.drain(ctx, max(1, c.Events/naiveShare), payload)
		},
	}}
	for _, kind := range []struct {
		name, tenant      string
		tenants, perEvent int
		maxInFlight       int
	}{
		// As many under way as the ceiling has.
		{caseOne, "one", 1, 1, rawGoroutines},
		{caseFanOut, "ten", 1, fanOut, 0},
		// Each endpoint gets events of its own, so that chunks are small.
		{caseMany, "many", c.Endpoints, 1, 0},
	} {
		if err := l.subscribe(ctx, kind.tenant, kind.tenants, kind.perEvent, "/"+kind.tenant, kind.maxInFlight); err != nil {
			return nil, err
		}
		waits := load{name: kind.tenant, events: max(1, c.Events/kind.perEvent), tenants: kind.tenants, perEvent: kind.perEvent, payload: payload}
		all = append(all, contestant{
			about:   Case{Name: kind.name, Endpoints: kind.tenants * kind.perEvent, EndpointsPerEvent: kind.perEvent, Events: waits.events, PayloadBytes: payloadBytes},
			payload: payload, rawPosts: c.Events,
			drain: func(ctx context.Context) (drained, error) { return l.drain(ctx, waits) },
		})
	}
	return all, nil
}
