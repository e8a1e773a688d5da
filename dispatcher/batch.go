package dispatcher

import (
	"time"

	"github.com/posthorn/posthorn/internal/typeid"
	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// batch is what one relay transaction writes.
type batch struct {
	at         time.Time // by the database's clock
	startedAt  time.Time // the same moment by this process's
	events     int
	deliveries int
	inOrder    int // deliveries that wait for those of their ordering key

	chunks []*relayedChunk
	open   map[chunkKey]*relayedChunk // the chunk that has room still

	eventIDs   uuids
	eventTimes []time.Time
	matches    []int32
}

// way is where the relay sends a chunk.
type way int

const (
	toRiver   way = iota // a job that any node fetches
	toSenders            // to this process, which has reserved room
	toBacklog            // the endpoint can't take it at once
	toHold               // the endpoint is paused or disabled
)

// relayedChunk is a chunk and what the database needs to know of it beyond.
type relayedChunk struct {
	chunk
	sub *subscriptions.Subscription
	way way
}

// chunkKey tells the chunks apart that are filled side by side.
type chunkKey struct {
	endpointID subscriptions.EndpointID
	inOrder    bool
}

func newBatch(at time.Time) *batch {
	return &batch{at: at, startedAt: time.Now(), open: map[chunkKey]*relayedChunk{}}
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
		inOrder := sub.Ordering == subscriptions.ByKey && claimed.OrderingKey != ""
		key := chunkKey{sub.ID, inOrder}
		c := b.open[key]
		if c == nil {
			c = &relayedChunk{chunk: chunk{endpointID: sub.ID}, sub: sub}
			if inOrder {
				c.way = toBacklog
			}
			b.open[key] = c
			b.chunks = append(b.chunks, c)
		}
		d := delivery{chunk: &c.chunk, event: e}
		if inOrder {
			d.key = orderingKey(sub, claimed)
			b.inOrder++
		}
		c.deliveries = append(c.deliveries, d)
		if len(c.deliveries) == chunkSize {
			delete(b.open, key)
		}
	}
}

// orderingKey is the key of one tenant's events, also at an endpoint of all tenants.
func orderingKey(sub *subscriptions.Subscription, claimed outbox.Claimed) string {
	if sub.TenantID == subscriptions.AllTenants {
		return claimed.TenantID + "/" + claimed.OrderingKey
	}
	return claimed.OrderingKey
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

// position gives the deliveries in order their places: those of one endpoint stand
// in the chunks in the order of their events.
func (b *batch) position(first int64) {
	for _, c := range b.chunks {
		for i := range c.deliveries {
			if d := &c.deliveries[i]; d.key != "" {
				d.position = first
				first++
			}
		}
	}
}

// direct decides each chunk's way, and reserves the room of those for the senders.
func (b *batch) direct(l *lanes, noHandoff bool) {
	for _, c := range b.chunks {
		switch {
		case c.sub.Status != subscriptions.Enabled:
			c.way = toHold
		case c.way == toBacklog || noHandoff:
		case l.reserve(c.sub, len(c.deliveries)):
			c.way = toSenders
		default:
			c.way = toBacklog
		}
	}
}

// parcels packs the chunks for the senders, neighbours together, so that their ids lie
// in one range: each parcel is as large as a full chunk at most.
func (b *batch) parcels() [][]*relayedChunk {
	var all [][]*relayedChunk
	var last *parcel
	for _, c := range b.chunks {
		if c.way != toSenders {
			continue
		}
		if last == nil || last.size+len(c.deliveries) > chunkSize {
			last = &parcel{}
			all = append(all, nil)
		}
		last.pack(&c.chunk)
		all[len(all)-1] = append(all[len(all)-1], c)
	}
	return all
}

// backlogged are the endpoints whose backlogs the batch adds to.
func (b *batch) backlogged() []subscriptions.EndpointID {
	var ids []subscriptions.EndpointID
	seen := map[subscriptions.EndpointID]bool{}
	for _, c := range b.chunks {
		if c.way == toBacklog && !seen[c.endpointID] {
			seen[c.endpointID] = true
			ids = append(ids, c.endpointID)
		}
	}
	return ids
}

// handOff gives the committed chunks that have room reserved to the senders.
func (b *batch) handOff(l *lanes, length time.Duration) {
	leases := map[*parcel]*lease{}
	for _, c := range b.chunks {
		if c.way != toSenders {
			continue
		}
		if leases[c.parcel] == nil {
			leases[c.parcel] = newLease(b.startedAt, length)
		}
		c.lease = leases[c.parcel]
		l.take(&c.chunk)
	}
}

// abandon gives the room back: the transaction has not committed.
func (b *batch) abandon(l *lanes) {
	if b == nil {
		return
	}
	for _, c := range b.chunks {
		if c.way == toSenders {
			l.unreserve(c.endpointID, len(c.deliveries))
		}
	}
}
