package dispatcher

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// batchRows writes what the relay has routed. It is the relay's alone, who keeps the
// room from batch to batch.
type batchRows struct{ routings, deliveries copyRows }

const copyRoutingsSQL = `COPY posthorn.routings (event_id, created_at, matched, revision) FROM STDIN (FORMAT binary)`

// A delivery that is handed off gets no next_attempt_at: the result comes in a
// moment, and the row is then updated without touching an index. A held one gets
// none either, and no job.
const copyDeliveriesSQL = `COPY posthorn.deliveries (id, event_id, event_created_at, endpoint_id, tenant_id, event_type, job_id,
	next_attempt_at, status, ordering_key, ordering_position, created_at) FROM STDIN (FORMAT binary)`

// write writes the batch in tx.
func (r *batchRows) write(ctx context.Context, tx pgx.Tx, b *batch, revision int64) error {
	r.routings.reset()
	for i, id := range b.eventIDs {
		r.routings.row(4)
		r.routings.uuid(id)
		r.routings.timestamptz(b.eventTimes[i])
		r.routings.int4(b.matches[i])
		r.routings.int8(revision)
	}
	if err := r.routings.copyTo(ctx, tx, copyRoutingsSQL); err != nil {
		return err
	}
	if b.deliveries == 0 {
		return nil
	}
	r.deliveries.reset()
	for _, c := range b.chunks {
		c.addTo(&r.deliveries, b)
	}
	return r.deliveries.copyTo(ctx, tx, copyDeliveriesSQL)
}

// addTo adds the chunk's deliveries as rows of copyDeliveriesSQL.
func (c *relayedChunk) addTo(rows *copyRows, b *batch) {
	status, endpoint := Pending, uuidOf(c.endpointID)
	if c.way == toHold {
		status = Held
	}
	for i := range c.deliveries {
		d := &c.deliveries[i]
		rows.row(12)
		rows.uuid(uuidOf(d.id))
		rows.uuid(uuidOf(d.event.id))
		rows.timestamptz(d.event.createdAt)
		rows.uuid(endpoint)
		rows.text(c.sub.TenantID)
		rows.text(d.event.eventType)
		rows.int8OrNull(c.jobID)
		if c.way == toRiver || c.way == toBacklog {
			rows.timestamptz(b.at)
		} else {
			rows.null()
		}
		rows.text(string(status))
		rows.textOrNull(d.key)
		rows.int8OrNull(d.position)
		rows.timestamptz(b.at)
	}
}
