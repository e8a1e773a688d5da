package dispatcher

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/internal/netguard"
	"github.com/posthorn/posthorn/internal/pgtest"
	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
	"github.com/posthorn/posthorn/webhook"
)

// patience is how long a test waits for what should come at once; it is long
// because the machine may be busy, and reached only by a failing test. Planted bugs
// (internal/mutants) make tests fail, and are caught sooner with less.
var patience = 20 * time.Second

func init() {
	flag.DurationVar(&patience, "patience", patience, "how long to wait for what should come at once")
}

// loopback is the policy of tests: receivers live on this machine.
var loopback = netguard.Policy{
	AllowHTTP:     true,
	AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
}

// bundle is a test's database and what works on it.
type bundle struct {
	*pgtest.DB
	store *subscriptions.Store
	keys  *subscriptions.Keyring
}

func setup(t *testing.T) *bundle {
	t.Helper()
	return setupOn(t, pgtest.New(t))
}

func setupOn(t *testing.T, db *pgtest.DB) *bundle {
	t.Helper()
	keyset, err := subscriptions.KeptKeyset(t.Context(), db.Pool)
	must(t, err)
	keys, err := subscriptions.NewKeyring(keyset)
	must(t, err)
	return &bundle{DB: db, keys: keys, store: subscriptions.NewStore(db.Pool, keys, loopback)}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// endpoint registers an endpoint of the default tenant for every event.
func (b *bundle) endpoint(t *testing.T, url string, eventTypes ...string) (subscriptions.Endpoint, webhook.Secret) {
	t.Helper()
	return b.tenantEndpoint(t, outbox.DefaultTenant, url, eventTypes...)
}

func (b *bundle) tenantEndpoint(t *testing.T, tenant, url string, eventTypes ...string) (subscriptions.Endpoint, webhook.Secret) {
	t.Helper()
	if eventTypes == nil {
		eventTypes = []string{"*"}
	}
	return b.create(t, subscriptions.Draft{TenantID: tenant, URL: url, EventTypes: eventTypes})
}

// create registers the endpoint, of the default tenant and for every event unless
// it says otherwise.
func (b *bundle) create(t *testing.T, d subscriptions.Draft) (subscriptions.Endpoint, webhook.Secret) {
	t.Helper()
	if d.TenantID == "" {
		d.TenantID = outbox.DefaultTenant
	}
	if d.EventTypes == nil {
		d.EventTypes = []string{"*"}
	}
	e, secret, err := b.store.Create(t.Context(), d)
	must(t, err)
	return e, secret
}

// publish commits one event.
func (b *bundle) publish(t *testing.T, e outbox.Event) outbox.EventID {
	t.Helper()
	if e.Type == "" {
		e.Type = "order.paid"
	}
	if e.Payload == nil {
		e.Payload = json.RawMessage(`{"order_id": 17}`)
	}
	var id outbox.EventID
	must(t, pgx.BeginFunc(t.Context(), b.Pool, func(tx pgx.Tx) (err error) {
		id, err = outbox.Publish(t.Context(), tx, e)
		return err
	}))
	return id
}

// config is a node's for tests: everything a person would wait for is quick.
func (b *bundle) config(t testing.TB, pool *pgxpool.Pool) Config {
	return Config{
		Pool:           pool,
		Directory:      subscriptions.NewDirectory(b.keys),
		Guard:          netguard.NewGuard(loopback),
		Retry:          RetryPolicy{Schedule: []time.Duration{50 * time.Millisecond, 100 * time.Millisecond}},
		AttemptTimeout: 5 * time.Second,
		Lease:          6 * time.Second,
		ReapInterval:   100 * time.Millisecond,
		SweepInterval:  time.Second,
		SweepGrace:     10 * time.Second,
		Logger:         slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

// run starts a node and returns what stops it; the test's end does too.
func (b *bundle) run(t *testing.T, change ...func(*Config)) (stop func()) {
	t.Helper()
	poolConfig, err := pgxpool.ParseConfig(b.URL)
	must(t, err)
	poolConfig.MaxConns = 12
	pool, err := pgxpool.NewWithConfig(context.Background(), poolConfig)
	must(t, err)
	config := b.config(t, pool)
	for _, f := range change {
		f(&config)
	}
	d, err := New(config)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := inBackground(func() {
		if err := d.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
		pool.Close()
	})
	t.Cleanup(stop)
	return stop
}

// received is one POST as a receiver saw it.
type received struct {
	header http.Header
	body   string
	at     time.Time
}

func (r received) eventID() string { return r.header.Get("webhook-id") }

// receiver is an HTTP server that keeps a journal.
type receiver struct {
	*httptest.Server
	requests chan received

	mu      sync.Mutex
	journal []received
	answer  http.HandlerFunc
}

// newReceiver answers with the given handler, or with 204 when it is nil.
func newReceiver(t *testing.T, answer http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{requests: make(chan received, 100_000), answer: answer}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

// ServeHTTP writes the request down before it is answered.
func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return // a sender killed in the middle of its request
	}
	request.Header.Set("Host", request.Host)
	rec := received{request.Header.Clone(), string(body), time.Now()}
	r.mu.Lock()
	r.journal = append(r.journal, rec)
	answer := r.answer
	r.mu.Unlock()
	r.requests <- rec
	if answer == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	answer(w, request)
}

// become changes the answers.
func (r *receiver) become(answer http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// next waits for a POST.
func (r *receiver) next(t *testing.T) received {
	t.Helper()
	select {
	case rec := <-r.requests:
		return rec
	case <-time.After(patience):
		t.Fatal("no POST came")
		panic("unreachable")
	}
}

// counts is how often each event came.
func (r *receiver) counts() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := map[string]int{}
	for _, rec := range r.journal {
		n[rec.eventID()]++
	}
	return n
}

// posts is how many POSTs came.
func (r *receiver) posts() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.journal)
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// value reads one value.
func value[T any](t testing.TB, pool *pgxpool.Pool, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := pool.QueryRow(context.Background(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// eventually asks the database until it says so. What is waited for is in
// another process's or goroutine's transaction, so there is no signal to await.
func eventually(t testing.TB, pool *pgxpool.Pool, what, sql string, args ...any) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !value[bool](t, pool, sql, args...) {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %s: %s\n%s", patience, what, books(t, pool))
		}
	}
}

// settled waits until every event is routed and every delivery finished.
func settled(t testing.TB, pool *pgxpool.Pool) {
	t.Helper()
	eventually(t, pool, "every delivery finished", `SELECT NOT EXISTS (SELECT FROM posthorn.outbox_pending)
		AND NOT EXISTS (SELECT FROM posthorn.deliveries WHERE status IN ('pending', 'retrying'))`)
}

// books is the state of things, for a failing test's message.
func books(t testing.TB, pool *pgxpool.Pool) string {
	ledger, err := ReadLedger(context.Background(), pool)
	jobs := value[string](t, pool, `SELECT coalesce(string_agg(j, '; '), 'none') FROM (
		SELECT kind || ' ' || state || ' ' || count(*) || ' due in ' || min(scheduled_at - now()) AS j
		FROM river.river_job GROUP BY kind, state) x`)
	return fmt.Sprintf("ledger %+v (%v)\njobs: %s", ledger, err, jobs)
}

// balanced checks that the ledger accounts for everything, at any moment.
func balanced(t testing.TB, pool *pgxpool.Pool) Ledger {
	t.Helper()
	ledger := exact(t, pool)
	if ledger.Unaccounted != 0 {
		t.Errorf("unaccounted %d: %+v", ledger.Unaccounted, ledger)
	}
	return ledger
}

// exact reads the ledger and checks that it says what the deep one does at the same
// moment.
func exact(t testing.TB, pool *pgxpool.Pool) Ledger {
	t.Helper()
	cheap, deep := readBoth(t, pool)
	if diff := cmp.Diff(deep, cheap, cmpopts.IgnoreFields(Ledger{}, "AuditedTo")); diff != "" {
		t.Errorf("the ledger differs from the deep one (-deep +cheap):\n%s", diff)
	}
	return cheap
}

func readBoth(t testing.TB, pool *pgxpool.Pool) (cheap, deep Ledger) {
	t.Helper()
	c, d := newLedger(), newLedger()
	must(t, inSnapshot(context.Background(), pool, func(tx pgx.Tx) error {
		return errors.Join(c.read(context.Background(), tx), d.readDeep(context.Background(), tx))
	}))
	return *c, *d
}

func unixTime(t *testing.T, s string) time.Time {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	must(t, err)
	return time.Unix(n, 0)
}
