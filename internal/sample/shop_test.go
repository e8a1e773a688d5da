package sample

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posthorn/posthorn/internal/pgtest"
)

// shopBundle is a shop that is open.
type shopBundle struct {
	db   *pgtest.DB
	shop *Shop
	url  string
	log  *output
}

func openShop(t *testing.T, cfg ShopConfig) shopBundle {
	t.Helper()
	b := shopBundle{db: pgtest.New(t), log: newOutput()}
	cfg.Logger = b.log.logger()
	var err error
	if b.shop, err = NewShop(t.Context(), b.db.Pool, cfg); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(b.shop.Handler())
	t.Cleanup(server.Close)
	b.url = server.URL
	return b
}

func TestACommittedOrderHasExactlyOneEvent(t *testing.T) {
	t.Parallel()
	b := openShop(t, ShopConfig{TenantID: "shop_1"})
	status, order := post(t, b.url+"/orders", `{"customer":"Ada","amount_cents":1999}`)
	if status != http.StatusCreated || order["currency"] != "EUR" || order["amount_cents"] != 1999.0 || order["status"] != "open" {
		t.Fatalf("%d: %v", status, order)
	}
	want := []published{{OrderCreated, "shop_1", "order-1", 1, StatusOpen}}
	if got := outboxRows(t, b.db); !slices.Equal(got, want) {
		t.Errorf("the outbox holds %+v", got)
	}
	b.log.await(t, "order 1 committed")
}

func TestARolledBackOrderLeavesNothing(t *testing.T) {
	t.Parallel()
	b := openShop(t, ShopConfig{})
	status, answer := post(t, b.url+"/orders", `{"customer":"Ada","amount_cents":1999,"fail":true}`)
	if status != http.StatusPaymentRequired || !strings.Contains(fmt.Sprint(answer["error"]), "card was declined") {
		t.Fatalf("%d: %v", status, answer)
	}
	b.log.await(t, "order 1 rolled back")
	post(t, b.url+"/orders", `{"customer":"Grace","amount_cents":500,"currency":"USD"}`)

	want := []published{{OrderCreated, "default", "order-2", 2, StatusOpen}}
	if got := outboxRows(t, b.db); !slices.Equal(got, want) {
		t.Errorf("the outbox holds %+v", got)
	}
	if orders := get(t, b.url+"/orders")["data"].([]any); len(orders) != 1 || orders[0].(map[string]any)["order_id"] != 2.0 {
		t.Errorf("the orders are %v", orders)
	}
}

func TestAPaymentIsPublishedOnce(t *testing.T) {
	t.Parallel()
	b := openShop(t, ShopConfig{})
	post(t, b.url+"/orders", `{"customer":"Ada","amount_cents":1}`)

	// Of many at once one pays.
	statuses := make([]int, 8)
	var wg sync.WaitGroup
	for i := range statuses {
		wg.Go(func() { statuses[i], _ = post(t, b.url+"/orders/1/pay", "") })
	}
	wg.Wait()
	slices.Sort(statuses)
	if statuses[0] != http.StatusOK || slices.ContainsFunc(statuses[1:], func(s int) bool { return s != http.StatusConflict }) {
		t.Errorf("the answers are %v", statuses)
	}
	want := []published{
		{OrderCreated, "default", "order-1", 1, StatusOpen},
		{OrderPaid, "default", "order-1", 1, StatusPaid},
	}
	if got := outboxRows(t, b.db); !slices.Equal(got, want) {
		t.Errorf("the outbox holds %+v", got)
	}
	for _, id := range []string{"2", "none"} {
		if status, answer := post(t, b.url+"/orders/"+id+"/pay", ""); status != http.StatusNotFound {
			t.Errorf("order %s: %d %v", id, status, answer)
		}
	}
}

func TestTheShopRefusesBadOrders(t *testing.T) {
	t.Parallel()
	b := openShop(t, ShopConfig{})
	for body, want := range map[string]int{
		`{`:                                                                  http.StatusBadRequest,
		`{"customer":"Ada","amount":1}`:                                      http.StatusBadRequest,
		`{"customer":"Ada","amount_cents":1.5}`:                              http.StatusBadRequest,
		`{"customer":"","amount_cents":1}`:                                   http.StatusUnprocessableEntity,
		`{"customer":"A\u0000","amount_cents":1}`:                            http.StatusUnprocessableEntity,
		`{"customer":"Ada","amount_cents":0}`:                                http.StatusUnprocessableEntity,
		`{"customer":"Ada","amount_cents":1,"currency":"euro"}`:              http.StatusUnprocessableEntity,
		`{"customer":"` + strings.Repeat("a", 201) + `","amount_cents":1}`:   http.StatusUnprocessableEntity,
		`{"customer":"` + strings.Repeat("a", 1<<20) + `","amount_cents":1}`: http.StatusBadRequest,
	} {
		if status, answer := post(t, b.url+"/orders", body); status != want || answer["error"] == "" {
			t.Errorf("%.60s: %d %v", body, status, answer)
		}
	}
	if got := outboxRows(t, b.db); len(got) != 0 {
		t.Errorf("the outbox holds %+v", got)
	}
}

func TestShopsMayOpenTogether(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	// One shop has made the schema but not committed when the other begins.
	tx, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), schemaSQL); err != nil {
		t.Fatal(err)
	}
	opened := make(chan error, 1)
	go func() {
		_, err := NewShop(t.Context(), db.Pool, ShopConfig{})
		opened <- err
	}()
	awaitLockWaiter(t, db)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := next(t, opened); err != nil {
		t.Error(err)
	}
	if _, err := NewShop(t.Context(), db.Pool, ShopConfig{}); err != nil {
		t.Errorf("a shop that opens later: %v", err)
	}
}

// awaitLockWaiter returns when a session of the database waits for a lock. Only
// asking tells.
func awaitLockWaiter(t *testing.T, db *pgtest.DB) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(patience)
	for {
		var waiting bool
		const sql = `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock')`
		if err := db.Pool.QueryRow(t.Context(), sql).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
		if waiting {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatal("nobody waits for a lock")
		}
	}
}

func TestRunRollsBackEveryFifthOrderAndPaysMost(t *testing.T) {
	t.Parallel()
	b := openShop(t, ShopConfig{Interval: time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		b.shop.Run(ctx)
		close(done)
	}()
	b.log.await(t, "order 10 rolled back")
	cancel()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("Run goes on after its context has ended")
	}

	log := b.log.String()
	for n := range 10 {
		id := int64(n + 1)
		want := []string{OrderCreated, OrderPaid}
		switch {
		case id%rollBackEvery == 0:
			want = nil
		case id%leaveOpenEvery == 0:
			want = want[:1]
		}
		var got []string
		for _, row := range outboxRows(t, b.db) {
			if row.OrderID == id {
				got = append(got, row.EventType)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("order %d has the events %v, not %v", id, got, want)
		}
		if committed := strings.Contains(log, fmt.Sprintf("order %d committed\"", id)); committed != (want != nil) {
			t.Errorf("order %d: the log says committed: %v", id, committed)
		}
	}
	if strings.Contains(log, "level=WARN") {
		t.Errorf("the end of Run is logged as a failure: %s", log)
	}
}

func TestRunShopServesUntilItsContextEnds(t *testing.T) {
	t.Parallel()
	db, log := pgtest.New(t), newOutput()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- RunShop(ctx, ShopConfig{
			DatabaseURL: db.URL, Addr: "127.0.0.1:0", Interval: time.Hour, Logger: log.logger()})
	}()
	url := urlIn(t, log.await(t, "the sample shop is open"))
	log.await(t, "order 1 paid")
	if orders := get(t, url+"/orders")["data"].([]any); len(orders) != 1 {
		t.Errorf("the orders are %v", orders)
	}
	cancel()
	awaitEnd(t, done)
	if _, err := http.Get(url); err == nil {
		t.Error("the shop still answers")
	}
}

func TestRunShopNeedsADatabase(t *testing.T) {
	t.Parallel()
	err := RunShop(t.Context(), ShopConfig{DatabaseURL: "postgres://nobody@127.0.0.1:1/none", Addr: "127.0.0.1:0"})
	if err == nil {
		t.Error("RunShop succeeds")
	}
}

// urlIn reads the url of a log line.
func urlIn(t *testing.T, line string) string {
	t.Helper()
	_, rest, found := strings.Cut(line, "url=")
	if !found {
		t.Fatalf("no url in %q", line)
	}
	return strings.Fields(rest)[0]
}

func awaitEnd(t *testing.T, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("it goes on after its context has ended")
	}
}
