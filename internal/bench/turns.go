package bench

import (
	"context"
	"fmt"
	"slices"
)

// contestant is a way of sending that takes turns with the raw ceiling.
type contestant struct {
	about    Case // what it is
	payload  string
	rawPosts int // of the ceiling beside it
	drain    func(ctx context.Context) (drained, error)
}

// turn is one contestant's in one round.
type turn struct {
	raw rawRun
	drained
	ratio float64
}

// takeTurns has the contestants drain one after the other, each right after the
// ceiling, round after round: what disturbs the machine disturbs them all. It returns
// a Case for each, and all the ceiling's runs.
func (s *suite) takeTurns(ctx context.Context, all []contestant) ([]Case, []rawRun, error) {
	turns := make([][]turn, len(all))
	var raws []rawRun
	for round := range s.config.Rounds {
		for i, c := range all {
			raw, err := s.runRaw(ctx, c.rawPosts, []byte(c.payload))
			if err != nil {
				return nil, nil, err
			}
			done, err := c.drain(ctx)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", c.about.Name, err)
			}
			t := turn{raw, done, done.perSecond / raw.perSecond}
			s.say("round %d of %d, %s: raw %.0f/s, this %.0f/s, ratio %.2f",
				round+1, s.config.Rounds, c.about.Name, raw.perSecond, done.perSecond, t.ratio)
			turns[i], raws = append(turns[i], t), append(raws, raw)
		}
	}
	cases := make([]Case, len(all))
	for i, c := range all {
		cases[i] = c.about.with(turns[i])
	}
	return cases, raws, nil
}

// with fills in what was measured.
func (c Case) with(turns []turn) Case {
	ratios := collect(turns, func(t turn) float64 { return t.ratio })
	c.RawPerSecond = median(collect(turns, func(t turn) float64 { return t.raw.perSecond }))
	c.DeliveriesPerSecond = median(collect(turns, func(t turn) float64 { return t.perSecond }))
	c.MegabytesPerSecond = c.DeliveriesPerSecond * float64(c.PayloadBytes) / 1e6
	c.Ratio, c.LowestRatio, c.HighestRatio = median(ratios), slices.Min(ratios), slices.Max(ratios)
	c.RecordedSeconds = median(collect(turns, func(t turn) float64 { return t.recorded.Seconds() }))
	c.CPU = medianCPU(collect(turns, func(t turn) CPU { return t.cpu }))
	return c
}
