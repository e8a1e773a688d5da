package bench

import (
	"context"
	"slices"
	"time"
)

// latencyRates are events in a second.
var latencyRates = []float64{100, 1000}

// warmUpFor is how long events flow at each rate before the measured ones, at most.
const warmUpFor = time.Second

// measureLatency publishes events in an open loop and times each from its commit to
// the receiver.
func measureLatency(ctx context.Context, s *suite) error {
	s.say("latency: open loop at 100/s and 1,000/s, %s each", s.config.LatencyFor)
	l, err := newSendingLab(ctx, s)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.subscribe(ctx, "timed", 1, 1, pathTimed, rawGoroutines); err != nil {
		return err
	}
	for _, rate := range latencyRates {
		if _, err := l.latency(ctx, rate, min(warmUpFor, s.config.LatencyFor)); err != nil {
			return err
		}
		measured, err := l.latency(ctx, rate, s.config.LatencyFor)
		if err != nil {
			return err
		}
		s.say("%.0f/s: p50 %.1f ms, p99 %.1f ms, max %.1f ms", rate, measured.P50MS, measured.P99MS, measured.MaxMS)
		s.report.Latency = append(s.report.Latency, measured)
	}
	return nil
}

// latency measures one rate, for tenant timed-0.
func (l *lab) latency(ctx context.Context, perSecond float64, during time.Duration) (Latency, error) {
	if err := l.suite.receiver.reset(ctx); err != nil {
		return Latency{}, err
	}
	before := l.meter().read()
	sent, err := l.publishSteadily(ctx, []string{tenantName("timed", 0)}, perSecond, during)
	if err != nil {
		return Latency{}, err
	}
	t, err := l.suite.awaitTimed(ctx, sent.events)
	if err != nil {
		return Latency{}, err
	}
	return Latency{
		PerSecond: perSecond, Events: sent.events, Publishers: publishers,
		AchievedPerSecond: float64(sent.events) / sent.during.Seconds(),
		P50MS:             milliseconds(t.P50), P99MS: milliseconds(t.P99), MaxMS: milliseconds(t.Max),
		LateP99MS: quantile(sent.late, 0.99), LateMaxMS: slices.Max(sent.late),
		CPU: l.meter().read().per(int64(sent.events), before),
	}, nil
}
