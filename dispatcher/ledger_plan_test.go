package dispatcher

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/outbox"
)

// pagesSQL counts the pages of events, routings and deliveries that were looked at,
// their indexes' not, by sessions that have ended; and how many there are.
const pagesSQL = `
	SELECT sum(s.heap_blks_read + s.heap_blks_hit)::bigint, sum(pg_relation_size(s.relid) / 8192)::bigint
	FROM pg_statio_user_tables s
	WHERE schemaname = 'posthorn' AND relname ~ '^(deliveries|outbox|routings)_[0-9]+$'`

func pages(t *testing.T, b *bundle) (seen, all int64) {
	t.Helper()
	must(t, b.Pool.QueryRow(t.Context(), pagesSQL).Scan(&seen, &all))
	return seen, all
}

// With an hour's settled work in the tables, reading the ledger looks at the pages of
// what is young and of what waits, and an audit of the next minute at no more.
func TestLedger_DoesNotReadWhatIsSettled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	filler, err := pgxpool.New(t.Context(), b.URL)
	must(t, err)
	must(t, pgx.BeginFunc(t.Context(), filler, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), fillSQL)
		return err
	}))
	// The last ones retry, are held and dead.
	_, err = filler.Exec(t.Context(), `UPDATE posthorn.deliveries SET status = (ARRAY['retrying', 'held', 'dead'])[1 + job_id % 3],
		next_attempt_at = CASE WHEN job_id % 3 = 0 THEN now() END WHERE job_id > 24900`)
	must(t, err)
	must(t, (&auditor{pool: filler}).Work(t.Context(), nil))
	_, err = filler.Exec(t.Context(), `VACUUM ANALYZE`)
	must(t, err)
	filler.Close()
	alone(t, b)
	before, all := pages(t, b)

	n := b.stillNode(t)
	b.endpoint(t, nowhere)
	for range 50 {
		b.publish(t, outbox.Event{})
	}
	n.relayAll(t)
	must(t, n.node.conn.Close(t.Context()))
	reader, err := pgxpool.New(t.Context(), b.URL)
	must(t, err)
	const reads = 10 // the last of them with plans for any time
	for range reads {
		l, err := ReadLedger(t.Context(), reader)
		must(t, err)
		// Nothing of the fill has a job.
		if l.Events != 25_050 || l.Deliveries[Delivered] != 100_000-400 || l.Deliveries[Pending] != 50 || l.Unaccounted != l.Deliveries[Retrying] {
			t.Fatalf("%+v", l)
		}
	}
	reader.Close()
	alone(t, b)
	after, _ := pages(t, b)
	if seen := (after - before) / reads; all < 4000 || seen > all/10 {
		t.Errorf("a reading looks at %d of %d pages", seen, all)
	}
}
