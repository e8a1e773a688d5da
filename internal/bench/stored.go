package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/posthorn/posthorn/internal/volume"
)

// storedLatencyShare is how much shorter than Config.LatencyFor each turn of each rate
// is here, where both databases have one in each round.
const storedLatencyShare = 4

// storedWarmUpShare is how much less is sent to warm up a turn's new sender than is
// measured of it, or than warms up a sender that has many turns.
const storedWarmUpShare = 4

// errTwoDatabases is the error of asking for the section on a database of the caller's.
var errTwoDatabases = errors.New("the section needs two databases at once, and is measured on a private PostgreSQL only: leave out --database-url")

// measureStored delivers beside much that is stored and beside nothing, by turns.
func measureStored(ctx context.Context, s *suite) error {
	if s.server.private == nil {
		if len(s.config.Only) > 0 {
			return errTwoDatabases
		}
		s.say("stored: left out, for it needs two databases")
		return nil
	}
	s.say("stored: %d deliveries; %d rounds", s.config.Stored, s.config.Rounds)
	c := comparison{suite: s}
	for side := range c.sides {
		l, err := newLab(ctx, s)
		if err != nil {
			return err
		}
		defer l.close()
		if err := l.subscribeStored(ctx); err != nil {
			return err
		}
		c.sides[side].lab = l
	}
	stored := &Stored{Deliveries: s.config.Stored, Rounds: s.config.Rounds}
	full := c.sides[sideFull].lab
	begin := time.Now()
	if err := full.fill(ctx, stored.Deliveries); err != nil {
		return err
	}
	stored.FillSeconds = time.Since(begin).Seconds()
	s.say("%d deliveries stored in %.0f s", stored.Deliveries, stored.FillSeconds)
	for round := range s.config.Rounds {
		if err := c.round(ctx, round); err != nil {
			return err
		}
	}
	c.put(stored)
	var err error
	if stored.Lists, err = full.timeLists(ctx); err != nil {
		return err
	}
	s.report.Stored = stored
	return nil
}

// subscribeStored makes an endpoint to drain to and one that notes latencies.
func (l *lab) subscribeStored(ctx context.Context) error {
	if err := l.subscribe(ctx, "one", 1, 1, "/one", rawGoroutines); err != nil {
		return err
	}
	return l.subscribe(ctx, "timed", 1, 1, pathTimed, rawGoroutines)
}

// settleSQL does at once what autovacuum and the checkpointer would do to fresh rows
// in the minutes that follow, while something else is measured.
var settleSQL = []string{`VACUUM posthorn.outbox, posthorn.routings, posthorn.deliveries, posthorn.attempts`, `CHECKPOINT`}

// fill stores so many delivered events of past days.
func (l *lab) fill(ctx context.Context, deliveries int) error {
	if err := volume.Fill(ctx, l.pool, volume.Options{Deliveries: deliveries}); err != nil {
		return err
	}
	for _, sql := range settleSQL {
		if _, err := l.pool.Exec(ctx, sql); err != nil {
			return fmt.Errorf("settle what was stored: %w", err)
		}
	}
	return nil
}

// The sides of a comparison.
const (
	sideEmpty = iota
	sideFull
)

// comparison is of two databases that take turns.
type comparison struct {
	suite *suite
	sides [2]side
}

// side is one of the two, with what was measured of it so far: a figure a round, and
// the latencies of each rate with those of all rounds together.
type side struct {
	lab       *lab
	perSecond []float64
	cpu       []CPU
	latency   [][]Latency // by rate
	pooled    [][]float64 // by rate, in milliseconds
}

// round measures both, the full one first in every other round.
func (c *comparison) round(ctx context.Context, round int) error {
	for turn := range c.sides {
		if err := c.sides[(turn+round)%2].turn(ctx); err != nil {
			return err
		}
	}
	empty, full := c.sides[sideEmpty], c.sides[sideFull]
	slow := len(latencyRates) - 1
	c.suite.say("round %d of %d: empty %.0f/s, p99 %.1f ms; full %.0f/s, p99 %.1f ms", round+1, c.suite.config.Rounds,
		empty.perSecond[round], empty.latency[slow][round].P99MS, full.perSecond[round], full.latency[slow][round].P99MS)
	return nil
}

// turn measures with a sender that lives no longer than the turn: two of them, though
// one had nothing to do, would disturb each other.
func (s *side) turn(ctx context.Context) error {
	if err := s.lab.startSender(ctx); err != nil {
		return err
	}
	defer s.lab.stopSender()
	config := s.lab.suite.config
	waits := load{name: "one", events: config.Events, tenants: 1, perEvent: 1, payload: payloadOf(payloadBytes)}
	few := waits
	few.events = max(1, waits.events/storedWarmUpShare)
	if _, err := s.lab.drain(ctx, few); err != nil {
		return err
	}
	done, err := s.lab.drain(ctx, waits)
	if err != nil {
		return err
	}
	s.perSecond, s.cpu = append(s.perSecond, done.perSecond), append(s.cpu, done.cpu)
	if s.latency == nil {
		s.latency, s.pooled = make([][]Latency, len(latencyRates)), make([][]float64, len(latencyRates))
	}
	during := config.LatencyFor / storedLatencyShare
	for i, rate := range latencyRates {
		if _, err := s.lab.latency(ctx, rate, min(warmUpFor, during)/storedWarmUpShare); err != nil {
			return err
		}
		measured, err := s.lab.latency(ctx, rate, during)
		if err != nil {
			return err
		}
		each, err := s.lab.suite.receiver.latencies(ctx)
		if err != nil {
			return err
		}
		s.latency[i], s.pooled[i] = append(s.latency[i], measured), append(s.pooled[i], each...)
	}
	return nil
}

// put puts what was measured into the report.
func (c *comparison) put(s *Stored) {
	empty, full := &c.sides[sideEmpty], &c.sides[sideFull]
	var ratios []float64
	for round, perSecond := range full.perSecond {
		ratios = append(ratios, perSecond/empty.perSecond[round])
	}
	s.EmptyPerSecond, s.FullPerSecond = median(empty.perSecond), median(full.perSecond)
	s.Ratio, s.LowestRatio, s.HighestRatio = median(ratios), slices.Min(ratios), slices.Max(ratios)
	s.EmptyCPU, s.FullCPU = medianCPU(empty.cpu), medianCPU(full.cpu)
	for i, rate := range latencyRates {
		s.Latency = append(s.Latency, StoredLatency{PerSecond: rate, Empty: empty.percentiles(i), Full: full.percentiles(i)})
	}
}

func (s *side) percentiles(rate int) Percentiles {
	return Percentiles{
		P50MS:       median(collect(s.latency[rate], func(l Latency) float64 { return l.P50MS })),
		P99MS:       median(collect(s.latency[rate], func(l Latency) float64 { return l.P99MS })),
		Events:      len(s.pooled[rate]),
		PooledP50MS: quantile(s.pooled[rate], 0.5),
		PooledP99MS: quantile(s.pooled[rate], 0.99),
	}
}
