package dispatcher

import (
	"testing"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/posthorn/posthorn/outbox"
)

// River's completer writes in batches: its word on the job's last run may come when
// the job has been released, and fetched again.
func TestWorker_KeepsAJobThatRiverCallsCompletedMeanwhile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t, func(c *Config) { c.NoHandoff = true })
	b.endpoint(t, nowhere)
	b.publish(t, outbox.Event{})
	n.relayAll(t)
	job := &river.Job[deliverArgs]{JobRow: &rivertype.JobRow{}}
	must(t, b.Pool.QueryRow(t.Context(), `UPDATE river.river_job SET state = 'running', attempted_by = array[$1]
		WHERE kind = 'deliver' RETURNING id, args`, n.config.NodeName).Scan(&job.ID, &job.Args))
	c := n.config
	w := &worker{pool: c.Pool, directory: c.Directory, lanes: n.lanes, node: c.NodeName, lease: c.Lease,
		reaching: func(p commitPoint) {
			if p == workerFetched {
				b.exec(t, `UPDATE river.river_job SET state = 'completed', finalized_at = now()`)
			}
		}}
	must(t, w.Work(t.Context(), job))
	b.wantJob(t, "scheduled")
	n.take(t, 1)
	balanced(t, b.Pool)
}
