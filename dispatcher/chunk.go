package dispatcher

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// chunkSize is how many deliveries one River job owns at most: enough to make
// the job's own cost small, few enough that a lost one is redone quickly.
const chunkSize = 100

// maxKeptPayload is the largest payload, in bytes, that a chunk in hand keeps in
// memory. With MaxInHand deliveries it bounds the memory of the backlog; a larger
// payload is loaded just before it is sent.
const maxKeptPayload = 32 << 10

// chunk is deliveries of one endpoint and one River job in this process's hands: all
// that the job owns of them, or a part of the endpoint's backlog.
type chunk struct {
	jobID      int64
	endpointID subscriptions.EndpointID
	deliveries []delivery
	lease      *lease
	owner      *owner // of the backlog that the chunk is a part of; nil: the job is the chunk's own

	parcel *parcel // all that the job owns; nil in a backlog
}

// parcel is the chunks that one River job owns together: one, or several small ones,
// each of another endpoint. A thousand endpoints that get an event each would else be
// a thousand jobs. But for its size it is the recorder's alone.
type parcel struct {
	size    int  // deliveries
	settled int  // of them those whose result is committed, or that were let go
	lost    bool // one was let go because the job may be another node's
}

// pack makes the chunk a part of the parcel.
func (p *parcel) pack(c *chunk) {
	c.parcel = p
	p.size += len(c.deliveries)
}

// lease is this process's hold on a River job. It is safe for concurrent use.
type lease struct {
	ends atomic.Int64 // by the process's own monotonic clock, which runs on while it is stopped
	lost atomic.Bool
}

var processStart = time.Now()

// newLease makes a lease that was taken at the given moment.
func newLease(taken time.Time, length time.Duration) *lease {
	l := &lease{}
	l.extend(taken, length)
	return l
}

// extend sets the end anew: length after the moment at which it was asked for.
func (l *lease) extend(asked time.Time, length time.Duration) {
	l.ends.Store(int64(asked.Sub(processStart) + length))
}

// lose marks the job as another node's.
func (l *lease) lose() { l.lost.Store(true) }

// held reports whether the job is still this process's. A process that was stopped
// for longer than the lease finds out here, before it sends what another may have sent.
func (l *lease) held() bool {
	return !l.lost.Load() && int64(time.Since(processStart)) < l.ends.Load()
}

// delivery is one of a chunk's, on its way to its next attempt.
type delivery struct {
	chunk         *chunk
	id            DeliveryID
	event         *event
	attempts      int    // made so far; a result counts for attempt attempts+1 only
	scheduleStart int    // attempts made before the retry schedule began
	key           string // ordering key, where the endpoint takes its events in order
	position      int64  // among the unfinished of its key; 0: it goes as it comes
	probe         bool   // it is sent to see whether the endpoint works again
}

// event is what the deliveries of one event share. It is immutable but for the
// body, which is made at the first sending.
type event struct {
	id          outbox.EventID
	publicID    string
	createdAt   time.Time
	occurredAt  time.Time
	tenantID    string
	eventType   string
	traceparent string
	payload     []byte // nil: too large to keep, loaded when it is sent
	gone        bool   // no longer stored

	standard struct {
		once sync.Once
		body []byte
	}
}

func newEvent(c outbox.Claimed) *event {
	return &event{id: c.ID, publicID: c.ID.String(), createdAt: c.CreatedAt, occurredAt: c.OccurredAt,
		tenantID: c.TenantID, eventType: c.Type, traceparent: c.Traceparent, payload: c.Payload}
}

// body makes the webhook's body of the payload; the standard one is made once
// for all endpoints.
func (e *event) body(format subscriptions.PayloadFormat, payload []byte) []byte {
	make := func() []byte {
		return Body(format, BodyEvent{e.id, e.tenantID, e.eventType, e.occurredAt, payload})
	}
	if format != subscriptions.Standard || e.payload == nil {
		return make()
	}
	e.standard.once.Do(func() { e.standard.body = make() })
	return e.standard.body
}
