package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/posthorn/posthorn/api/keys"
	"github.com/posthorn/posthorn/internal/bench"
	"github.com/posthorn/posthorn/internal/pgtest"
)

func TestMigrateUpDownAndStatus(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	env := []string{"DATABASE_URL=" + db.URL}
	count := func(state string) int {
		return strings.Count(succeed(t, env, "migrate", "status").out, state+"  ")
	}
	all := count("pending")
	if all == 0 || count("applied") != 0 {
		t.Fatalf("at the start %d are pending, %d applied", all, count("applied"))
	}
	if out := succeed(t, env, "migrate", "up").out; !strings.HasPrefix(out, "applied ") {
		t.Errorf("up prints %q", out)
	}
	if count("applied") != all || count("pending") != 0 {
		t.Error("after up something is pending")
	}
	if out := succeed(t, env, "migrate", "up").out; !strings.HasPrefix(out, "nothing to do") {
		t.Errorf("the second up prints %q", out)
	}
	var list []struct{ Applied bool }
	must(t, json.Unmarshal([]byte(succeed(t, env, "migrate", "status", "--json").out), &list))
	if len(list) != all || !list[0].Applied {
		t.Errorf("as JSON: %+v", list)
	}
	succeed(t, env, "migrate", "down")
	if count("pending") != all {
		t.Error("after down something is applied")
	}
}

func TestKeysAreMadeListedAndRevoked(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	env := []string{"DATABASE_URL=" + db.URL}
	made := succeed(t, env, "keys", "create", "--role", "operator", "--name", "ci")
	if !regexp.MustCompile(`^phk_\S+\n$`).MatchString(made.out) {
		t.Fatalf("create prints %q", made.out)
	}
	id := regexp.MustCompile(`key_\w{26}`).FindString(made.err)
	store := keys.NewStore(db.Pool)
	who, err := store.Authenticate(t.Context(), strings.TrimSpace(made.out))
	must(t, err)
	if who.Role != keys.Operator || who.KeyID.String() != id {
		t.Errorf("the key is %+v, not %s", who, id)
	}
	var subscriber keyJSON
	must(t, json.Unmarshal([]byte(succeed(t, env, "keys", "create", "--role=subscriber", "--tenant=shop_1", "--json").out), &subscriber))
	who, err = store.Authenticate(t.Context(), subscriber.Key)
	must(t, err)
	if who.TenantID != "shop_1" {
		t.Errorf("the subscriber's key is %+v", who)
	}
	list := succeed(t, env, "keys", "list")
	if strings.Count(list.out, "works") != 2 || !strings.Contains(list.out, id) || strings.Contains(list.out, "phk_") {
		t.Errorf("list prints\n%s", list.out)
	}
	succeed(t, env, "keys", "revoke", id)
	if _, err := store.Authenticate(t.Context(), strings.TrimSpace(made.out)); err == nil {
		t.Error("the revoked key works")
	}
	if r := command(t, env, "keys", "list"); strings.Count(r.out, "revoked") != 1 {
		t.Errorf("list prints\n%s", r.out)
	}
	for _, args := range [][]string{
		{"revoke", "key_00000000000000000000000000"}, {"revoke", "nonsense"}, {"create", "--role", "subscriber"},
	} {
		if r := command(t, env, append([]string{"keys"}, args...)...); r.status != exitFailure || r.err == "" {
			t.Errorf("keys %v: status %d", args, r.status)
		}
	}
}

func TestKeysNeedMigrations(t *testing.T) {
	t.Parallel()
	r := command(t, []string{"DATABASE_URL=" + pgtest.NewEmpty(t).URL}, "keys", "list")
	if r.status != exitFailure || !strings.Contains(r.err, "posthorn migrate up") {
		t.Errorf("status %d: %s", r.status, r.err)
	}
}

func TestTheEnvironmentIsChecked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, variable, value string
		secret                bool
	}{
		{"Unknown", "POSTHORN_RETRY_SCHEDUL", "hush", true},
		{"Addr", "POSTHORN_ADDR", "nowhere", false},
		{"Networks", "POSTHORN_ALLOW_PRIVATE_NETWORKS", "10.0.0.0", false},
		{"NetworksWithHostBits", "POSTHORN_ALLOW_PRIVATE_NETWORKS", "10.1.2.3/8", false},
		{"HTTP", "POSTHORN_ALLOW_HTTP", "perhaps", false},
		{"Schedule", "POSTHORN_RETRY_SCHEDULE", "5s,soon", false},
		{"Timeout", "POSTHORN_ATTEMPT_TIMEOUT", "15", false},
		{"TimeoutZero", "POSTHORN_ATTEMPT_TIMEOUT", "0s", false},
		{"Retention", "POSTHORN_RETENTION", "10m", false},
		{"OperatorKey", "POSTHORN_OPERATOR_KEY", "hush hush", true},
		{"Keyset", "POSTHORN_ENCRYPTION_KEYSET", `{"hush":1}`, true},
		{"DatabaseURL", "DATABASE_URL", "postgres://posthorn:hush@[::1/x", true},
		{"Exporter", "OTEL_TRACES_EXPORTER", "smoke", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			env := []string{"DATABASE_URL=" + pgtest.New(t).URL, c.variable + "=" + c.value}
			if c.variable != "POSTHORN_ADDR" {
				env = append(env, "POSTHORN_ADDR=127.0.0.1:0")
			}
			r := command(t, env, "serve")
			if r.status == 0 || !strings.Contains(r.err, c.variable) {
				t.Errorf("status %d: %s", r.status, r.err)
			}
			if c.secret && strings.Contains(r.err, "hush") {
				t.Errorf("the value is shown: %s", r.err)
			}
		})
	}
}

func TestWhatNeedsADatabaseSaysSo(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"serve", "migrate up", "migrate down", "migrate status", "keys list", "doctor", "sample-shop"} {
		// An empty variable is none.
		r := command(t, []string{"DATABASE_URL="}, strings.Fields(args)...)
		if r.status != exitFailure || !strings.Contains(r.err, "DATABASE_URL is not set") {
			t.Errorf("%s: status %d: %s", args, r.status, r.err)
		}
	}
}

func TestHelpNamesEveryFlagWithItsVariable(t *testing.T) {
	t.Parallel()
	help := strings.Join(strings.Fields(succeed(t, []string{"POSTHORN_OPERATOR_KEY=hush"}, "serve", "--help").out), " ")
	for _, name := range []string{"DATABASE_URL", "POSTHORN_ADDR", "POSTHORN_OPERATOR_KEY", "POSTHORN_ENCRYPTION_KEYSET",
		"POSTHORN_ALLOW_PRIVATE_NETWORKS", "POSTHORN_ALLOW_HTTP", "POSTHORN_RETRY_SCHEDULE", "POSTHORN_ATTEMPT_TIMEOUT", "POSTHORN_RETENTION"} {
		flag := "--" + strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "POSTHORN_"), "_", "-"))
		if !strings.Contains(help, "$"+name) || !strings.Contains(help, flag) {
			t.Errorf("--help lacks %s or %s", name, flag)
		}
	}
	for _, value := range []string{":8080", "5s,5m,30m,2h,5h,10h,14h,20h,24h", "15s", "720h", "Default: false"} {
		if !strings.Contains(help, value) {
			t.Errorf("--help lacks the default %s", value)
		}
	}
	if strings.Contains(help, "hush") {
		t.Error("--help shows a secret")
	}
	bare := succeed(t, nil)
	for _, name := range []string{"dev", "serve", "migrate up", "keys create", "keyset rotate", "doctor", "bench", "version"} {
		if !strings.Contains(bare.out, "\n  "+name+" ") {
			t.Errorf("posthorn alone does not list %s", name)
		}
	}
	if strings.Contains(bare.out, "sample-shop") || strings.Contains(bare.out, "health") {
		t.Error("hidden commands are listed")
	}
}

func TestVersionWorksWhateverTheEnvironment(t *testing.T) {
	t.Parallel()
	r := succeed(t, []string{"POSTHORN_NONSENSE=1"}, "version")
	want := regexp.MustCompile(`^posthorn \S+\ncommit \S+\n` + regexp.QuoteMeta(runtime.Version()) + ` \S+\n$`)
	if !want.MatchString(r.out) {
		t.Errorf("it prints %q", r.out)
	}
}

func TestKeysetsAreOfOneLine(t *testing.T) {
	t.Parallel()
	first := succeed(t, nil, "keyset", "create").out
	if strings.Count(first, "\n") != 1 || !json.Valid([]byte(first)) {
		t.Errorf("create prints %d lines", strings.Count(first, "\n"))
	}
	if r := command(t, nil, "keyset", "rotate"); r.status != exitFailure || !strings.Contains(r.err, "POSTHORN_ENCRYPTION_KEYSET") {
		t.Errorf("rotate of nothing: status %d: %s", r.status, r.err)
	}
}

func TestBenchPrintsATableOrJSONAndDraws(t *testing.T) {
	t.Parallel()
	drawing := filepath.Join(t.TempDir(), "bench.svg")
	table := succeed(t, nil, "bench", "--only=latency", "--latency-for=200ms", "--svg", drawing).out
	for _, row := range []string{"100 events/s", "1,000 events/s", "p50", "p99"} {
		if !strings.Contains(table, row) {
			t.Errorf("the table lacks %s:\n%s", row, table)
		}
	}
	drawn, err := os.ReadFile(drawing)
	if must(t, err); !bytes.HasPrefix(drawn, []byte("<svg ")) {
		t.Errorf("the drawing begins with %.40q", drawn)
	}
	var report bench.Report
	must(t, json.Unmarshal([]byte(succeed(t, nil, "bench", "--only=idle", "--idle-for=100ms", "--json").out), &report))
	if report.Idle == nil || report.Idle.Seconds <= 0 || report.Throughput != nil {
		t.Errorf("measured %+v", report)
	}
}

func TestBenchRefusesWhatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	env := []string{"DATABASE_URL=" + db.URL}
	if r := command(t, env, "bench", "--only=speed"); r.status != exitFailure || !strings.Contains(r.err, "throughput, payloads") {
		t.Errorf("status %d: %s", r.status, r.err)
	}
	succeed(t, env, "migrate", "up")
	succeed(t, env, "keys", "create", "--role=operator")
	if r := command(t, env, "bench", "--database-url="+db.URL); r.status != exitFailure || !strings.Contains(r.err, "not empty") {
		t.Errorf("of a database in use: status %d: %s", r.status, r.err)
	}
}

func TestTheDeploymentFilesFlagsParse(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"serve --migrate", "health", "sample-shop --addr=:8081 --interval=2s",
		"sample-subscriber --addr=:8082 --posthorn-url=http://posthorn:8080 --public-url=http://sample-subscriber:8082",
	} {
		succeed(t, nil, append(strings.Fields(line), "--help")...)
	}
}
