package bench

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/posthorn/posthorn/dispatcher"
	"github.com/posthorn/posthorn/internal/volume"
	"github.com/posthorn/posthorn/outbox"
)

// Stored is what delivering costs beside much that is stored, to what it costs in empty
// tables.
type Stored struct {
	// Deliveries is how many were stored, FillSeconds how long that took.
	Deliveries  int
	FillSeconds float64
	// EmptyPerSecond and FullPerSecond are deliveries per second from the commit of the
	// waiting events to the last one received; Throughput is the median over the rounds
	// of the second to the first.
	EmptyPerSecond, FullPerSecond, Throughput float64
	// EmptyP50, EmptyP99, FullP50 and FullP99 are from commit to received, at 100 events
	// a second: medians over the rounds.
	EmptyP50, EmptyP99, FullP50, FullP99 time.Duration
	// Lists are how long the full database took for the lists, by their filters: the
	// slowest of three.
	Lists map[string]time.Duration
}

// RunStored measures an empty database and one with so many deliveries stored, each
// with a dispatcher of its own, by turns.
func RunStored(ctx context.Context, c Config, deliveries int) (Stored, error) {
	c = c.withDefaults()
	receiver, err := startReceiver(ctx, c.Executable)
	if err != nil {
		return Stored{}, err
	}
	defer receiver.stop()
	empty, err := newLab(ctx, c)
	if err != nil {
		return Stored{}, err
	}
	defer empty.close()
	full, err := newLab(ctx, c)
	if err != nil {
		return Stored{}, err
	}
	defer full.close()
	begin := time.Now()
	if err := full.fill(ctx, deliveries); err != nil {
		return Stored{}, err
	}
	s := Stored{Deliveries: deliveries, FillSeconds: time.Since(begin).Seconds()}
	fmt.Fprintf(c.Progress, "%d deliveries stored in %.0f s\n", deliveries, s.FillSeconds)
	if err := s.compare(ctx, receiver, empty, full); err != nil {
		return Stored{}, err
	}
	s.Lists, err = full.lists(ctx)
	return s, err
}

// compare measures both by turns, the empty one first in every other round.
func (s *Stored) compare(ctx context.Context, r *receiver, empty, full *lab) error {
	var perSecond [2][]float64
	var p50, p99 [2][]float64
	var ratios []float64
	labs := [2]*lab{empty, full}
	for round := range empty.config.Rounds {
		for turn := range labs {
			which := (turn + round) % 2
			drained, err := labs[which].drainYoung(ctx, r)
			if err != nil {
				return err
			}
			half, most, err := labs[which].latency(ctx, r, empty.config.LatencyFor)
			if err != nil {
				return err
			}
			perSecond[which] = append(perSecond[which], drained)
			p50[which], p99[which] = append(p50[which], float64(half)), append(p99[which], float64(most))
		}
		ratios = append(ratios, perSecond[1][round]/perSecond[0][round])
		fmt.Fprintf(empty.config.Progress, "round %d: empty %.0f/s, p99 %s; full %.0f/s, p99 %s\n", round+1,
			perSecond[0][round], time.Duration(p99[0][round]), perSecond[1][round], time.Duration(p99[1][round]))
	}
	s.EmptyPerSecond, s.FullPerSecond, s.Throughput = median(perSecond[0]), median(perSecond[1]), median(ratios)
	s.EmptyP50, s.FullP50 = time.Duration(median(p50[0])), time.Duration(median(p50[1]))
	s.EmptyP99, s.FullP99 = time.Duration(median(p99[0])), time.Duration(median(p99[1]))
	return nil
}

// fill stores so many delivered events of past days.
func (l *lab) fill(ctx context.Context, deliveries int) error {
	return volume.Fill(ctx, l.pool, volume.Options{Deliveries: deliveries})
}

// youngSQL counts what was delivered since a moment, without a look at what was stored before.
const youngSQL = `SELECT count(*) FROM posthorn.deliveries WHERE id >= posthorn.uuid_at($1) AND status = 'delivered'`

// drainYoung is drain for a lab with much in it: it counts only what it has added.
func (l *lab) drainYoung(ctx context.Context, r *receiver) (perSecond float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if err := r.reset(ctx); err != nil {
		return 0, err
	}
	remove, err := l.endpoints(ctx, "bench", r.url, l.config.Endpoints)
	if err != nil {
		return 0, err
	}
	payload := `{"data":"` + strings.Repeat("x", payloadBytes-11) + `"}`
	before := time.Now()
	if _, err := l.pool.Exec(ctx, manyEventsSQL, payload, l.config.Events); err != nil {
		return 0, fmt.Errorf("commit the events: %w", err)
	}
	begin, n := time.Now(), int64(l.config.Events*l.config.Endpoints)
	received, err := r.await(ctx, n)
	if err != nil {
		return 0, err
	}
	for count := int64(0); count < n; {
		if err := l.pool.QueryRow(ctx, youngSQL, before).Scan(&count); err != nil {
			return 0, err
		}
	}
	return float64(n) / received.Sub(begin).Seconds(), remove()
}

// lists times the lists that find little in much, as their callers wait for them.
func (l *lab) lists(ctx context.Context) (map[string]time.Duration, error) {
	log, events := dispatcher.NewLog(l.pool), outbox.NewReader(l.pool)
	const page = 101
	deliveries := func(f dispatcher.DeliveryFilter) func() error {
		return func() error { _, _, err := log.Deliveries(ctx, f, page); return err }
	}
	took := map[string]time.Duration{}
	for name, ask := range map[string]func() error{
		"deliveries":                    deliveries(dispatcher.DeliveryFilter{}),
		"deliveries, delivered":         deliveries(dispatcher.DeliveryFilter{Status: dispatcher.Delivered}),
		"deliveries, dead":              deliveries(dispatcher.DeliveryFilter{Status: dispatcher.Dead}),
		"deliveries, pending":           deliveries(dispatcher.DeliveryFilter{Status: dispatcher.Pending}),
		"deliveries, 503":               deliveries(dispatcher.DeliveryFilter{ResponseStatus: 503}),
		"deliveries, unknown type":      deliveries(dispatcher.DeliveryFilter{EventType: "never.occurs"}),
		"deliveries, large tenant":      deliveries(dispatcher.DeliveryFilter{TenantID: volume.Big}),
		"deliveries, large tenant, 503": deliveries(dispatcher.DeliveryFilter{TenantID: volume.Big, ResponseStatus: 503}),
		"deliveries, small tenant":      deliveries(dispatcher.DeliveryFilter{TenantID: volume.Small}),
		"events":                        func() error { _, _, err := events.List(ctx, outbox.Filter{}, page); return err },
		"events, large tenant, unknown type": func() error {
			_, _, err := events.List(ctx, outbox.Filter{TenantID: volume.Big, EventType: "never.occurs"}, page)
			return err
		},
		"events, unknown type": func() error {
			_, _, err := events.List(ctx, outbox.Filter{EventType: "never.occurs"}, page)
			return err
		},
		"dead letters": func() error { _, _, err := log.DeadLetters(ctx, dispatcher.DeadLetterFilter{}, page); return err },
		"ledger":       func() error { _, err := dispatcher.ReadLedger(ctx, l.pool); return err },
	} {
		for range 3 {
			begin := time.Now()
			if err := ask(); err != nil {
				return nil, fmt.Errorf("list %s: %w", name, err)
			}
			took[name] = max(took[name], time.Since(begin))
		}
	}
	return took, nil
}
