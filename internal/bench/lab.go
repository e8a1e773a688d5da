package bench

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/dispatcher"
	"github.com/posthorn/posthorn/internal/devdb"
	"github.com/posthorn/posthorn/internal/netguard"
	"github.com/posthorn/posthorn/migrations"
	"github.com/posthorn/posthorn/subscriptions"
)

// lab is a private PostgreSQL with a dispatcher on it.
type lab struct {
	config         Config
	db             *devdb.Server
	pool           *pgxpool.Pool
	store          *subscriptions.Store
	stopDispatcher func()
}

func newLab(ctx context.Context, c Config) (*lab, error) {
	db, err := devdb.Start(ctx, devdb.Config{Durable: true, Logger: c.Logger})
	if err != nil {
		return nil, err
	}
	l := &lab{config: c, db: db}
	if err := l.open(ctx); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *lab) open(ctx context.Context) error {
	if err := migrations.Up(ctx, l.db.URL()); err != nil {
		return err
	}
	config, err := pgxpool.ParseConfig(l.db.URL())
	if err != nil {
		return err
	}
	config.MaxConns = 20 // as in serve
	if l.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return err
	}
	keyset, err := subscriptions.KeptKeyset(ctx, l.pool)
	if err != nil {
		return err
	}
	keys, err := subscriptions.NewKeyring(keyset)
	if err != nil {
		return err
	}
	l.store = subscriptions.NewStore(l.pool, keys, loopback)
	d, err := dispatcher.New(dispatcher.Config{
		Pool: l.pool, Directory: subscriptions.NewDirectory(keys), Guard: netguard.NewGuard(loopback), Logger: l.config.Logger,
	})
	if err != nil {
		return err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- d.Run(running) }()
	l.stopDispatcher = func() {
		cancel()
		if err := <-done; err != nil {
			l.config.Logger.Error("the dispatcher's end", "error", err)
		}
	}
	return nil
}

func (l *lab) close() {
	if l.stopDispatcher != nil {
		l.stopDispatcher()
	}
	if l.pool != nil {
		l.pool.Close()
	}
	if err := l.db.Stop(); err != nil {
		l.config.Logger.Error("the database's end", "error", err)
	}
}

// endpoints registers the receiver n times, for events of the tenant.
func (l *lab) endpoints(ctx context.Context, tenant, url string, n int) (remove func() error, err error) {
	var ids []subscriptions.EndpointID
	for range n {
		e, _, err := l.store.Create(ctx, subscriptions.Draft{TenantID: tenant, URL: url, EventTypes: []string{"*"},
			MaxInFlight: rawGoroutines}) // as many under way as the ceiling has
		if err != nil {
			return nil, err
		}
		ids = append(ids, e.ID)
	}
	return func() error {
		for _, id := range ids {
			if err := l.store.Delete(ctx, subscriptions.Scope{}, id); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// drained is how fast waiting events were delivered.
type drained struct {
	perSecond float64
	recorded  time.Duration
}

const manyEventsSQL = `INSERT INTO posthorn.outbox (tenant_id, event_type, payload)
	SELECT 'bench', 'bench.event', $1::text::json FROM generate_series(1, $2)`

const recordedSQL = `SELECT count(*) FROM posthorn.deliveries WHERE status = 'delivered'`

// drain commits the events at once, so that they wait, and times the rest.
func (l *lab) drain(ctx context.Context, r *receiver) (drained, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if err := r.reset(ctx); err != nil {
		return drained{}, err
	}
	remove, err := l.endpoints(ctx, "bench", r.url, l.config.Endpoints)
	if err != nil {
		return drained{}, err
	}
	var before int64
	if err := l.pool.QueryRow(ctx, recordedSQL).Scan(&before); err != nil {
		return drained{}, err
	}
	payload := `{"data":"` + strings.Repeat("x", payloadBytes-11) + `"}`
	if _, err := l.pool.Exec(ctx, manyEventsSQL, payload, l.config.Events); err != nil {
		return drained{}, fmt.Errorf("commit the events: %w", err)
	}
	begin := time.Now()
	n := int64(l.config.Events * l.config.Endpoints)
	received, err := r.await(ctx, n)
	if err != nil {
		return drained{}, err
	}
	for count := int64(0); count < before+n; {
		if err := l.pool.QueryRow(ctx, recordedSQL).Scan(&count); err != nil {
			return drained{}, err
		}
	}
	return drained{float64(n) / received.Sub(begin).Seconds(), time.Since(begin)}, remove()
}

// latency publishes 100 events a second, each in its transaction, open loop.
func (l *lab) latency(ctx context.Context, r *receiver, during time.Duration) (p50, p99 time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, during+time.Minute)
	defer cancel()
	if err := r.reset(ctx); err != nil {
		return 0, 0, err
	}
	remove, err := l.endpoints(ctx, "timed", r.url+"/timed", 1)
	if err != nil {
		return 0, 0, err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var sent int64
	for end := time.Now().Add(during); time.Now().Before(end); sent++ {
		select {
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		case <-tick.C:
		}
		if err := l.publishTo(ctx, "timed"); err != nil {
			return 0, 0, err
		}
	}
	if _, err := r.await(ctx, sent); err != nil {
		return 0, 0, err
	}
	t, err := r.tally(ctx)
	if err != nil {
		return 0, 0, err
	}
	return t.P50, t.P99, remove()
}
