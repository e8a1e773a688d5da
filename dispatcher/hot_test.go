package dispatcher

import (
	"testing"

	"github.com/posthorn/posthorn/outbox"
)

// An index on what the first attempt's success changes, or with a condition on it, would
// have every delivery entered into all indexes anew.
func TestRecorder_UpdatesStayOnTheirPage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, nil)
	b.endpoint(t, r.URL)
	const n = 500
	for range n {
		b.publish(t, outbox.Event{})
	}
	stop := b.run(t)
	settled(t, b.Pool)
	stop() // its sessions' end tells the statistics
	eventually(t, b.Pool, "the updates are counted",
		`SELECT sum(n_tup_upd) >= $1 FROM pg_stat_user_tables WHERE relname LIKE 'deliveries\_%'`, n)
	if hot := value[float64](t, b.Pool, `SELECT sum(n_tup_hot_upd)::float8 / sum(n_tup_upd) FROM pg_stat_user_tables WHERE relname LIKE 'deliveries\_%'`); hot < .9 {
		t.Errorf("%.0f %% of the updates stayed on their page", 100*hot)
	} else {
		t.Logf("%.1f %%", 100*hot)
	}
}
