package dispatcher

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/subscriptions"
)

// rateLimiter hands out the moments at which requests to endpoints with a rate
// limit may begin. The database gives each node slots of its own, one after the
// other, so that all nodes together keep the limit. It is safe for concurrent use.
//
// The bound: a slot is used no earlier than its time and at most slotLife later,
// so in any second at most 1.25 × the rate + 1 requests begin.
type rateLimiter struct {
	pool   *pgxpool.Pool
	logger *slog.Logger
	// done ends all waiting, at the end of the process.
	done chan struct{}

	mu         sync.Mutex
	byEndpoint map[subscriptions.EndpointID]*slots
}

const (
	// slotLife is how late a slot may still be used.
	slotLife = 250 * time.Millisecond
	// slotsAhead is how much time's slots a node takes at once, at most.
	slotsAhead = 250 * time.Millisecond
)

func newRateLimiter(pool *pgxpool.Pool, logger *slog.Logger) *rateLimiter {
	return &rateLimiter{pool: pool, logger: logger, done: make(chan struct{}), byEndpoint: map[subscriptions.EndpointID]*slots{}}
}

// slots are the moments that an endpoint's limit leaves this node.
type slots struct {
	mu   sync.Mutex
	next time.Time // by this process's clock
	gap  time.Duration
	left int
}

// wait waits for the endpoint's next slot and takes it; wanted is how many this
// node could use soon. It returns false when the process ends before.
func (r *rateLimiter) wait(id subscriptions.EndpointID, perSecond float64, wanted int) bool {
	r.mu.Lock()
	s := r.byEndpoint[id]
	if s == nil {
		s = &slots{}
		r.byEndpoint[id] = s
	}
	r.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock() // the others wait for later slots anyway
	for {
		select {
		case <-r.done:
			return false
		default:
		}
		at, ok := s.take(time.Now())
		if ok {
			return r.sleep(time.Until(at))
		}
		if err := r.lease(id, s, perSecond, wanted); err != nil {
			r.logger.Warn("the rate limit can't be read; its endpoint waits", "endpoint", id, "error", err)
			if !r.sleep(500 * time.Millisecond) {
				return false
			}
		}
	}
}

// take gives the next slot whose time has not passed.
func (s *slots) take(now time.Time) (time.Time, bool) {
	for s.left > 0 {
		at := s.next
		s.next = s.next.Add(s.gap)
		s.left--
		if now.Sub(at) <= slotLife {
			return at, true
		}
	}
	return time.Time{}, false
}

func (r *rateLimiter) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.done:
		return false
	}
}

// The slots begin when those handed out before end, and at the earliest now.
const leaseSlotsSQL = `
	INSERT INTO posthorn.endpoint_rates AS r (endpoint_id, next_slot) VALUES ($1, clock_timestamp() + $2::interval)
	ON CONFLICT (endpoint_id) DO UPDATE SET next_slot = greatest(r.next_slot, clock_timestamp()) + $2::interval
	RETURNING extract(epoch FROM r.next_slot - $2::interval - clock_timestamp())::float8`

// lease takes slots from the database: as many as are wanted, for a short while.
func (r *rateLimiter) lease(id subscriptions.EndpointID, s *slots, perSecond float64, wanted int) error {
	n := max(1, min(wanted, int(perSecond*slotsAhead.Seconds())))
	gap := time.Duration(float64(time.Second) / perSecond)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-r.done:
			cancel()
		case <-stop:
		}
	}()
	var begin float64
	if err := r.pool.QueryRow(ctx, leaseSlotsSQL, id, time.Duration(n)*gap).Scan(&begin); err != nil {
		return fmt.Errorf("lease %d slots of %s: %w", n, id, err)
	}
	// After the answer: later than it was by the way back, never earlier.
	s.next = time.Now().Add(time.Duration(begin * float64(time.Second)))
	s.gap, s.left = gap, n
	return nil
}

// forget drops what is known of an endpoint that this node sends nothing to.
func (r *rateLimiter) forget(id subscriptions.EndpointID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byEndpoint, id)
}
