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

// chunk is the deliveries of one River job in this process's hands.
type chunk struct {
	jobID      int64
	endpointID subscriptions.EndpointID
	deliveries []delivery

	// lost is set when the lease has gone to another node: what is not sent yet
	// is left to it.
	lost atomic.Bool

	// The rest is the recorder's alone.
	settled  int  // deliveries whose result is committed, or that were let go
	leftover bool // a delivery was let go: the job is needed still
}

// delivery is one of a chunk's, on its way to its next attempt.
type delivery struct {
	chunk         *chunk
	id            DeliveryID
	event         *event
	attempts      int // made so far; a result counts for attempt attempts+1 only
	scheduleStart int // attempts made before the retry schedule began
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
