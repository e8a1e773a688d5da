package dispatcher

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/internal/pgtest"
	"github.com/posthorn/posthorn/internal/sqlcheck"
	"github.com/posthorn/posthorn/outbox"
)

func TestSQL_FitsTheSchema(t *testing.T) {
	t.Parallel()
	sqlcheck.PrepareAll(t, pgtest.New(t).Pool, ".")
}

// fillSQL makes an hour's old, finished work: 100,000 deliveries of 25,000 events.
const fillSQL = `
	CREATE TEMPORARY TABLE filling AS
		SELECT posthorn.uuid_v7(at) AS id, n, at FROM generate_series(1, 25000) AS n,
			LATERAL (SELECT now() - interval '1 hour' + n * interval '0.1 second' AS at) x;
	INSERT INTO posthorn.outbox (id, created_at, event_type, payload)
		SELECT id, at, 'order.old', json_build_object('n', n, 'text', repeat('x', 200)) FROM filling;
	TRUNCATE posthorn.outbox_pending;
	INSERT INTO posthorn.routings (event_id, created_at, matched, revision) SELECT id, at, 4, 1 FROM filling;
	INSERT INTO posthorn.deliveries (id, event_id, event_created_at, endpoint_id, tenant_id, event_type, status, attempts, job_id, finished_at)
		SELECT posthorn.uuid_v7(at), f.id, at, e.id, 'default', 'order.old', 'delivered', 1, f.n, at
		FROM filling f, (SELECT gen_random_uuid() AS id FROM generate_series(1, 4)) e;
	INSERT INTO posthorn.attempts (delivery_id, number, started_at, duration_us, endpoint_version, request_headers, response_status)
		SELECT id, 1, finished_at, 1000, 1, 'content-type: application/json', 204 FROM posthorn.deliveries`

// scansSQL counts the reads of whole partitions that have rows. What finished
// sessions did is in it, what a session at work does comes later.
const scansSQL = `
	SELECT relname, seq_scan FROM pg_stat_user_tables
	WHERE schemaname = 'posthorn' AND relname ~ '^(deliveries|attempts|outbox|routings)_[0-9]+$' AND pg_table_size(relid) > 1000000`

// alone waits until only the test's own pool is connected.
func alone(t *testing.T, b *bundle) {
	t.Helper()
	eventually(t, b.Pool, "the other sessions are gone", `SELECT count(*) <= $1 FROM pg_stat_activity
		WHERE datname = current_database() AND backend_type = 'client backend'`, b.Pool.Stat().TotalConns())
}

func wholeReads(t *testing.T, b *bundle) map[string]int64 {
	t.Helper()
	rows, err := b.Pool.Query(t.Context(), scansSQL)
	must(t, err)
	reads := map[string]int64{}
	var name string
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&name, &n}, func() error {
		reads[name] = n
		return nil
	})
	must(t, err)
	if len(reads) < 4 {
		t.Fatalf("only %v have rows", reads)
	}
	return reads
}

// A node at work beside a day's finished rows must find its own by an index:
// claims, payloads, results, retries, take-overs, sweep, backlog, a retry by hand.
func TestSQL_NothingInTheHotPathReadsATableWhole(t *testing.T) {
	t.Parallel()
	b := setup(t)
	filler, err := pgxpool.New(t.Context(), b.URL)
	must(t, err)
	must(t, pgx.BeginFunc(t.Context(), filler, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), fillSQL)
		return err
	}))
	_, err = filler.Exec(t.Context(), `ANALYZE`)
	must(t, err)
	// What is new the audit reads whole, once; that is for another test.
	_, err = filler.Exec(t.Context(), `UPDATE posthorn.ledger_state SET audited_to = now() + interval '1 hour'`)
	must(t, err)
	filler.Close() // a session's end writes its statistics
	alone(t, b)
	before := wholeReads(t, b)

	fine := newReceiver(t, nil)
	broken := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	b.endpoint(t, fine.URL)
	b.endpoint(t, broken.URL)
	b.endpoint(t, fine.URL+"/slow", "large")
	stop := b.run(t, func(c *Config) {
		c.SweepGrace, c.SweepInterval = 50*time.Millisecond, time.Second
		c.Retry.Schedule = []time.Duration{50 * time.Millisecond}
	})
	const published = 50
	for range published {
		b.publish(t, outbox.Event{})
	}
	b.publish(t, outbox.Event{Type: "large", Payload: []byte(`"` + strings.Repeat("x", 2*maxKeptPayload) + `"`)})
	for range published + 2 {
		fine.next(t)
	}
	for range 2 * (published + 1) {
		broken.next(t)
	}
	swept := value[time.Time](t, b.Pool, `SELECT swept_to FROM posthorn.sweep_state`)
	eventually(t, b.Pool, "the sweep has run", `SELECT swept_to > $1 FROM posthorn.sweep_state`, swept)
	stop()
	work, err := pgxpool.New(t.Context(), b.URL)
	must(t, err)
	_, err = ReadBacklog(t.Context(), work)
	must(t, err)
	redeliverer, err := NewRedeliverer(work)
	must(t, err)
	dead := value[DeadLetterID](t, work, `SELECT id FROM posthorn.dead_letters LIMIT 1`)
	_, err = redeliverer.Replay(t.Context(), "", dead)
	must(t, err)
	work.Close()
	alone(t, b)
	for name, n := range wholeReads(t, b) {
		if n != before[name] {
			t.Errorf("%s was read whole %d times", name, n-before[name])
		}
	}
}
