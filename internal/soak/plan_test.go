package soak

import (
	"reflect"
	"testing"
	"time"
)

func TestThePlanComesFromTheSeedAlone(t *testing.T) {
	t.Parallel()
	for _, duration := range []time.Duration{0, 2 * time.Minute} {
		p := Config{Duration: duration}.pace()
		if !reflect.DeepEqual(newPlan(17, p), newPlan(17, p)) {
			t.Errorf("%s: the same seed gives two plans", duration)
		}
		if reflect.DeepEqual(newPlan(17, p), newPlan(18, p)) {
			t.Errorf("%s: two seeds give the same plan", duration)
		}
	}
}

func TestEveryPlanHasEveryFault(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		for _, duration := range []time.Duration{0, 2 * time.Minute} {
			plan := newPlan(seed, Config{Duration: duration}.pace())
			seen := map[FaultKind]bool{}
			for _, f := range append(plan.Service, plan.Receivers...) {
				seen[f.Kind] = true
			}
			if len(seen) != len(serviceFaults)+len(receiverFaults) {
				t.Errorf("seed %d, %s: only %v", seed, duration, seen)
			}
			if plan.Span < duration || duration > 0 && plan.Span > duration+30*time.Second || duration == 0 && plan.Span > 30*time.Second {
				t.Errorf("seed %d, %s: the faults last %s", seed, duration, plan.Span)
			}
		}
	}
}

func TestProducersDoALittleOfEverything(t *testing.T) {
	t.Parallel()
	all, count := 0, map[string]int{}
	seqs := map[int64]bool{}
	for _, purchases := range newPlan(1, Config{Duration: 5 * time.Minute}.pace()).Producers {
		for _, p := range purchases {
			all++
			for what, is := range map[string]bool{"rolled back": p.RollBack, "hung up": p.HangUp, "several": len(p.Steps) > 1} {
				if is {
					count[what]++
				}
			}
			for _, s := range p.Steps {
				if seqs[s.Seq] {
					t.Fatalf("%d comes twice", s.Seq)
				}
				seqs[s.Seq] = true
				for what, is := range map[string]bool{"insert": s.Insert, "ordered": s.OrderingKey != "", "idempotent": s.IdempotencyKey != "",
					"savepoint": s.Savepoint == savepointReleased, "savepoint rolled back": s.Savepoint == savepointRolledBack, "large": s.Padding > 1000} {
					if is {
						count[what]++
					}
				}
			}
		}
	}
	for what, share := range map[string]float64{"rolled back": 0.2, "hung up": 1. / 30, "several": 0.4, "insert": 0.7,
		"ordered": 0.56, "idempotent": 0.28, "savepoint": 0.14, "savepoint rolled back": 0.14, "large": 0.14} {
		if got := float64(count[what]) / float64(all); got < share*0.8 || got > share*1.25 {
			t.Errorf("%s: %.3f of the transactions", what, got)
		}
	}
}
