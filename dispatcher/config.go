package dispatcher

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/posthorn/posthorn/internal/netguard"
	"github.com/posthorn/posthorn/subscriptions"
)

// Config is what a Dispatcher needs. Only Pool and Directory must be set.
type Config struct {
	// Pool is the database. The dispatcher holds up to twelve of its connections
	// and opens one more, a session connection, for the node's lock.
	Pool *pgxpool.Pool

	// Directory is the process's copy of the subscriptions.
	Directory *subscriptions.Directory

	// NodeName names this process among the nodes; two at once must differ.
	// Empty means a random name.
	NodeName string

	// Version stands in the user-agent header of deliveries. Empty means "dev".
	Version string

	// Guard judges every address before it is connected to. Nil means a guard of
	// the zero policy: the public internet only.
	Guard *netguard.Guard

	// Retry says when failed deliveries are attempted again. The zero value
	// means DefaultSchedule; a non-nil empty schedule means no retries.
	Retry RetryPolicy

	// AttemptTimeout bounds one attempt as a whole, from resolving the name to
	// the end of the body. Zero means 15 s.
	AttemptTimeout time.Duration

	// Breaker says when an endpoint that fails is left alone, and for how long.
	Breaker BreakerPolicy

	// Disable says when an endpoint that only fails is disabled.
	Disable DisablePolicy

	// DrainPerSecond is how many held deliveries of a resumed endpoint are sent in a
	// second, at most, and no faster than its receiver takes them. Zero means 100.
	DrainPerSecond int

	// MaxInHand bounds the deliveries that this process has taken on and not
	// recorded yet; the relay waits beyond. Zero means 8,192.
	MaxInHand int

	// NoHandoff leaves the relay's chunks to River's fetch instead of giving
	// them to this process's senders: slower and simpler. Default false.
	NoHandoff bool

	// Lease is how long a chunk belongs to the process that has it without word
	// from it; it is renewed every third of it. Zero means 30 s. It must be
	// longer than AttemptTimeout.
	Lease time.Duration

	// ReapInterval is how often dead nodes are looked for. Zero means 500 ms.
	ReapInterval time.Duration

	// SweepInterval is how often lost work is looked for. Zero means 30 s.
	SweepInterval time.Duration

	// SweepGrace is how old work must be before the sweep calls it lost; longer
	// than any transaction of the dispatcher's. Zero means 1 min.
	SweepGrace time.Duration

	// Retention is how long events, deliveries and attempts are kept, counted in
	// whole days (UTC). What is unfinished then, and open dead letters, stay with
	// their events. Zero means for ever.
	Retention time.Duration

	// ShutdownTimeout bounds how long Run waits for requests under way after its
	// context is done. Zero means AttemptTimeout + 5 s.
	ShutdownTimeout time.Duration

	// Logger takes what a person should know. Nil discards it.
	Logger *slog.Logger

	// Tracer makes spans of relay batches and attempts; nil means none.
	Tracer trace.Tracer

	// Meter makes the metrics; nil means none.
	Meter metric.Meter

	reaching reaching
}

// withDefaults fills the gaps and refuses what can't work.
func (c Config) withDefaults() (Config, error) {
	if c.Pool == nil || c.Directory == nil {
		return c, errors.New("dispatcher: Config needs a Pool and a Directory")
	}
	if c.Guard == nil {
		c.Guard = netguard.NewGuard(netguard.Policy{})
	}
	if c.Retry.Schedule == nil {
		c.Retry.Schedule = DefaultSchedule
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	orDefault(&c.Version, "dev")
	orDefault(&c.AttemptTimeout, 15*time.Second)
	orDefault(&c.DrainPerSecond, 100)
	c.Breaker = c.Breaker.withDefaults(c.AttemptTimeout)
	c.Disable = c.Disable.withDefaults()
	orDefault(&c.MaxInHand, 8192)
	orDefault(&c.Lease, 30*time.Second)
	orDefault(&c.ReapInterval, 500*time.Millisecond)
	orDefault(&c.SweepInterval, 30*time.Second)
	orDefault(&c.SweepGrace, time.Minute)
	orDefault(&c.ShutdownTimeout, c.AttemptTimeout+5*time.Second)
	orDefault(&c.NodeName, newNodeName())
	if c.Lease <= c.AttemptTimeout {
		return c, fmt.Errorf("dispatcher: a lease of %s is not longer than an attempt of %s", c.Lease, c.AttemptTimeout)
	}
	return c, nil
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
