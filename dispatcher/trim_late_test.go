package dispatcher

import (
	"context"
	"testing"
	"time"
)

// What becomes needed between the copying and the swap is copied again first.
func TestRetention_KeepsWhatIsNeededOnlySinceTheCopying(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*testing.T, *bundle, DeliveryID){
		"a delivery is retried by hand and dies again": func(t *testing.T, b *bundle, id DeliveryID) {
			execute(t, b, `UPDATE posthorn.deliveries SET status = 'dead', attempts = attempts + 1 WHERE id = $1`, id)
			execute(t, b, `INSERT INTO posthorn.dead_letters (id, delivery_id, event_id, event_created_at, endpoint_id, tenant_id, event_type,
					attempts, fingerprint, last_error_kind, last_error)
				SELECT posthorn.uuid_v7(), id, event_id, event_created_at, endpoint_id, tenant_id, event_type, attempts, 'x', 'reset', 'x'
				FROM posthorn.deliveries WHERE id = $1`, id)
		},
		"a producer's old transaction commits": func(t *testing.T, b *bundle, id DeliveryID) {
			execute(t, b, `INSERT INTO posthorn.outbox (event_type, payload, created_at)
				SELECT 'order.late', '1', event_created_at FROM posthorn.deliveries WHERE id = $1`, id)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			_, delivered := deadDay(t, b, 10)
			staged := 0
			r := b.retention(mostNeeded, func(p commitPoint) {
				if p != trimStaged {
					return
				}
				if staged++; staged == 1 {
					change(t, b, delivered)
				}
			})
			must(t, r.run(t.Context()))
			if staged != 2 {
				t.Errorf("it was copied %d times, want 2", staged)
			}
			if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.outbox_pending p
				WHERE NOT EXISTS (SELECT FROM posthorn.outbox o WHERE o.id = p.event_id)`); n != 0 {
				t.Errorf("%d pending events are not stored", n)
			}
			if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.dead_letters l WHERE resolved_at IS NULL
				AND NOT EXISTS (SELECT FROM posthorn.deliveries d WHERE d.id = l.delivery_id)`); n != 0 {
				t.Errorf("%d dead letters have no delivery", n)
			}
		})
	}
}

// The swap sees what was committed while it waited for its locks, whatever the
// database's default isolation.
func TestRetention_SwapsWithANewLook(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, delivered := deadDay(t, b, 10)
	name := value[string](t, b.Pool, `SELECT current_database()::text`)
	execute(t, b, `ALTER DATABASE "`+name+`" SET default_transaction_isolation = 'repeatable read'`)
	b.Pool.Reset()
	conn, err := b.Pool.Acquire(t.Context())
	must(t, err)
	defer conn.Release()
	tx, err := conn.Begin(t.Context())
	must(t, err)
	committed, staged := make(chan error, 1), 0
	r := b.retention(mostNeeded, func(p commitPoint) {
		if p != trimStaged {
			return
		}
		if staged++; staged > 1 {
			return
		}
		_, err := tx.Exec(t.Context(), `UPDATE posthorn.deliveries SET status = 'retrying', next_attempt_at = now(), job_id = 1, finished_at = NULL WHERE id = $1`, delivered)
		must(t, err)
		time.AfterFunc(60*time.Millisecond, func() { committed <- tx.Commit(context.Background()) }) // while the swap waits
	})
	must(t, r.run(t.Context()))
	must(t, <-committed)
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.deliveries WHERE id = $1`, delivered); n != 1 {
		t.Error("a delivery that was retried meanwhile is gone")
	}
}
