package dispatcher

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

const (
	// watchInterval is how often a node reads the ledger for its metrics.
	watchInterval = time.Minute
	watchTimeout  = 30 * time.Second
	// watchStale is when a reading is too old to be shown: better none than an old 0.
	watchStale = 5 * time.Minute
)

// ledgerWatch reads the ledger now and then, whoever asks for metrics and however
// often, and says when it does not balance.
type ledgerWatch struct {
	pool   *pgxpool.Pool
	logger *slog.Logger

	last    atomic.Pointer[ledgerReading]
	claimed int64 // what the log has last said to be unaccounted
}

type ledgerReading struct {
	Ledger
	at time.Time
}

func (w *ledgerWatch) run(ctx context.Context) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		w.read(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// read keeps a reading, and logs when what is unaccounted has changed.
func (w *ledgerWatch) read(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	l, err := ReadLedger(bounded, w.pool)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		w.logger.Warn("the ledger could not be read", "error", err)
		return
	}
	w.last.Store(&ledgerReading{l, time.Now()})
	switch {
	case l.Unaccounted == w.claimed:
	case l.Unaccounted == 0:
		w.logger.Info("the ledger balances again")
	default:
		w.logger.Error("the ledger does not balance: see posthorn doctor", "unaccounted", l.Unaccounted, "unowned", l.Unowned)
	}
	w.claimed = l.Unaccounted
}

// observe shows the last reading in the metrics.
func (w *ledgerWatch) observe(meter metric.Meter) error {
	if meter == nil {
		return nil
	}
	unaccounted, err := meter.Int64ObservableGauge("posthorn.ledger.unaccounted", metric.WithUnit("{delivery}"),
		metric.WithDescription("What is missing from the books or too much in them; must be 0."))
	if err != nil {
		return err
	}
	deliveries, err := meter.Int64ObservableGauge("posthorn.ledger.deliveries", metric.WithUnit("{delivery}"),
		metric.WithDescription("Stored deliveries by status."))
	if err != nil {
		return err
	}
	oldest, err := meter.Float64ObservableGauge("posthorn.ledger.oldest_unsent", metric.WithUnit("s"),
		metric.WithDescription("Age of the oldest event that is not routed or has an unfinished delivery."))
	if err != nil {
		return err
	}
	byStatus := map[Status]metric.MeasurementOption{}
	for _, s := range Statuses {
		byStatus[s] = metric.WithAttributeSet(attribute.NewSet(attribute.String("status", string(s))))
	}
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		l := w.last.Load()
		if l == nil || time.Since(l.at) > watchStale {
			return nil
		}
		o.ObserveInt64(unaccounted, l.Unaccounted)
		o.ObserveFloat64(oldest, l.OldestUnsent.Seconds())
		for status, n := range l.Deliveries {
			o.ObserveInt64(deliveries, n, byStatus[status])
		}
		return nil
	}, unaccounted, deliveries, oldest)
	return err
}
