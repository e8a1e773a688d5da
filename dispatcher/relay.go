package dispatcher

// One event, five files:
//
//	  outbox/publish.go         a producer's transaction inserts the event
//	> dispatcher/relay.go       claims it, writes its deliveries and their River jobs
//	  subscriptions/match.go    decides which endpoints want it
//	  dispatcher/sender.go      signs it and POSTs it
//	  dispatcher/recorder.go    commits what came of it

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"go.opentelemetry.io/otel/attribute"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// relay turns committed events into deliveries. It is one goroutine; relays of
// other nodes work side by side.
type relay struct {
	pool      *pgxpool.Pool
	jobs      *river.Client[pgx.Tx]
	directory *subscriptions.Directory
	lanes     *lanes
	feeder    *feeder
	healths   *healths
	node      string
	clock     *clock
	lease     time.Duration
	noHandoff bool
	logger    *slog.Logger
	telemetry *telemetry
	reaching  reaching

	fanOut float64       // moving average of deliveries per event
	more   bool          // the last claim was full: there is no need to look first
	turnAt time.Time     // when it was last looked whether the tenants should take turns
	turnIn time.Duration // after which that is done again

	rows      batchRows
	claimed   int         // events since the last vacuum
	vacuuming atomic.Bool // one is under way
}

const (
	maxClaim           = 1000   // events in one transaction
	maxClaimDeliveries = 10_000 // deliveries in one transaction, but for the first event's
)

// How often the tenants take turns while more is pending than one claim takes: so
// long at most an event waits behind another tenant's heap. While there is one tenant
// only, it is looked less often whether there are several.
const (
	minTurnIn = 100 * time.Millisecond
	maxTurnIn = 400 * time.Millisecond
)

// transactionTimeout bounds the dispatcher's transactions, so that what a hanging
// connection holds comes free; well below the sweep's grace.
const transactionTimeout = 20 * time.Second

// The pauses between looks at an empty pending table: short while events flow,
// longer the longer none came. A NOTIFY in the producer's transaction would save
// the looks, and have the producers' commits queue for one lock.
const (
	minPause = 2 * time.Millisecond
	maxPause = 50 * time.Millisecond
	// pauseGrowth makes the pause a fixed part of the time without events.
	pauseGrowth = 100
)

// run relays until ctx is done.
func (r *relay) run(ctx context.Context) {
	quietSince := time.Now()
	for ctx.Err() == nil {
		if !r.waitForRoom(ctx) {
			return
		}
		n, err := r.step(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && passing(err):
			pause(ctx, minPause)
		case err != nil:
			r.logger.Error("the relay will try again", "error", err)
			pause(ctx, time.Second)
		case n > 0:
			quietSince = time.Now()
		default:
			pause(ctx, min(maxPause, max(minPause, time.Since(quietSince)/pauseGrowth)))
		}
	}
}

// passing reports whether a transaction only came across another one, so that it may
// be tried again at once: a serialization failure, a deadlock, a backlog that ended.
func passing(err error) bool {
	var pg *pgconn.PgError
	return errors.Is(err, errBacklogMoved) || errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01")
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// waitForRoom waits until the process can take on a fair number of deliveries:
// the backpressure from the receivers to the outbox.
func (r *relay) waitForRoom(ctx context.Context) bool {
	for r.lanes.room() < r.lanes.maxInHand/4 {
		select {
		case <-ctx.Done():
			return false
		case <-r.lanes.freed:
		}
	}
	return true
}

const peekSQL = `SELECT 1 FROM posthorn.outbox_pending ORDER BY seq LIMIT 1`

// peekTimeout is short: a connection that hangs must not hold up the relay for long.
const peekTimeout = 5 * time.Second

// peek looks whether there is anything to claim, without a transaction.
func (r *relay) peek(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, peekTimeout)
	defer cancel()
	var one int
	err := r.pool.QueryRow(ctx, peekSQL).Scan(&one)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for events: %w", err)
	}
	return true, nil
}

// step routes one batch and returns how many events it had.
func (r *relay) step(ctx context.Context) (int, error) {
	if !r.more {
		if some, err := r.peek(ctx); !some {
			return 0, err
		}
	}
	ctx, span := r.telemetry.startBatch(ctx)
	defer span.End()
	var b *batch
	txCtx, cancel := context.WithTimeout(ctx, transactionTimeout)
	defer cancel()
	// READ COMMITTED, whatever the database's default: Refresh must see more than the claim did.
	err := pgx.BeginTxFunc(txCtx, r.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) (err error) {
		if b, err = r.route(txCtx, tx); err != nil || b == nil {
			return err
		}
		r.reaching.at(relayClaimed)
		return nil
	})
	if err != nil || b == nil {
		b.abandon(r.lanes)
		return 0, err
	}
	r.reaching.at(relayCommitted)
	b.handOff(r.lanes, r.lease)
	r.feeder.poke(b.backlogged()...)
	span.SetAttributes(attribute.Int("posthorn.batch.events", b.events), attribute.Int("posthorn.batch.deliveries", b.deliveries))
	r.telemetry.routed.Add(ctx, int64(b.events))
	r.vacuum(ctx, b.events)
	r.fanOut += (float64(b.deliveries)/float64(b.events) - r.fanOut) / 4
	return b.events, nil
}

// route claims, matches and writes, all in tx. It returns nil when nothing was
// there to claim. A batch is returned with an error too, for abandon.
func (r *relay) route(ctx context.Context, tx pgx.Tx) (*batch, error) {
	room := min(maxClaimDeliveries, r.lanes.room())
	options := outbox.ClaimOptions{Limit: r.claimLimit(room), MaxPayload: maxKeptPayload}
	var err error
	if options.ByTurns, err = r.takeTurns(ctx, tx); err != nil {
		return nil, err
	}
	events, missing, err := outbox.Claim(ctx, tx, options)
	if !options.ByTurns {
		r.more = len(events) == options.Limit
	}
	if len(missing) > 0 {
		r.logger.Error("pending events are not in the outbox: their partition was dropped", "events", missing)
	}
	if err != nil || len(events) == 0 {
		return nil, err
	}
	// After the claim: an endpoint committed before an event is then in sight.
	revision, err := r.directory.Refresh(ctx, tx)
	if err != nil {
		return nil, err
	}
	b := newBatch(r.clock.Now())
	var matched []*subscriptions.Subscription
	for i, e := range events {
		matched = r.directory.Match(matched[:0], e.TenantID, e.Type)
		if b.events > 0 && b.deliveries+len(matched) > room {
			if err := outbox.Unclaim(ctx, tx, events[i:]); err != nil {
				return b, err
			}
			break
		}
		b.add(e, matched)
	}
	b.nameDeliveries()
	b.direct(r.lanes, r.noHandoff)
	return b, r.write(ctx, tx, b, revision)
}

// takeTurns decides whether the tenants take turns in this claim: now and then, when
// more is pending than a claim takes, of more than one tenant.
func (r *relay) takeTurns(ctx context.Context, tx pgx.Tx) (bool, error) {
	if !r.more || time.Since(r.turnAt) < r.turnIn {
		return false, nil
	}
	several, err := outbox.SeveralTenants(ctx, tx)
	r.turnAt = time.Now()
	if several {
		r.turnIn = minTurnIn
	} else {
		r.turnIn = min(maxTurnIn, max(minTurnIn, 2*r.turnIn))
	}
	return several, err
}

// claimLimit is how many events probably become as many deliveries as there is
// room for.
func (r *relay) claimLimit(room int) int {
	return max(1, min(maxClaim, int(float64(room)/max(1, r.fanOut))))
}

// write inserts the jobs, then the deliveries that name them, and the routings.
func (r *relay) write(ctx context.Context, tx pgx.Tx, b *batch, revision int64) error {
	if err := r.giveOwners(ctx, tx, b); err != nil {
		return err
	}
	if b.inOrder > 0 {
		var first int64
		if err := tx.QueryRow(ctx, takePositionsSQL, b.inOrder).Scan(&first); err != nil {
			return fmt.Errorf("take %d positions: %w", b.inOrder, err)
		}
		b.position(first)
	}
	if err := noteLate(ctx, tx, b); err != nil {
		return err
	}
	if err := r.rows.write(ctx, tx, b, revision); err != nil {
		return fmt.Errorf("write %d deliveries: %w", b.deliveries, err)
	}
	return nil
}

// The positions lie together: who takes them holds the lock of what is in order.
const takePositionsSQL = `SELECT min(nextval('posthorn.ordering_positions')) FROM generate_series(1, $1)`

// giveOwners finds the River job that each chunk belongs to, a new one for those
// that are on their way.
func (r *relay) giveOwners(ctx context.Context, tx pgx.Tx, b *batch) error {
	var jobs []river.InsertManyParams
	var owned [][]*relayedChunk
	for _, chunks := range b.parcels() {
		jobs = append(jobs, handedOffJob(chunks, r.node, b.at.Add(r.lease)))
		owned = append(owned, chunks)
	}
	for _, c := range b.chunks {
		if c.way == toRiver {
			jobs = append(jobs, deliverJob(c.endpointID, dueNow))
			owned = append(owned, []*relayedChunk{c})
		}
	}
	ids, err := insertJobs(ctx, r.jobs, tx, jobs)
	if err != nil {
		return err
	}
	for i, chunks := range owned {
		for _, c := range chunks {
			c.jobID = ids[i]
		}
	}
	return r.giveBacklogs(ctx, tx, b)
}

// giveBacklogs adds the chunks that can't be sent now to their endpoints' backlogs.
func (r *relay) giveBacklogs(ctx context.Context, tx pgx.Tx, b *batch) error {
	endpoints := b.backlogged()
	backlogs, err := joinBacklogs(ctx, tx, r.jobs, endpoints)
	if err != nil {
		return err
	}
	for _, c := range b.chunks {
		if c.way == toBacklog {
			c.jobID = backlogs[c.endpointID]
		}
	}
	return wakeBacklogs(ctx, tx, r.healths.notHeldBack(r.directory, endpoints))
}
