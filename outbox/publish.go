package outbox

// One event, five files:
//
//	> outbox/publish.go         a producer's transaction inserts the event
//	  dispatcher/relay.go       claims it, writes its deliveries and their River jobs
//	  subscriptions/match.go    decides which endpoints want it
//	  dispatcher/sender.go      signs it and POSTs it
//	  dispatcher/recorder.go    commits what came of it

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrInvalid is the error for an event that the database refuses: a malformed
// type, a payload that is no JSON or too large, and so on. The error that wraps
// it says what is wrong.
var ErrInvalid = errors.New("invalid event")

const publishSQL = `SELECT posthorn.publish($1, $2::text::json,
	tenant_id => $3, ordering_key => $4, idempotency_key => $5, traceparent => $6,
	occurred_at => $7, id => $8)`

// Publish inserts the event in tx and returns its id. It is sent if and when tx
// commits. For an IdempotencyKey that the tenant has used before, nothing is
// inserted and the id of the first event comes back.
//
// It returns an error for which errors.Is(err, ErrInvalid) is true when the
// event is refused. Like every failed statement that aborts tx; a caller that
// wants to go on publishes in a savepoint (tx.Begin).
func Publish(ctx context.Context, tx pgx.Tx, e Event) (EventID, error) {
	var id EventID
	err := tx.QueryRow(ctx, publishSQL, e.arguments()...).Scan(&id)
	return id, publishError(e, err)
}

// PublishSQL is Publish for a transaction of database/sql, with any driver for
// PostgreSQL.
func PublishSQL(ctx context.Context, tx *sql.Tx, e Event) (EventID, error) {
	var id EventID
	err := tx.QueryRowContext(ctx, publishSQL, e.arguments()...).Scan(&id)
	return id, publishError(e, err)
}

// arguments are publishSQL's, in types that every driver knows.
func (e Event) arguments() []any {
	tenant := e.TenantID
	if tenant == "" {
		tenant = DefaultTenant
	}
	var id any
	if v, _ := e.ID.Value(); v != nil {
		id = v
	}
	return []any{e.Type, string(e.Payload), tenant,
		orNull(e.OrderingKey), orNull(e.IdempotencyKey), orNull(e.Traceparent), timeOrNull(e.OccurredAt), id}
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func timeOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}

// publishError tells a refused event from a failing database. Every driver's
// error gives its SQLSTATE by this method.
func publishError(e Event, err error) error {
	if err == nil {
		return nil
	}
	var state interface{ SQLState() string }
	if errors.As(err, &state) {
		code := state.SQLState()
		// A day without a partition is a check_violation as well, and no fault of
		// the event's. Our checks say who speaks.
		refused := code == "23514" && strings.Contains(err.Error(), "posthorn: ")
		switch code {
		case "22P02", "22032", // not JSON
			"22021", "22P05", // bytes that are not UTF-8
			"54001": // nested deeper than PostgreSQL's stack
			refused = true
		}
		if refused {
			return fmt.Errorf("publish %.64q: %w: %w", e.Type, ErrInvalid, err)
		}
	}
	return fmt.Errorf("publish %.64q: %w", e.Type, err)
}
