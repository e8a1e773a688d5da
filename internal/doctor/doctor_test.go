package doctor

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/internal/pgtest"
	"github.com/posthorn/posthorn/internal/sqlcheck"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestSQL_FitsTheSchema(t *testing.T) {
	t.Parallel()
	sqlcheck.PrepareAll(t, pgtest.New(t).Pool, ".")
}

// nodeLock is the advisory lock of a running node, as the dispatcher takes it.
const nodeLock = 0x70686f6e

// setup gives a database that nothing is wrong with: a node runs, and audit and
// sweep are where they should be.
func setup(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t)
	execute(t, db, `INSERT INTO posthorn.nodes (name, version) VALUES ('here', 'v1')`)
	execute(t, db, `UPDATE posthorn.ledger_state SET audited_to = now() - interval '2 minutes'`)
	conn, err := db.Pool.Acquire(t.Context())
	must(t, err)
	_, err = conn.Exec(t.Context(), fmt.Sprintf(`SELECT pg_advisory_lock(%d, number::int) FROM posthorn.nodes`, nodeLock))
	must(t, err)
	t.Cleanup(func() { conn.Hijack().Close(t.Context()) }) //nolint:errcheck // its end is all that is wanted
	return db
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func execute(t *testing.T, db *pgtest.DB, sql string) {
	t.Helper()
	if _, err := db.Pool.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

const (
	endpoint = `INSERT INTO posthorn.endpoints (id, tenant_id, url, event_types, version, revision, status, updated_at)
		VALUES ('00000000-0000-7000-8000-000000000001', 'shop', 'https://example.com/hush', '{*}', 1, 1, 'enabled', now() - interval '1 hour');`
	// delivered is what the statement after it changes.
	delivered = endpoint + `INSERT INTO posthorn.outbox (id, event_type, payload) VALUES ('00000000-0000-7000-8000-000000000002', 'a', '"hush"');
		DELETE FROM posthorn.outbox_pending;
		INSERT INTO posthorn.routings (event_id, created_at, matched, revision) SELECT id, created_at, 1, 1 FROM posthorn.outbox;
		INSERT INTO river.river_job (id, state, args, kind, max_attempts, queue) VALUES (1, 'scheduled', '{}', 'deliver', 1, 'deliver');
		INSERT INTO posthorn.deliveries (id, event_id, event_created_at, endpoint_id, tenant_id, event_type, status, job_id)
			SELECT posthorn.uuid_v7(), id, created_at, '00000000-0000-7000-8000-000000000001', 'shop', 'a', 'delivered', 1 FROM posthorn.outbox;`
	waiting = delivered + `UPDATE posthorn.deliveries SET status = 'retrying', next_attempt_at = now();`
	holding = delivered + `UPDATE posthorn.deliveries SET status = 'held';`
	failing = endpoint + `INSERT INTO posthorn.endpoint_health (endpoint_id, epoch, version, consecutive_failures, breaker, open_until, reason)
		VALUES ('00000000-0000-7000-8000-000000000001', 1, 1, 7, 'open', now() + interval '1 minute', 'failures');`
)

func TestExamine_FindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, sql string
		check     string
		state     State
		says      string // of the message or a detail
	}{
		{"Nothing", `SELECT 1`, "ledger", OK, "0 events and 0 deliveries"},
		{"AMigration", `DELETE FROM posthorn.migrations WHERE version_id = 3`, "migrations", Failure, "posthorn migrate up"},
		{"TheKeyset", `INSERT INTO posthorn.keysets (keyset) VALUES ('hush')`, "keyset", Warning, "POSTHORN_ENCRYPTION_KEYSET"},
		{"NoNode", `DELETE FROM posthorn.nodes`, "nodes", Failure, "start posthorn serve"},
		{"ADeadNode", `UPDATE posthorn.nodes SET number = DEFAULT`, "nodes", Failure, "start posthorn serve"},
		{"ANode", `SELECT 1`, "nodes", OK, "here, version v1"},
		{"PartitionsRunOut", `UPDATE posthorn.partitioned_tables SET days_ahead = 70 WHERE name = 'outbox'`, "partitions", Warning, "outbox has partitions for 60 days ahead, not 70"},
		{"NoPartitions", `DO $$ DECLARE child regclass; BEGIN FOR child IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'posthorn.attempts'::regclass
			LOOP EXECUTE 'DROP TABLE ' || child; END LOOP; END $$`, "partitions", Failure, "create_partitions()"},
		{"ADayLeft", `INSERT INTO posthorn.days_left (day, needed) VALUES ('2026-01-31', 50001)`, "retention", Warning, "2026-01-31: 50001 events"},
		{"ADelivery", delivered, "ledger", OK, "1 event and 1 delivery"},
		{"ALostDelivery", delivered + `DELETE FROM posthorn.deliveries`, "ledger", Failure, "1 unaccounted for"},
		{"ALostJob", waiting + `DELETE FROM river.river_job`, "ledger", Failure, "1 unfinished delivery without a job"},
		{"ALongAudit", `UPDATE posthorn.ledger_state SET audited_to = now() - interval '1 hour'`, "audit", Warning, "catches up"},
		{"ALongSweep", `UPDATE posthorn.sweep_state SET swept_to = now() - interval '1 hour'`, "sweep", Warning, "1h0m0s"},
		{"SlowRouting", `INSERT INTO posthorn.outbox (event_type, payload, created_at) VALUES ('a', '1', now() - interval '1 minute')`, "routing", Warning, "1 event to be routed, the oldest for 1m"},
		{"NoRouting", `INSERT INTO posthorn.outbox (event_type, payload, created_at) VALUES ('a', '1', now() - interval '1 hour')`, "routing", Failure, "1 event to be routed"},
		{"ASlowJob", waiting + `UPDATE river.river_job SET state = 'available', scheduled_at = now() - interval '3 minutes'`, "jobs", Warning, "1 job due for up to 3m"},
		{"NoJob", waiting + `UPDATE river.river_job SET state = 'available', scheduled_at = now() - interval '1 hour'`, "jobs", Failure, "1 job due"},
		{"AnOldDelivery", waiting + `UPDATE posthorn.deliveries SET event_created_at = now() - interval '5 days'`, "oldest unsent", Warning, "5 days ago"},
		{"AYoungDelivery", waiting, "oldest unsent", OK, "The oldest unsent event is of"},
		{"ABacklog", waiting, "backlog", OK, "ep_0000000000e008000000000001: 1"},
		{"ALongBacklog", waiting + `INSERT INTO posthorn.deliveries (id, event_id, event_created_at, endpoint_id, tenant_id, event_type, status, job_id, next_attempt_at)
			SELECT posthorn.uuid_v7(), event_id, event_created_at, endpoint_id, tenant_id, event_type, status, job_id, now() FROM posthorn.deliveries, generate_series(1, 10000)`,
			"backlog", Warning, "10001 deliveries waiting"},
		{"ABreaker", failing, "breakers", Warning, "ep_0000000000e008000000000001: failures, 7 failures in a row"},
		{"ABreakerOfBefore", failing + `UPDATE posthorn.endpoints SET health_epoch = 2`, "breakers", OK, "No endpoint"},
		{"Paused", holding + `UPDATE posthorn.endpoints SET status = 'paused'`, "held", OK, "1 delivery held for paused"},
		{"Disabled", holding + `UPDATE posthorn.endpoints SET status = 'disabled'`, "held", Warning, "/resume"},
		{"Stray", holding, "held", Warning, "pause and resume"},
		{"Passing", holding + `UPDATE posthorn.endpoints SET updated_at = now()`, "held", OK, "0 deliveries held"},
		{"ADeadLetter", delivered + `INSERT INTO posthorn.dead_letters (id, delivery_id, event_id, event_created_at, endpoint_id, tenant_id, event_type, attempts, last_error_kind, last_error, fingerprint)
			SELECT posthorn.uuid_v7(), id, event_id, event_created_at, endpoint_id, tenant_id, event_type, 3, 'timeout', 'hush', 'x' FROM posthorn.deliveries`,
			"dead letters", OK, "1 dead letter open, 1 of the last day"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := setup(t)
			execute(t, db, c.sql)
			done := Examine(t.Context(), db.Pool, Options{Deep: true})
			at := slices.IndexFunc(done, func(d Check) bool { return d.Name == c.check })
			if at < 0 {
				t.Fatalf("%s is not among %v", c.check, done)
			}
			got := done[at]
			if text := strings.Join(append(got.Details, got.Message), "\n"); got.State != c.state || !strings.Contains(text, c.says) {
				t.Errorf("%s: %s\n%s", got.Name, got.State, text)
			}
			if text := fmt.Sprint(done); strings.Contains(text, "hush") {
				t.Errorf("a secret is shown: %s", text)
			}
		})
	}
}

func TestExamine_FindsNothingWrongWhereNothingIs(t *testing.T) {
	t.Parallel()
	db := setup(t)
	execute(t, db, delivered)
	done := Examine(t.Context(), db.Pool, Options{Deep: true})
	for _, c := range done {
		if c.State != OK || !strings.HasSuffix(c.Message, ".") {
			t.Errorf("%+v", c)
		}
	}
	if len(done) != len(checks)+3 || Failures(done) != 0 {
		t.Errorf("%d checks, %d failures", len(done), Failures(done))
	}
	if shallow := Examine(t.Context(), db.Pool, Options{}); len(shallow) != len(done)-1 {
		t.Errorf("%d checks without the deep one", len(shallow))
	}
}

func TestExamine_DeepFindsWhatWasAccountedFor(t *testing.T) {
	t.Parallel()
	db := setup(t)
	execute(t, db, delivered)
	execute(t, db, `UPDATE posthorn.ledger_state SET audited_to = now() + interval '1 minute'`)
	execute(t, db, `DELETE FROM posthorn.deliveries`)
	for _, c := range Examine(t.Context(), db.Pool, Options{Deep: true}) {
		if want := map[string]State{"ledger": OK, "deep ledger": Failure}[c.Name]; want != "" && c.State != want {
			t.Errorf("%+v, want %s", c, want)
		}
	}
}

func TestExamine_StopsWhereThereIsNoDatabase(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), "postgres://posthorn:hush@127.0.0.1:1/away")
	must(t, err)
	defer pool.Close()
	done := Examine(t.Context(), pool, Options{})
	if len(done) != 1 || Failures(done) != 1 || strings.Contains(done[0].Message, "hush") {
		t.Errorf("%+v", done)
	}
}

func TestShow(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		1500 * time.Microsecond: "2ms", 90 * time.Second: "1m30s", 3*time.Hour + 10*time.Minute: "3 hours", 73 * time.Hour: "3 days",
	} {
		if got := show(d); got != want {
			t.Errorf("%s is shown as %s, want %s", d, got, want)
		}
	}
}
