package dispatcher

import (
	"context"
	"fmt"
	"time"

	"github.com/posthorn/posthorn/internal/typeid"
	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// DeliveryFilter selects deliveries; the zero filter all of them.
type DeliveryFilter struct {
	// TenantID, unless empty, is the endpoints' tenant.
	TenantID string
	// EndpointID, unless zero, is the endpoint.
	EndpointID subscriptions.EndpointID
	// EventID, unless zero, is the event.
	EventID outbox.EventID
	// EventType, unless empty, is exactly the event's type.
	EventType string
	// Status, unless empty, is the deliveries' state.
	Status Status
	// ResponseStatus, unless zero, is the HTTP status that answered the last attempt.
	ResponseStatus int
	// Since and Until, unless zero, bound the time of creation, to the
	// millisecond: at Since or later, before Until.
	Since, Until time.Time
	// Before, unless zero, is a delivery that all of them are older than.
	Before DeliveryID
}

// Deliveries have no index by tenant, which each of them would have to be entered
// into. A tenant's are those of its few endpoints, deleted ones too, which the
// endpoints' versions remember.
const ofTenant = `SELECT DISTINCT endpoint_id FROM posthorn.endpoint_versions WHERE tenant_id = $1`

// query puts only the conditions in force into the statement, so that each combination
// gets a plan of its own.
func (f DeliveryFilter) query(limit int) (string, []any) {
	l := look{table: "posthorn.deliveries", columns: deliveryColumns}
	if f.TenantID != "" {
		l.match("tenant_id = ?", f.TenantID) // the first argument, as ofTenant has it
	}
	if !f.EndpointID.IsZero() {
		l.match("endpoint_id = ?", f.EndpointID)
	}
	if f.EventType != "" {
		l.match("event_type = ?", f.EventType)
	}
	if f.Status != "" {
		l.match("status = ?", f.Status)
	}
	if f.ResponseStatus != 0 {
		l.match("last_response_status = ?", f.ResponseStatus)
	}
	if floor := idFloor(f.Since); !floor.IsZero() {
		l.within("id >= ?", floor)
	}
	until := time.Now().Add(farAhead)
	if !f.Until.IsZero() {
		until = f.Until
	}
	// Before 1970 the floor is the zero id, which is NULL: nothing is smaller.
	l.within("id < ?", idFloor(until))
	if !f.Before.IsZero() {
		l.within("id < ?", f.Before)
	}
	f.walk(&l)
	return l.statement(limit)
}

// farAhead is beyond any clock's present: it keeps the future's empty partitions out.
const farAhead = 24 * time.Hour

// First attempts that the sweep has not put among the waiting ones.
const underWay = `id >= (SELECT posthorn.uuid_at(swept_to - ` + slackText + `) FROM posthorn.sweep_state)`

// walk chooses the indexes to walk. What is neither delivered nor in its first attempt
// is rare, and has indexes of its own. A tenant's deliveries are only looked for among
// those of its endpoints: that another's were looked at would show in where it stopped.
func (f DeliveryFilter) walk(l *look) {
	var scope stream
	switch {
	case !f.EventID.IsZero():
		l.streams = []stream{{where: []string{l.arg("event_id = ?", f.EventID)}, whole: true}}
		return
	case f.TenantID != "":
		l.endpoints = ofTenant
		if !f.EndpointID.IsZero() {
			l.endpoints += l.arg(" AND endpoint_id = ?", f.EndpointID)
		}
	case !f.EndpointID.IsZero():
		scope.of = l.arg("?::uuid", f.EndpointID)
	default:
		scope.along = true
	}
	with := func(where string, along bool) stream {
		return stream{where: []string{where}, of: scope.of, along: along && scope.along}
	}
	rare := f.rare()
	for _, status := range rare {
		l.streams = append(l.streams, with("aside = '"+string(status)+"'", false))
	}
	waiting := with("next_attempt_at IS NOT NULL AND aside IS NULL", false)
	switch {
	case f.Status == Pending:
		l.streams = []stream{waiting, with(underWay, true)}
	case rare == nil:
		l.streams = []stream{scope}
	case f.Status == "":
		l.streams = append(l.streams, waiting) // resumed, and not attempted since
	}
	l.all = f.EventType == "" && f.ResponseStatus == 0 && (f.Status == "" || rare != nil)
}

// rare are the states in which all that the filter selects must be, but for what waits
// for a first attempt; nil when it may be delivered.
func (f DeliveryFilter) rare() []Status {
	switch f.Status {
	case Retrying, Held, Dead, Cancelled:
		return []Status{f.Status}
	case "":
		if f.ResponseStatus != 0 && f.ResponseStatus/100 != 2 {
			return []Status{Retrying, Held, Dead, Cancelled}
		}
	}
	return nil
}

// idFloor is the least id of a time. Ids hold milliseconds since 1970, so that
// earlier times have no floor: the zero id.
func idFloor(at time.Time) DeliveryID {
	if at.Before(time.UnixMilli(1)) {
		return DeliveryID{}
	}
	return typeid.Floor[deliveryKind](at)
}

// lookedDelivery is a row of a list's statement.
type lookedDelivery struct {
	Delivery
	LookedTo bool
}

// Deliveries returns up to limit deliveries, newest first. It looks at a bounded number
// of those stored: when that was not enough, lookedTo is the oldest that it has looked
// at, older ones may match, and a filter with Before at lookedTo goes on.
func (l *Log) Deliveries(ctx context.Context, f DeliveryFilter, limit int) (list []Delivery, lookedTo DeliveryID, err error) {
	sql, args := f.query(limit)
	list, stopped, err := takeLook(ctx, l.pool, sql, args, func(d lookedDelivery) (Delivery, bool) { return d.Delivery, d.LookedTo })
	if err != nil {
		return nil, DeliveryID{}, fmt.Errorf("list deliveries: %w", err)
	}
	if stopped != nil {
		lookedTo = stopped.ID
	}
	return list, lookedTo, nil
}
