package outbox_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/internal/pgtest"
	"github.com/posthorn/posthorn/outbox"
)

// row is everything that the outbox stores of an event.
type row struct {
	ID             outbox.EventID
	TenantID       string
	EventType      string
	Payload        string
	OrderingKey    *string
	IdempotencyKey *string
	Traceparent    *string
	OccurredAt     time.Time
	CreatedAt      time.Time
}

func onlyRow(t testing.TB, q querier) row {
	t.Helper()
	rows, err := q.Query(t.Context(), `SELECT id, tenant_id, event_type, payload::text, ordering_key,
		idempotency_key, traceparent, occurred_at, created_at FROM posthorn.outbox`)
	if err != nil {
		t.Fatal(err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[row])
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestInsert_FillsInTheDefaults(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for _, insert := range []string{
		`INSERT INTO posthorn.outbox (event_type, payload) VALUES ('order.paid', '{"order_id": 17}')`,
		`SELECT posthorn.publish('order.paid', '{"order_id": 17}')`,
		`SELECT posthorn.publish('order.paid', '{"order_id": 17}', NULL, NULL, NULL, NULL, NULL, NULL)`,
	} {
		tx := begin(t, db.Pool)
		execute(t, tx, insert)
		got, now := onlyRow(t, tx), value[time.Time](t, tx, `SELECT now()`)
		clock := value[time.Time](t, tx, `SELECT clock_timestamp()`)
		if made := got.ID.Time(); made.Before(now.Truncate(time.Millisecond)) || made.After(clock) || got.ID.UUID()[6]>>4 != 7 {
			t.Errorf("%s: the id %s was made at %s, not between %s and %s", insert, got.ID, made, now, clock)
		}
		if !got.OccurredAt.Equal(now) || !got.CreatedAt.Equal(now) {
			t.Errorf("%s: it is %s, but occurred at %s, created at %s", insert, now, got.OccurredAt, got.CreatedAt)
		}
		got.ID, got.OccurredAt, got.CreatedAt = outbox.EventID{}, time.Time{}, time.Time{}
		if want := (row{TenantID: "default", EventType: "order.paid", Payload: `{"order_id": 17}`}); got != want {
			t.Errorf("%s: %+v", insert, got)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestInsert_KeepsEveryColumn(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const id, trace = "01890a5d-ac96-774b-bcce-b302099a8057", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, insert := range []string{
		`INSERT INTO posthorn.outbox (id, tenant_id, event_type, payload, ordering_key, idempotency_key, traceparent, occurred_at)
			VALUES ('` + id + `', 'shop_1', 'order.paid', '1', 'order-17', 'order-17-paid', '` + trace + `', '2024-02-29T12:00:00.123456Z')`,
		`SELECT posthorn.publish('order.paid', '1', tenant_id => 'shop_1', ordering_key => 'order-17', idempotency_key => 'order-17-paid',
			traceparent => '` + trace + `', occurred_at => '2024-02-29T12:00:00.123456Z', id => '` + id + `')`,
	} {
		tx := begin(t, db.Pool)
		execute(t, tx, insert)
		got := onlyRow(t, tx)
		if got.ID.String() != "evt_01h455vb4pex5vsknk084sn02q" || got.TenantID != "shop_1" || *got.OrderingKey != "order-17" ||
			*got.IdempotencyKey != "order-17-paid" || *got.Traceparent != trace ||
			!got.OccurredAt.Equal(time.Date(2024, 2, 29, 12, 0, 0, 123456000, time.UTC)) {
			t.Errorf("%s: %+v", insert, got)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

const (
	typeWords  = "must be dot-separated names of letters, digits and underscores, such as order.paid, and have at most 255 characters"
	traceWords = "is not of the W3C form 00-<32 hex>-<16 hex>-<2 hex>"
)

// refusedColumns are values that a producer's statement fails for: the column,
// the values as SQL, and the words of the error.
var refusedColumns = []struct {
	column string
	values []string
	words  string
}{
	{"tenant_id", []string{`''`, `'*'`, `repeat('ü', 256)`}, `must have 1 to 255 characters and not be "*"`},
	{"event_type", []string{`''`, `'.'`, `'order.'`, `'.paid'`, `'order..paid'`, `'order paid'`, `'order-paid'`, `'order.*'`, `'*'`, `'ördér'`,
		`E'order.paid\n'`, `E'order\npaid'`, `'<script>'`, `''' OR 1=1'`, `repeat('a', 256)`}, typeWords},
	{"ordering_key", []string{`''`, `repeat('k', 256)`}, "ordering_key must have 1 to 255 characters"},
	{"idempotency_key", []string{`''`, `repeat('k', 256)`}, "idempotency_key must have 1 to 255 characters"},
	{"traceparent", []string{`''`, `'00'`, `'01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'`,
		`'00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'`, `'00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 '`,
		`'00-00000000000000000000000000000000-b7ad6b7169203331-01'`, `'00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01'`}, traceWords},
	{"occurred_at", []string{`'infinity'`, `'-infinity'`, `'0044-03-15 BC'`, `'10000-01-01'`}, "occurred_at must lie between the years 1 and 9999"},
}

func TestInsert_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	tx := begin(t, pgtest.New(t).Pool)
	for _, refused := range refusedColumns {
		for _, v := range refused.values {
			insert := fmt.Sprintf(`INSERT INTO posthorn.outbox (payload, event_type, %s) VALUES ('1', 'a', %s)`, refused.column, v)
			call := fmt.Sprintf(`SELECT posthorn.publish('a', '1', %s => %s)`, refused.column, v)
			if refused.column == "event_type" {
				insert = fmt.Sprintf(`INSERT INTO posthorn.outbox (payload, event_type) VALUES ('1', %s)`, v)
				call = fmt.Sprintf(`SELECT posthorn.publish(%s, '1')`, v)
			}
			wantRefusal(t, insert, attempt(t, tx, insert), "23514", refused.words)
			wantRefusal(t, call, attempt(t, tx, call), "23514", refused.words)
		}
	}
	wantRows(t, tx, 0, 0, 0)
}

func TestInsert_QuotesTheBeginningOfWhatIsWrong(t *testing.T) {
	t.Parallel()
	tx := begin(t, pgtest.New(t).Pool)
	err := attempt(t, tx, `SELECT posthorn.publish('order''paid' || repeat('x', 1000), '1')`)
	wantRefusal(t, "a long type", err, "23514", "posthorn: event_type 'order''paid"+strings.Repeat("x", 64-len("order'paid"))+"' must")
}

func TestInsert_AcceptsWhatIsUnusual(t *testing.T) {
	t.Parallel()
	tx := begin(t, pgtest.New(t).Pool)
	for column, values := range map[string][]string{
		"tenant_id":       {`repeat('ü', 255)`, `' '`, `'**'`, `'shop/1?'`},
		"event_type":      {`'a'`, `'1.2'`, `'_'`, `'Order.Paid.v2'`, `repeat('a', 255)`},
		"ordering_key":    {`' '`, `repeat('ü', 255)`},
		"idempotency_key": {`' '`, `repeat('ü', 255)`},
		"traceparent":     {`NULL`, `'00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff'`},
		"occurred_at":     {`'0001-01-01Z'`, `'9999-12-30T23:59:59Z'`},
		"id":              {`'00000000-0000-0000-0000-000000000000'`, `'ffffffff-ffff-ffff-ffff-ffffffffffff'`},
	} {
		for _, v := range values {
			call := fmt.Sprintf(`SELECT posthorn.publish(event_type => 'a', payload => '1', %s => %s)`, column, v)
			if column == "event_type" {
				call = fmt.Sprintf(`SELECT posthorn.publish(%s, '1')`, v)
			}
			if err := attempt(t, tx, call); err != nil {
				t.Errorf("%s: %v", call, err)
			}
		}
	}
}

func TestInsert_NeedsATypeAndAPayload(t *testing.T) {
	t.Parallel()
	tx := begin(t, pgtest.New(t).Pool)
	for _, sql := range []string{
		`INSERT INTO posthorn.outbox (payload) VALUES ('1')`,
		`INSERT INTO posthorn.outbox (event_type) VALUES ('a')`,
		`INSERT INTO posthorn.outbox (event_type, payload, tenant_id) VALUES ('a', '1', NULL)`,
		`SELECT posthorn.publish(NULL, '1')`,
		`SELECT posthorn.publish('a', NULL)`,
	} {
		wantRefusal(t, sql, attempt(t, tx, sql), "23502", "null value in column")
	}
}
