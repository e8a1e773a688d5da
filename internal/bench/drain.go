package bench

import (
	"context"
	"fmt"
	"time"
)

// work is what waits to be delivered once it is committed, and who delivers it.
type work struct {
	name       string
	deliveries int64
	meter      meter
	commit     func(ctx context.Context) error
	recorded   func(ctx context.Context) (int64, error) // how many have been, ever
}

// drained is how fast waiting work was delivered, counted from its commit.
type drained struct {
	perSecond float64       // until the last was received
	recorded  time.Duration // until the last was recorded
	cpu       CPU           // until then
}

// drainPatience is how long a drain may take at most, and longerPer how much longer
// for each delivery: no more than a bound on waiting for what never comes.
const (
	drainPatience = 2 * time.Minute
	longerPer     = 2 * time.Millisecond
)

// drain commits the work at once, so that it waits, and times the rest.
func (s *suite) drain(ctx context.Context, w work) (drained, error) {
	ctx, cancel := context.WithTimeout(ctx, drainPatience+time.Duration(w.deliveries)*longerPer)
	defer cancel()
	if err := s.receiver.reset(ctx); err != nil {
		return drained{}, err
	}
	already, err := w.recorded(ctx)
	if err != nil {
		return drained{}, err
	}
	if err := w.commit(ctx); err != nil {
		return drained{}, fmt.Errorf("commit the events: %w", err)
	}
	before := w.meter.read()
	begin := time.Now()
	last, err := s.receiver.await(ctx, w.deliveries, countReceived, func(count int64) {
		s.say("%s: %d of %d received", w.name, count, w.deliveries)
	})
	if err != nil {
		return drained{}, err
	}
	ask := time.NewTicker(askEvery)
	defer ask.Stop()
	for count := int64(0); count < already+w.deliveries; <-ask.C {
		if count, err = w.recorded(ctx); err != nil {
			return drained{}, fmt.Errorf("%d of %d recorded: %w", count-already, w.deliveries, err)
		}
	}
	return drained{
		perSecond: float64(w.deliveries) / time.Unix(0, last.LastAt).Sub(begin).Seconds(),
		recorded:  time.Since(begin),
		cpu:       w.meter.read().per(w.deliveries, before),
	}, nil
}

// drain has the lab's sender deliver the load.
func (l *lab) drain(ctx context.Context, load load) (drained, error) {
	return l.suite.drain(ctx, l.work(load))
}

// load is events that wait.
type load struct {
	name     string // of the tenants, as subscribe names them
	events   int
	tenants  int // among whom the events go round
	perEvent int // endpoints that each event goes to
	payload  string
}

const (
	commitLoadSQL = `INSERT INTO posthorn.outbox (tenant_id, event_type, payload)
		SELECT $1::text || '-' || i % $2::int, 'bench.event', $3::text::json FROM generate_series(0, $4::int - 1) i`
	// Of the last minutes only: a lab may hold millions of older ones.
	recordedSQL = `SELECT count(*) FROM posthorn.deliveries
		WHERE status = 'delivered' AND id >= posthorn.uuid_at($1)`
)

// work makes the load the lab's sender's.
func (l *lab) work(load load) work {
	since := time.Now().Add(-time.Minute) // before every delivery of it, should clocks differ
	return work{
		name: load.name, deliveries: int64(load.events * load.perEvent), meter: l.meter(),
		commit: func(ctx context.Context) error {
			_, err := l.pool.Exec(ctx, commitLoadSQL, load.name, load.tenants, load.payload, load.events)
			return err
		},
		recorded: func(ctx context.Context) (n int64, err error) {
			err = l.pool.QueryRow(ctx, recordedSQL, since).Scan(&n)
			return n, err
		},
	}
}
