package dispatcher

import (
	"testing"
	"time"
)

// Two requests for one delivery can be under way where a lease was lost. Their results
// in one batch: the one that the row follows is the one that counts.
func TestResultRows_OneOfTwoResultsOfADeliveryCounts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	d := &delivery{chunk: &chunk{}, id: floor(time.Now())}
	execute(t, b, `INSERT INTO posthorn.deliveries (id, event_id, event_created_at, endpoint_id, tenant_id, event_type, status)
		VALUES ($1, $1, now(), $1, 't', 'a.b', 'pending')`, d.id)
	batch := []result{
		{delivery: d, attempt: &attempt{status: 200}, outcome: outcome{status: Delivered}},
		{delivery: d, attempt: &attempt{status: 500, verdict: Verdict{Kind: KindHTTPStatus}}, outcome: outcome{status: Retrying}},
	}
	rows := newResultRows(batch)
	rows.retryAt(d.id, time.Now(), 7)
	found, err := b.Pool.Query(t.Context(), recordSQL, rows.arguments()...)
	must(t, err)
	must(t, rows.scanCounted(found))
	status := value[string](t, b.Pool, `SELECT status FROM posthorn.deliveries WHERE id = $1`, d.id)
	for i, counted := range rows.counted {
		if counted != (string(batch[i].outcome.status) == status) {
			t.Errorf("the delivery is %s; result %d, %s, counted %t", status, i, batch[i].outcome.status, counted)
		}
	}
}
