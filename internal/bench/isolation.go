package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// Isolation is how the healthy endpoints fared beside others.
type Isolation struct {
	// Case says what the others were.
	Case string
	// Healthy and Endpoints are how many endpoints were healthy, of how many.
	Healthy, Endpoints int
	// P50, P99 and Max are from commit to received, at the healthy ones.
	P50, P99, Max time.Duration
}

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
	{name: "10 healthy, another tenant dumps 100,000 events", healthy: 10, dump: 100_000},
	{name: "10 healthy, another hangs in the middle of 30,000", healthy: 10, dump: 30_000, dumpTo: "/tires"},
	{name: "100 healthy", healthy: 100},
	{name: "90 of 100 hang for 30 s", healthy: 10, hang: 90},
}

// RunIsolation measures the cases whose names hold the given text for the given time,
// one after the other, each on a database of its own.
func RunIsolation(ctx context.Context, c Config, named string, each time.Duration) ([]Isolation, error) {
	c = c.withDefaults()
	receiver, err := startReceiver(ctx, c.Executable)
	if err != nil {
		return nil, err
	}
	defer receiver.stop()
	var all []Isolation
	for _, kind := range isolationCases {
		if !strings.Contains(kind.name, named) {
			continue
		}
		measured, err := runIsolation(ctx, c, receiver, kind, each)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kind.name, err)
		}
		fmt.Fprintf(c.Progress, "%s: p50 %s, p99 %s, max %s\n", kind.name, measured.P50, measured.P99, measured.Max)
		all = append(all, measured)
	}
	return all, nil
}

func runIsolation(ctx context.Context, c Config, r *receiver, kind isolationCase, each time.Duration) (Isolation, error) {
	lab, err := newLab(ctx, c)
	if err != nil {
		return Isolation{}, err
	}
	defer lab.close()
	if err := r.reset(ctx); err != nil {
		return Isolation{}, err
	}
	n := kind.healthy + kind.hang + kind.failing
	tenants := make([]string, n)
	for i := range n {
		path := "/timed"
		switch {
		case i >= kind.healthy+kind.hang:
			path = "/fail"
		case i >= kind.healthy:
			path = "/hang"
		}
		tenants[i] = fmt.Sprintf("tenant-%d", i)
		if err := lab.subscribe(ctx, tenants[i], r.url+path); err != nil {
			return Isolation{}, err
		}
	}
	if kind.dump > 0 {
		if err := lab.subscribe(ctx, "dump", r.url+kind.dumpTo); err != nil {
			return Isolation{}, err
		}
		payload := `{"data":"` + strings.Repeat("x", payloadBytes-11) + `"}`
		if _, err := lab.pool.Exec(ctx, strings.Replace(manyEventsSQL, "'bench',", "'dump',", 1), payload, kind.dump); err != nil {
			return Isolation{}, err
		}
	}
	sent, err := lab.publishSteadily(ctx, tenants, kind.healthy, each)
	if err != nil {
		return Isolation{}, err
	}
	t, err := r.awaitTimed(ctx, sent)
	return Isolation{Case: kind.name, Healthy: kind.healthy, Endpoints: n, P50: t.P50, P99: t.P99, Max: t.Max}, err
}

func (l *lab) subscribe(ctx context.Context, tenant, url string) error {
	_, _, err := l.store.Create(ctx, subscriptions.Draft{TenantID: tenant, URL: url, EventTypes: []string{"*"}})
	return err
}

// publishers is how many connections commit events side by side.
const publishers = 4

// publishSteadily commits ten events a second for each tenant, open loop, and returns
// how many that were for the first healthy ones.
func (l *lab) publishSteadily(ctx context.Context, tenants []string, healthy int, during time.Duration) (int64, error) {
	begin := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	rounds := int(during / (100 * time.Millisecond))
	for p := range publishers {
		group.Go(func() error {
			for round := range rounds {
				for i := p; i < len(tenants); i += publishers {
					due := begin.Add(100 * time.Millisecond * time.Duration(round*len(tenants)+i) / time.Duration(len(tenants)))
					if wait := time.Until(due); wait > 0 {
						select {
						case <-ctx.Done():
							return ctx.Err()
						case <-time.After(wait):
						}
					}
					if err := l.publishTo(ctx, tenants[i]); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	return int64(rounds * healthy), group.Wait()
}

// publishTo commits an event that says when its commit was asked for.
func (l *lab) publishTo(ctx context.Context, tenant string) error {
	return pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		payload := fmt.Sprintf(`{"sent_at":%d,"data":%q}`, time.Now().UnixNano(), strings.Repeat("x", payloadBytes-45))
		_, err := outbox.Publish(ctx, tx, outbox.Event{TenantID: tenant, Type: "bench.timed", Payload: json.RawMessage(payload)})
		return err
	})
}

// awaitTimed waits until n timed requests have been received.
func (r *receiver) awaitTimed(ctx context.Context, n int64) (tally, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		t, err := r.tally(ctx)
		if err != nil || t.Timed >= n {
			return t, err
		}
		select {
		case <-ctx.Done():
			return t, fmt.Errorf("%d of %d received: %w", t.Timed, n, ctx.Err())
		case <-tick.C:
		}
	}
}
