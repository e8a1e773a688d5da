package soak

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// transactionPatience bounds one transaction of a producer: longer than a frozen
// network is frozen.
const transactionPatience = 6 * time.Second

// producerName is the producers' sessions' application_name.
const producerName = "soak_producer"

// businessSQL makes the producers' own tables. The counter's row lock makes the
// transactions of one ordering key commit in the order of its numbers.
const businessSQL = `
	CREATE SCHEMA soak;
	CREATE TABLE soak.counters (tenant text, ordering_key text, n bigint NOT NULL, PRIMARY KEY (tenant, ordering_key));
	CREATE TABLE soak.business (seq bigint PRIMARY KEY, event_id uuid, position bigint NOT NULL);`

const (
	countSQL = `INSERT INTO soak.counters AS c VALUES ($1, $2, 1)
		ON CONFLICT (tenant, ordering_key) DO UPDATE SET n = c.n + 1 RETURNING n`

	insertSQL = `INSERT INTO posthorn.outbox (event_type, payload, tenant_id, ordering_key, idempotency_key)
		VALUES ($1, $2::text::json, $3, nullif($4, ''), nullif($5, '')) RETURNING id::text`

	publishSQL = `SELECT posthorn.publish($1, $2::text::json, tenant_id => $3,
		ordering_key => nullif($4, ''), idempotency_key => nullif($5, ''))::text`

	recordSQL = `INSERT INTO soak.business VALUES ($1, $2::uuid, $3)`
)

// producer runs its part of the plan and keeps its own record. It is one goroutine.
type producer struct {
	url       string
	purchases []Purchase
	conn      *pgx.Conn // nil: none works
	record    []Publication
}

// run makes every purchase once, whatever comes of it. A purchase waits until the
// database can be reached, and none is repeated.
func (p *producer) run(ctx context.Context) {
	defer p.hangUp()
	for _, purchase := range p.purchases {
		pause(ctx, purchase.Wait)
		if !p.connect(ctx) {
			return
		}
		p.make(ctx, purchase)
	}
}

func (p *producer) connect(ctx context.Context) bool {
	for p.conn == nil {
		bounded, cancel := context.WithTimeout(ctx, transactionPatience)
		conn, err := pgx.Connect(bounded, p.url+"&application_name="+producerName)
		cancel()
		if err == nil {
			p.conn = conn
			return true
		}
		pause(ctx, 50*time.Millisecond)
		if ctx.Err() != nil {
			return false
		}
	}
	return true
}

func (p *producer) hangUp() {
	if p.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = p.conn.Close(ctx) // nothing is open on it
	p.conn = nil
}

// make runs one transaction and notes what is known of it.
func (p *producer) make(ctx context.Context, purchase Purchase) {
	ctx, cancel := context.WithTimeout(ctx, transactionPatience)
	defer cancel()
	made, outcome := p.transact(ctx, purchase)
	if p.conn.IsClosed() || p.conn.PgConn().TxStatus() != 'I' {
		p.hangUp()
	}
	for _, publication := range made {
		if publication.Outcome == "" {
			publication.Outcome = outcome
		}
		p.record = append(p.record, publication)
	}
}

// transact returns what was tried, and what became of the transaction. What was
// rolled back to a savepoint says so itself.
func (p *producer) transact(ctx context.Context, purchase Purchase) (made []Publication, outcome Outcome) {
	tx, err := p.conn.Begin(ctx)
	if err != nil {
		return nil, RolledBack
	}
	for _, step := range purchase.Steps {
		pause(ctx, purchase.Think)
		publication, err := publish(ctx, tx, purchase.Tenant, step)
		made = append(made, publication)
		if err != nil {
			_ = tx.Rollback(ctx) // without a commit it is rolled back anyway
			return made, RolledBack
		}
	}
	if purchase.RollBack {
		_ = tx.Rollback(ctx) // as above
		return made, RolledBack
	}
	if purchase.HangUp {
		return made, p.abandon()
	}
	err = tx.Commit(ctx)
	var refused *pgconn.PgError
	switch {
	case err == nil:
		return made, Committed
	case errors.Is(err, pgx.ErrTxCommitRollback), errors.As(err, &refused) && refused.Severity == "ERROR":
		return made, RolledBack
	}
	return made, Unknown
}

// abandon asks for the commit and resets the connection without waiting for the
// answer, as a producer does that dies at the worst moment.
func (p *producer) abandon() Outcome {
	request, err := (&pgproto3.Query{String: "COMMIT"}).Encode(nil)
	if err != nil {
		return RolledBack // nothing was sent
	}
	network := p.conn.PgConn().Conn()
	_, _ = network.Write(request) // what came of it is unknown in any case
	_ = network.Close()
	return Unknown
}

// publish makes one step, in a savepoint if it says so.
func publish(ctx context.Context, tx pgx.Tx, tenant string, s Step) (Publication, error) {
	payload := fmt.Sprintf(`{"seq":%d, "padding":"%s"}`, s.Seq, strings.Repeat("x", s.Padding))
	made := Publication{Seq: s.Seq, Tenant: tenant, EventType: s.EventType, OrderingKey: s.OrderingKey,
		IdempotencyKey: s.IdempotencyKey, PayloadHash: hash([]byte(payload))}
	if s.Savepoint == noSavepoint {
		return made, insert(ctx, tx, made, payload, s.Insert)
	}
	inner, err := tx.Begin(ctx)
	if err != nil {
		return made, err
	}
	if err := insert(ctx, inner, made, payload, s.Insert); err != nil {
		return made, err
	}
	if s.Savepoint == savepointRolledBack {
		made.Outcome = RolledBack
		return made, inner.Rollback(ctx)
	}
	return made, inner.Commit(ctx)
}

// insert writes the outbox row and the business row.
func insert(ctx context.Context, tx pgx.Tx, p Publication, payload string, plain bool) error {
	var position int64
	if p.OrderingKey != "" {
		if err := tx.QueryRow(ctx, countSQL, p.Tenant, p.OrderingKey).Scan(&position); err != nil {
			return err
		}
	}
	sql := publishSQL
	if plain {
		sql = insertSQL
	}
	var id *string
	err := tx.QueryRow(ctx, sql, p.EventType, payload, p.Tenant, p.OrderingKey, p.IdempotencyKey).Scan(&id)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) { // no row: a repeated idempotency key
		return err
	}
	_, err = tx.Exec(ctx, recordSQL, p.Seq, id, position)
	return err
}
