package api_test

import (
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/dispatcher"
	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// history is an event of a tenant that one endpoint wanted and another did not,
// and whose delivery died after two attempts.
type history struct {
	tenant              string
	endpoint, unmatched subscriptions.EndpointID
	event               outbox.EventID
	delivery            dispatcher.DeliveryID
	deadLetter          dispatcher.DeadLetterID
}

// oddPayload is JSON that a careless program would not give back byte for byte.
const oddPayload = "{ \"b\" : 12345678901234567890.10 ,\n\t\"a\":\"\\u0000 \\u00e9 é 🐦 <&>\", \"b\": 1E+2 }"

const deadSQL = `INSERT INTO posthorn.deliveries (id, event_id, event_created_at, endpoint_id, tenant_id, event_type, status,
		attempts, job_id, last_response_status, last_error_kind, last_error, finished_at)
	SELECT posthorn.uuid_v7(), id, created_at, $2, $3, event_type, 'dead', 2, 1, 500, 'http_status', 'answered 500', now()
	FROM posthorn.outbox WHERE id = $1 RETURNING id`

const deadLetterSQL = `INSERT INTO posthorn.dead_letters (id, delivery_id, event_id, event_created_at, endpoint_id, tenant_id, event_type,
		attempts, last_response_status, last_error_kind, last_error, fingerprint)
	SELECT posthorn.uuid_v7(), id, event_id, event_created_at, endpoint_id, tenant_id, event_type,
		attempts, last_response_status, last_error_kind, last_error, 'http_status 500'
	FROM posthorn.deliveries WHERE id = $1 RETURNING id`

const attemptSQL = `INSERT INTO posthorn.attempts (delivery_id, number, started_at, duration_us, endpoint_version,
		request_headers, response_status, response_headers, response_body, error_kind, error)
	VALUES ($1, $2, now(), 12600, 1, E'webhook-id: x\nuser-agent: Posthorn/dev', $3, $4, $5, $6, $7)`

const routedSQL = `WITH gone AS (DELETE FROM posthorn.outbox_pending WHERE event_id = $1)
	INSERT INTO posthorn.routings (event_id, created_at, matched, revision)
	SELECT id, created_at, 1, (SELECT revision FROM posthorn.subscriptions_revision) FROM posthorn.outbox WHERE id = $1`

func (b *bundle) history(t *testing.T, tenant string) history {
	t.Helper()
	h := history{tenant: tenant, endpoint: b.endpoint(t, tenant, "order.*"), unmatched: b.endpoint(t, tenant, "refund.*")}
	h.event = b.publish(t, outbox.Event{TenantID: tenant, Type: "order.paid", Payload: json.RawMessage(oddPayload)})
	b.exec(t, routedSQL, h.event)
	ctx := t.Context()
	must(t, b.Pool.QueryRow(ctx, deadSQL, h.event, h.endpoint, tenant).Scan(&h.delivery))
	must(t, b.Pool.QueryRow(ctx, deadLetterSQL, h.delivery).Scan(&h.deadLetter))
	b.exec(t, attemptSQL, h.delivery, 1, nil, nil, nil, "timeout", "no answer within 15s")
	b.exec(t, attemptSQL, h.delivery, 2, 500, "content-type: text/html\nset-cookie: a=1\nset-cookie: b=2\nset-cookie: c=3",
		[]byte("<b>no\xff</b>"), "http_status", "answered 500")
	return h
}

func (b *bundle) endpoint(t *testing.T, tenant string, patterns ...string) subscriptions.EndpointID {
	t.Helper()
	e, _, err := b.endpoints.Create(t.Context(), subscriptions.Draft{TenantID: tenant, URL: "https://shop.example.com/hooks", EventTypes: patterns})
	must(t, err)
	return e.ID
}

func (b *bundle) publish(t *testing.T, e outbox.Event) outbox.EventID {
	t.Helper()
	var id outbox.EventID
	must(t, pgx.BeginFunc(t.Context(), b.Pool, func(tx pgx.Tx) (err error) {
		id, err = outbox.Publish(t.Context(), tx, e)
		return err
	}))
	return id
}

func (b *bundle) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := b.Pool.Exec(t.Context(), sql, args...)
	must(t, err)
}
