package dispatcher

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
	"github.com/posthorn/posthorn/webhook"
	"github.com/posthorn/posthorn/webhook/interop"
)

// oddPayloads must arrive as they were written, byte for byte.
var oddPayloads = []string{
	`{"order_id": 17}`,
	" \n\t{ \"a\" :\t1 , \"a\": 2 }\r\n ",
	`{"big":123456789012345678901234567890.000100,"e":1E+400,"z":-0}`,
	`{"nul":"\u0000","lone":"\ud800","pair":"\ud83d\ude00","slash":"\/"}`,
	`{"unicode":"žluťoučký kůň 😀 ","html":"<script>&amp;'"}`,
	`[]`, `"text"`, `17`, `null`, `true`,
	`{"long":"` + strings.Repeat("x", 40<<10) + `"}`,
}

// shop is a producer with a connection of its own.
type shop struct {
	number int
	pool   *pgxpool.Pool
	random *rand.Rand
}

// order commits or rolls back one business row and its event, and returns the
// event's id and whether it was committed.
func (s shop) order(ctx context.Context, n int) (id outbox.EventID, payload, eventType string, committed bool, err error) {
	payload = oddPayloads[s.random.IntN(len(oddPayloads))]
	eventType = []string{"order.paid", "order.refund.made", "cart.updated"}[s.random.IntN(3)]
	committed = s.random.IntN(5) > 0
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return
	}
	defer tx.Rollback(ctx) //nolint:errcheck // after a commit it says so
	if _, err = tx.Exec(ctx, `INSERT INTO orders (shop, number) VALUES ($1, $2)`, s.number, n); err != nil {
		return
	}
	insert := `INSERT INTO posthorn.outbox (event_type, payload, tenant_id) VALUES ($1, $2::text::json, 'shop_1') RETURNING id`
	if s.random.IntN(2) == 0 {
		insert = `SELECT posthorn.publish($1, $2::text::json, tenant_id => 'shop_1', idempotency_key => $1 || clock_timestamp()::text || txid_current())`
	}
	if err = tx.QueryRow(ctx, insert, eventType, payload).Scan(&id); err != nil || !committed {
		return
	}
	err = tx.Commit(ctx)
	return
}

// sold is a committed event.
type sold struct{ payload, eventType string }

// sell runs five shops of a hundred orders each, side by side.
func sell(t *testing.T, b *bundle) map[string]sold {
	t.Helper()
	_, err := b.Pool.Exec(t.Context(), `CREATE TABLE orders (shop int, number int)`)
	must(t, err)
	var mu sync.Mutex
	committed := map[string]sold{}
	var shops sync.WaitGroup
	for number := range 5 {
		shops.Go(func() {
			s := shop{number, b.Pool, rand.New(rand.NewPCG(17, uint64(number)))}
			for n := range 100 {
				id, payload, eventType, ok, err := s.order(t.Context(), n)
				if err != nil {
					t.Error(err)
					return
				}
				if ok {
					mu.Lock()
					committed[id.String()] = sold{payload, eventType}
					mu.Unlock()
				}
			}
		})
	}
	shops.Wait()
	return committed
}

func TestDelivery_EachCommittedEventReachesEachMatchingEndpointOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.run(t)
	type listener struct {
		*receiver
		secret  webhook.Secret
		wants   func(eventType string) bool
		format  subscriptions.PayloadFormat
		tenant  string
		pattern string
	}
	all := func(string) bool { return true }
	none := func(string) bool { return false }
	listeners := []*listener{
		{tenant: "shop_1", pattern: "*", wants: all},
		{tenant: "shop_1", pattern: "order.*", wants: func(e string) bool { return strings.HasPrefix(e, "order.") }},
		{tenant: "shop_1", pattern: "cart.updated", wants: func(e string) bool { return e == "cart.updated" }, format: subscriptions.Raw},
		{tenant: subscriptions.AllTenants, pattern: "*", wants: all, format: subscriptions.Raw},
		{tenant: "shop_2", pattern: "*", wants: none},
		{tenant: "shop_1", pattern: "order", wants: none},
	}
	for _, l := range listeners {
		l.receiver = newReceiver(t, nil)
		_, secret, err := b.store.Create(t.Context(), subscriptions.Draft{
			TenantID: l.tenant, URL: l.URL, EventTypes: []string{l.pattern}, PayloadFormat: l.format})
		must(t, err)
		l.secret = secret
	}

	committed := sell(t, b)
	if n := value[int](t, b.Pool, `SELECT count(*) FROM orders`); n != len(committed) || n == 500 || n < 350 {
		t.Fatalf("%d orders, %d events, of 500", n, len(committed))
	}
	settled(t, b.Pool)
	if l := balanced(t, b.Pool); l.Events != int64(len(committed)) || l.Deliveries[Delivered] != l.Expected {
		t.Errorf("%+v", l)
	}

	var cases []interop.Case
	for i, l := range listeners {
		counts := l.counts()
		for id, s := range committed {
			if want := map[bool]int{true: 1}[l.wants(s.eventType)]; counts[id] != want {
				t.Errorf("listener %d got %s (%s) %d times, want %d", i, id, s.eventType, counts[id], want)
			}
			delete(counts, id)
		}
		if len(counts) > 0 {
			t.Errorf("listener %d got events that were never committed: %v", i, counts)
		}
		official, err := standardwebhooks.NewWebhook(l.secret.Reveal())
		must(t, err)
		for _, rec := range l.journal {
			if err := official.Verify([]byte(rec.body), rec.header); err != nil {
				t.Errorf("listener %d, %s: %v", i, rec.eventID(), err)
			}
			if got := dataOf(t, rec.body, l.format); got != committed[rec.eventID()].payload {
				t.Errorf("listener %d, %s: data %.80q, want %.80q", i, rec.eventID(), got, committed[rec.eventID()].payload)
			}
			cases = append(cases, interop.Case{Name: fmt.Sprintf("listener %d, %s", i, rec.eventID()), Secret: l.secret.Reveal(),
				ID: rec.eventID(), Timestamp: rec.header.Get("webhook-timestamp"), Signature: rec.header.Get("webhook-signature"),
				Body: []byte(rec.body)})
		}
	}
	interop.Verify(t, cases)
}

// dataOf cuts the payload out of a body without parsing it.
func dataOf(t *testing.T, body string, format subscriptions.PayloadFormat) string {
	t.Helper()
	if format == subscriptions.Raw {
		return body
	}
	_, data, found := strings.Cut(body, `","data":`)
	if !found || !strings.HasSuffix(data, "}") || !json.Valid([]byte(body)) {
		t.Errorf("not a standard body: %.200q", body)
	}
	return strings.TrimSuffix(data, "}")
}
