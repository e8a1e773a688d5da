package dispatcher

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Ledger is the account of everything that is stored: each committed event times
// each endpoint that it matched is one delivery in exactly one state.
type Ledger struct {
	// Events is how many events are committed.
	Events int64
	// Unrouted is how many of them wait for a relay.
	Unrouted int64
	// Routed is how many were matched against the endpoints.
	Routed int64
	// NoMatch is how many of the routed ones no endpoint wanted.
	NoMatch int64
	// Expected is how many deliveries the routed events matched.
	Expected int64
	// Deliveries counts them by status; every status is there.
	Deliveries map[Status]int64
	// HeldBy says why the held ones are.
	HeldBy HeldBy
	// DeadLetters is how many dead letters are open.
	DeadLetters int64
	// Unaccounted is the sum of what must not be: events neither pending nor
	// routed, matches without a delivery or deliveries without a match, and the
	// Unowned. It must be 0.
	Unaccounted int64
	// Unowned is how many unfinished deliveries belong to no live River job.
	Unowned int64
	// OldestUnsent is the age of the oldest event that is not routed or has an
	// unfinished delivery; 0 when there is none.
	OldestUnsent time.Duration
	// AuditedTo is where the minutes end that the audit has accounted for. What is
	// younger was counted for this reading. It is the zero time in a deep reading.
	AuditedTo time.Time
}

// HeldBy counts held deliveries by what holds them.
type HeldBy struct {
	// Paused wait for a person to resume the endpoint that a person paused.
	Paused int64
	// Disabled wait for a person to resume the endpoint that Posthorn disabled.
	Disabled int64
	// Other belong to an endpoint that is enabled again, or deleted. They are let go
	// of within moments; those that stay are worth a look.
	Other int64
}

func newLedger() *Ledger {
	l := &Ledger{Deliveries: map[Status]int64{}}
	for _, s := range Statuses {
		l.Deliveries[s] = 0
	}
	return l
}

// total is how many deliveries the ledger has counted so far.
func (l *Ledger) total() (n int64) {
	for _, of := range l.Deliveries {
		n += of
	}
	return n
}

// Days are dropped with this lock on the tables, in this order. Taken before the
// snapshot, it keeps a day from vanishing between two statements.
const keepDaysSQL = `LOCK TABLE ONLY posthorn.outbox, ONLY posthorn.routings, ONLY posthorn.deliveries IN ACCESS SHARE MODE`

// inSnapshot runs f in a transaction that sees one moment and changes nothing.
func inSnapshot(ctx context.Context, pool *pgxpool.Pool, f func(tx pgx.Tx) error) error {
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, pool, options, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, keepDaysSQL); err != nil {
			return err
		}
		return f(tx)
	})
}

// moment is when a reading takes place, and how far audit and sweep were then.
type moment struct{ auditedTo, sweptTo, now time.Time }

// ahead is beyond any clock's present: it keeps the future's empty partitions out.
const ahead = time.Hour

const momentSQL = `
	SELECT s.audited_to, w.swept_to, now() FROM posthorn.ledger_state s, posthorn.sweep_state w`

// ReadLedger takes the account at one moment. The minutes that the audit has
// accounted for are added up; what is younger is counted event by event, and
// states and owners by indexes of what is not delivered. So its cost grows with
// the last minutes' events and with what waits, not with what is stored.
//
// Damage done by hand to what the audit has accounted for is seen by
// ReadLedgerDeep alone; jobs that are lost are seen here too.
func ReadLedger(ctx context.Context, pool *pgxpool.Pool) (Ledger, error) {
	l := newLedger()
	err := inSnapshot(ctx, pool, func(tx pgx.Tx) error { return l.read(ctx, tx) })
	if err != nil {
		return Ledger{}, fmt.Errorf("read ledger: %w", err)
	}
	return *l, nil
}

func (l *Ledger) read(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, planLedgerSQL); err != nil {
		return err
	}
	var at moment
	if err := tx.QueryRow(ctx, momentSQL).Scan(&at.auditedTo, &at.sweptTo, &at.now); err != nil {
		return err
	}
	l.AuditedTo = at.auditedTo
	if err := l.addEvents(ctx, tx, at); err != nil {
		return err
	}
	return l.addStates(ctx, tx, at)
}
