package api_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/posthorn/posthorn/api"
	"github.com/posthorn/posthorn/api/keys"
	"github.com/posthorn/posthorn/dispatcher"
	"github.com/posthorn/posthorn/internal/netguard"
	"github.com/posthorn/posthorn/internal/pgtest"
	"github.com/posthorn/posthorn/subscriptions"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// bootstrapKey is the configured operator key of the tests.
const bootstrapKey = "the-operators-own-choice"

// bundle is a test's database with the API on it.
type bundle struct {
	*pgtest.DB
	server    *api.Server
	keys      *keys.Store
	endpoints *subscriptions.Store
	log       *bytes.Buffer
}

// setup makes a database and an API; the options change the API's Config.
func setup(t *testing.T, options ...func(*api.Config)) *bundle {
	t.Helper()
	db := pgtest.New(t)
	keyset, err := subscriptions.KeptKeyset(t.Context(), db.Pool)
	must(t, err)
	keyring, err := subscriptions.NewKeyring(keyset)
	must(t, err)
	redeliverer, err := dispatcher.NewRedeliverer(db.Pool)
	must(t, err)
	b := &bundle{DB: db, log: &bytes.Buffer{}, keys: keys.NewStore(db.Pool),
		endpoints: subscriptions.NewStore(db.Pool, keyring, netguard.Policy{})}
	c := api.Config{Pool: db.Pool, Endpoints: b.endpoints, Keys: b.keys, Redeliverer: redeliverer,
		OperatorKey: bootstrapKey, Logger: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	for _, option := range options {
		option(&c)
	}
	b.server, err = api.New(c)
	must(t, err)
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// client calls the API with one key. Every answer is held against openapi.yaml.
type client struct {
	t   testing.TB
	b   *bundle
	key string
}

func (b *bundle) operator(t testing.TB) client { return client{t, b, bootstrapKey} }

// subscriber is a client with a new key of the tenant.
func (b *bundle) subscriber(t testing.TB, tenant string) client {
	t.Helper()
	_, secret, err := b.keys.Create(t.Context(), keys.Subscriber, tenant, "")
	must(t, err)
	return client{t, b, secret}
}

// answer is what came back.
type answer struct {
	t      testing.TB
	what   string
	status int
	header http.Header
	body   string
}

func (c client) do(method, target, body string, headers ...string) answer {
	c.t.Helper()
	r := httptest.NewRequestWithContext(c.t.Context(), method, target, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.key != "" {
		r.Header.Set("Authorization", "Bearer "+c.key)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	c.b.server.ServeHTTP(w, r)
	sent, err := io.ReadAll(w.Result().Body)
	must(c.t, err)
	conforms(c.t, r, w.Result(), sent)
	return answer{c.t, method + " " + target, w.Code, w.Header(), string(sent)}
}

func (c client) get(target string) answer        { c.t.Helper(); return c.do("GET", target, "") }
func (c client) post(target, body string) answer { c.t.Helper(); return c.do("POST", target, body) }

// want fails the test at once unless the status is this one.
func (a answer) want(status int) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: status %d, want %d; body %.2000s", a.what, a.status, status, a.body)
	}
	return a
}

// problem is the form of every error.
type problem struct {
	Type, Title, Detail, Code string
	Status                    int
	RequestID                 string `json:"request_id"`
	Errors                    []struct{ Pointer, Detail string }
}

// refused fails the test unless the answer is this problem, and returns it.
func (a answer) refused(status int, code string) problem {
	a.t.Helper()
	a.want(status)
	var p problem
	a.into(&p)
	if p.Code != code || p.Status != status || a.header.Get("Content-Type") != "application/problem+json" ||
		p.RequestID == "" || p.RequestID != a.header.Get("X-Request-Id") || p.Type != "urn:posthorn:problem:"+code {
		a.t.Fatalf("%s: %s with content type %s and request id %s, want code %s", a.what, a.body,
			a.header.Get("Content-Type"), a.header.Get("X-Request-Id"), code)
	}
	return p
}

func (a answer) into(v any) {
	a.t.Helper()
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		a.t.Fatalf("%s: %v in %.500s", a.what, err, a.body)
	}
}

// object is the answer's JSON object.
func (a answer) object() map[string]any {
	a.t.Helper()
	var m map[string]any
	a.into(&m)
	return m
}

// list is the form of every list.
type list struct {
	Data       []map[string]any
	NextCursor *string `json:"next_cursor"`
	HasMore    bool    `json:"has_more"`
}

func (a answer) list() list {
	a.t.Helper()
	var l list
	a.want(http.StatusOK).into(&l)
	return l
}

// ids are those of the list's items.
func (l list) ids() []string {
	ids := []string{}
	for _, item := range l.Data {
		ids = append(ids, item["id"].(string))
	}
	return ids
}
