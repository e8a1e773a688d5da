package main

import (
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/posthorn/posthorn/internal/netguard"
	"github.com/posthorn/posthorn/internal/pgtest"
	"github.com/posthorn/posthorn/subscriptions"
)

// startServe runs posthorn serve on a free port and returns its URL.
func startServe(t *testing.T, env []string, args ...string) (*process, string) {
	t.Helper()
	p := start(t, env, append([]string{"serve", "--addr", "127.0.0.1:0"}, args...)...)
	return p, p.await(p.err, `msg="posthorn is running".* url=(http://\S+)`)[1]
}

func status(t *testing.T, url, key string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	must(t, err)
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	response, err := http.DefaultClient.Do(request)
	must(t, err)
	must(t, response.Body.Close())
	return response.StatusCode
}

func TestServeMigratesOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	env := []string{"DATABASE_URL=" + db.URL, "POSTHORN_OPERATOR_KEY=an-operators-key"}
	r := command(t, env, "serve", "--addr", "127.0.0.1:0")
	if r.status != exitFailure || !strings.Contains(r.err, "posthorn migrate up") {
		t.Errorf("on an empty database: status %d: %s", r.status, r.err)
	}
	p, url := startServe(t, env, "--migrate")
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200, "/v1/ledger": 401} {
		if got := status(t, url+path, ""); got != want {
			t.Errorf("%s answers %d", path, got)
		}
	}
	if got := status(t, url+"/v1/ledger", "an-operators-key"); got != http.StatusOK {
		t.Errorf("the configured key gets %d", got)
	}
	if !strings.Contains(p.err.String(), "level=WARN") || !strings.Contains(p.err.String(), "POSTHORN_ENCRYPTION_KEYSET") {
		t.Error("nothing warns of the keyset in the database")
	}
	if strings.Contains(p.err.String(), "an-operators-key") {
		t.Error("the log has the operator's key")
	}
	if ready := succeed(t, []string{"POSTHORN_ADDR=" + strings.TrimPrefix(url, "http://")}, "health"); ready.out != "ready\n" {
		t.Errorf("health prints %q", ready.out)
	}
	if got := p.end(syscall.SIGTERM); got != 0 {
		t.Errorf("the end has the status %d", got)
	}
	if r := command(t, []string{"POSTHORN_ADDR=" + strings.TrimPrefix(url, "http://")}, "health"); r.status != exitFailure {
		t.Errorf("health of nothing: status %d", r.status)
	}
}

func TestServeDispatchAloneHasNoAPI(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	env := []string{"DATABASE_URL=" + db.URL, "POSTHORN_OPERATOR_KEY=key"}
	p, url := startServe(t, env, "--roles", "dispatch", "--no-handoff")
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200, "/v1/ledger": 404} {
		if got := status(t, url+path, "key"); got != want {
			t.Errorf("%s answers %d", path, got)
		}
	}
	awaitNode(t, db)
	if got := p.end(os.Interrupt); got != 0 {
		t.Errorf("the end has the status %d", got)
	}
	if n := countNodes(t, db); n != 0 {
		t.Errorf("%d nodes after the end", n)
	}
}

func countNodes(t *testing.T, db *pgtest.DB) (n int) {
	t.Helper()
	must(t, db.Pool.QueryRow(t.Context(), `SELECT count(*) FROM posthorn.nodes`).Scan(&n))
	return n
}

// awaitNode is for a node that registers a moment after its process has begun to
// serve, and tells nobody but the database.
func awaitNode(t *testing.T, db *pgtest.DB) {
	t.Helper()
	eventually(t, "a node", func() bool { return countNodes(t, db) == 1 })
}

func TestServeAPIAloneDispatchesNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	p, url := startServe(t, []string{"DATABASE_URL=" + db.URL, "POSTHORN_OPERATOR_KEY=key"}, "--roles=api", "--handoff=false")
	if got := status(t, url+"/v1/ledger", "key"); got != http.StatusOK {
		t.Errorf("the API answers %d", got)
	}
	if got := p.end(os.Interrupt); got != 0 {
		t.Errorf("the end has the status %d", got)
	}
	// Even a node that has left has used up a number.
	var number int
	must(t, db.Pool.QueryRow(t.Context(), `INSERT INTO posthorn.nodes (name, version) VALUES ('test', '') RETURNING number`).Scan(&number))
	if number != 1 {
		t.Errorf("%d nodes have registered", number-1)
	}
}

func TestServeEndsWhileItStarts(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	p, _ := startServe(t, []string{"DATABASE_URL=" + db.URL})
	if got := p.end(syscall.SIGTERM); got != 0 {
		t.Errorf("the end has the status %d", got)
	}
}

func TestServeRefusesAnotherKeyset(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	right := strings.TrimSpace(succeed(t, nil, "keyset", "create").out)
	keyring, err := subscriptions.NewKeyring(right)
	must(t, err)
	_, _, err = subscriptions.NewStore(db.Pool, keyring, netguard.Policy{}).Create(t.Context(),
		subscriptions.Draft{TenantID: "default", URL: "https://example.com/hook", EventTypes: []string{"*"}})
	must(t, err)

	wrong := strings.TrimSpace(succeed(t, nil, "keyset", "create").out)
	for _, env := range [][]string{{"POSTHORN_ENCRYPTION_KEYSET=" + wrong}, nil, {"POSTHORN_ENCRYPTION_KEYSET={}"}} {
		r := command(t, append(env, "DATABASE_URL="+db.URL), "serve", "--addr", "127.0.0.1:0")
		if r.status != exitFailure || !strings.Contains(r.err, "POSTHORN_ENCRYPTION_KEYSET") || strings.Contains(r.err, wrong) {
			t.Errorf("with %.40q: status %d: %s", env, r.status, r.err)
		}
	}

	// The right one works, rotated too, and needs no warning.
	rotated := strings.TrimSpace(succeed(t, []string{"POSTHORN_ENCRYPTION_KEYSET=" + right}, "keyset", "rotate").out)
	p, _ := startServe(t, []string{"POSTHORN_ENCRYPTION_KEYSET=" + rotated, "DATABASE_URL=" + db.URL})
	if strings.Contains(p.err.String(), "level=WARN") {
		t.Error("it warns of something")
	}
}

func TestServeRaisesTheLeaseAboveTheAttemptTimeout(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	// The dispatcher refuses a lease that is no longer than an attempt.
	p, _ := startServe(t, []string{"DATABASE_URL=" + db.URL, "POSTHORN_ATTEMPT_TIMEOUT=2m"})
	if got := p.end(os.Interrupt); got != 0 {
		t.Errorf("the end has the status %d", got)
	}
}
