package dispatcher

import (
	"time"

	"github.com/posthorn/posthorn/internal/typeid"
	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// batch is what one relay transaction writes.
type batch struct {
	at         time.Time
	events     int
	deliveries int

	chunks []*relayedChunk
	open   map[subscriptions.EndpointID]*relayedChunk // the chunk that has room still

	eventIDs   uuids
	eventTimes []time.Time
	matches    []int32
}

// relayedChunk is a chunk and what the database needs to know of it beyond.
type relayedChunk struct {
	chunk
	tenantID  string
	handedOff bool
}

func newBatch(at time.Time) *batch {
	return &batch{at: at, open: map[subscriptions.EndpointID]*relayedChunk{}}
}

// add makes a delivery of the event for each subscription, in the chunks of
// their endpoints.
func (b *batch) add(claimed outbox.Claimed, matched []*subscriptions.Subscription) {
	b.events++
	b.deliveries += len(matched)
	b.eventIDs = append(b.eventIDs, uuidOf(claimed.ID))
	b.eventTimes = append(b.eventTimes, claimed.CreatedAt)
	b.matches = append(b.matches, int32(len(matched)))
	if len(matched) == 0 {
		return
	}
	e := newEvent(claimed)
	for _, sub := range matched {
		c := b.open[sub.ID]
		if c == nil {
			c = &relayedChunk{chunk: chunk{endpointID: sub.ID}, tenantID: sub.TenantID}
			b.open[sub.ID] = c
			b.chunks = append(b.chunks, c)
		}
		c.deliveries = append(c.deliveries, delivery{chunk: &c.chunk, event: e})
		if len(c.deliveries) == chunkSize {
			delete(b.open, sub.ID)
		}
	}
}

// nameDeliveries gives the deliveries their ids, chunk after chunk, in one run.
func (b *batch) nameDeliveries() {
	id := typeid.NewAt[deliveryKind](b.at)
	for _, c := range b.chunks {
		for i := range c.deliveries {
			c.deliveries[i].id = id
			id = id.Next()
		}
	}
}

// handOff gives the committed chunks that have room reserved to the senders.
func (b *batch) handOff(l *lanes) {
	for _, c := range b.chunks {
		if c.handedOff {
			l.take(&c.chunk)
		}
	}
}

// abandon gives the room back: the transaction has not committed.
func (b *batch) abandon(l *lanes) {
	if b == nil {
		return
	}
	for _, c := range b.chunks {
		if c.handedOff {
			l.unreserve(c.endpointID, len(c.deliveries))
		}
	}
}

const insertRoutingsSQL = `
	INSERT INTO posthorn.routings (event_id, created_at, matched, revision)
	SELECT event_id, created_at, matched, $4 FROM unnest($1::uuid[], $2::timestamptz[], $3::int[]) AS r (event_id, created_at, matched)`

func (b *batch) routingArguments(revision int64) []any {
	return []any{b.eventIDs, b.eventTimes, b.matches, revision}
}

// A delivery that is handed off gets no next_attempt_at: the result comes in a
// moment, and the row is then updated without touching an index.
const insertDeliveriesSQL = `
	INSERT INTO posthorn.deliveries (id, event_id, event_created_at, endpoint_id, tenant_id, event_type, job_id, next_attempt_at, created_at)
	SELECT id, event_id, event_created_at, endpoint_id, tenant_id, event_type, job_id, CASE WHEN waits THEN $9::timestamptz END, $9
	FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::uuid[], $5::text[], $6::text[], $7::bigint[], $8::bool[])
	AS d (id, event_id, event_created_at, endpoint_id, tenant_id, event_type, job_id, waits)`

func (b *batch) deliveryArguments() []any {
	n := b.deliveries
	ids, eventIDs, endpointIDs := make(uuids, 0, n), make(uuids, 0, n), make(uuids, 0, n)
	eventTimes, tenants, types := make([]time.Time, 0, n), make([]string, 0, n), make([]string, 0, n)
	jobs, waits := make([]int64, 0, n), make([]bool, 0, n)
	for _, c := range b.chunks {
		for i := range c.deliveries {
			d := &c.deliveries[i]
			ids = append(ids, uuidOf(d.id))
			eventIDs = append(eventIDs, uuidOf(d.event.id))
			endpointIDs = append(endpointIDs, uuidOf(c.endpointID))
			eventTimes = append(eventTimes, d.event.createdAt)
			tenants = append(tenants, c.tenantID)
			types = append(types, d.event.eventType)
			jobs = append(jobs, c.jobID)
			waits = append(waits, !c.handedOff)
		}
	}
	return []any{ids, eventIDs, eventTimes, endpointIDs, tenants, types, jobs, unlessEmpty(waits), b.at}
}
