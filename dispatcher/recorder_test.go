package dispatcher

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A job that went before its results would leave deliveries that nobody owns; one
// that outlived them is only work to do.
func TestRecorder_ResultsAndTheEndOfTheirJobAreOneCommit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	seen := map[commitPoint]string{}
	n := b.stillNode(t, func(c *Config) {
		c.reaching = func(p commitPoint) { // on the test's goroutine: nothing runs by itself here
			seen[p] = value[string](t, b.Pool, `SELECT concat((SELECT count(*) FROM posthorn.deliveries WHERE status = 'delivered'), ' delivered, ',
				(SELECT count(*) FROM posthorn.attempts), ' attempts, ', (SELECT count(*) FROM river.river_job), ' jobs')`)
		}
	})
	d := b.relayed(t, n, 1)[0]
	clear(seen)
	n.recorder.record(t.Context(), []result{n.answered(d, 200)})
	want := map[commitPoint]string{
		recorderBefore:      "0 delivered, 0 attempts, 1 jobs",
		recorderUncommitted: "0 delivered, 0 attempts, 1 jobs",
		recorderCommitted:   "1 delivered, 1 attempts, 0 jobs",
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("what others see (-want +got):\n%s", diff)
	}
}
