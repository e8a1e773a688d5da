package dispatcher

import (
	"testing"
	"time"

	"github.com/posthorn/posthorn/outbox"
)

// past moves everything there is into the past, as if it had happened then and the
// sweep had seen it.
func (b *bundle) past(t *testing.T, ago time.Duration) {
	t.Helper()
	b.exec(t, `UPDATE posthorn.outbox SET created_at = created_at - $1::interval`, ago)
	b.exec(t, `UPDATE posthorn.outbox_pending SET created_at = created_at - $1::interval`, ago)
	b.exec(t, `UPDATE posthorn.routings SET created_at = created_at - $1::interval, routed_at = routed_at - $1::interval`, ago)
	b.exec(t, `UPDATE posthorn.deliveries SET created_at = created_at - $1::interval, event_created_at = event_created_at - $1::interval,
		id = (left(posthorn.uuid_at(created_at - $1::interval)::text, 13) || substr(id::text, 14))::uuid,
		next_attempt_at = CASE WHEN status = 'pending' THEN now() ELSE next_attempt_at END`, ago)
}

// audit accounts for every minute that is over.
func (b *bundle) audit(t *testing.T) {
	t.Helper()
	must(t, (&auditor{pool: b.Pool}).Work(t.Context(), nil))
}

// damages is what somebody might do to the books by hand, and how much of them is
// unaccounted for afterwards.
var damages = map[string]struct {
	by   string
	want int64
	live bool // seen without the deep reading even where the audit was before
}{
	"a delivery is gone":             {by: `DELETE FROM posthorn.deliveries WHERE id = (SELECT min(id::text)::uuid FROM posthorn.deliveries)`, want: 1},
	"a delivery is there twice":      {by: anotherDelivery + `endpoint_id` + ofAnEvent, want: 1},
	"a delivery has no match":        {by: anotherDelivery + `gen_random_uuid()` + ofAnEvent, want: 1},
	"a delivery took another's turn": {by: `UPDATE posthorn.deliveries d SET endpoint_id = (SELECT endpoint_id FROM posthorn.deliveries o WHERE o.event_id = d.event_id AND o.id <> d.id) WHERE id = (SELECT min(id::text)::uuid FROM posthorn.deliveries)`, want: 2},
	"a delivery is of nothing":       {by: `INSERT INTO posthorn.deliveries (id, event_id, event_created_at, endpoint_id, tenant_id, event_type, status) SELECT (left(id::text, 13) || substr(posthorn.uuid_v7()::text, 14))::uuid, gen_random_uuid(), event_created_at, endpoint_id, tenant_id, event_type, 'delivered' FROM posthorn.deliveries LIMIT 1`, want: 1},
	"a routing is gone":              {by: `DELETE FROM posthorn.routings WHERE event_id = (SELECT event_id FROM posthorn.routings LIMIT 1)`, want: 1},
	"a routed event is gone":         {by: `DELETE FROM posthorn.outbox WHERE id = (SELECT event_id FROM posthorn.routings LIMIT 1)`, want: 1},
	"an unrouted event is unlisted":  {by: `DELETE FROM posthorn.outbox_pending`, want: 1, live: true},
	"a routed event is listed":       {by: `INSERT INTO posthorn.outbox_pending (event_id, created_at) SELECT event_id, created_at FROM posthorn.routings LIMIT 1`, want: 1, live: true},
	"a job is gone":                  {by: `DELETE FROM river.river_job WHERE id = (SELECT min(id) FROM river.river_job)`, want: 4, live: true}, // it owned what both endpoints get
	"a job is finished":              {by: `UPDATE river.river_job SET state = 'completed', finalized_at = now() WHERE id = (SELECT min(id) FROM river.river_job)`, want: 4, live: true},
	"a job belongs to nobody":        {by: `UPDATE posthorn.deliveries SET job_id = NULL WHERE id = (SELECT min(id::text)::uuid FROM posthorn.deliveries)`, want: 1, live: true},
	"nothing":                        {by: `SELECT 1`, want: 0, live: true},
}

const (
	anotherDelivery = `INSERT INTO posthorn.deliveries (id, event_id, event_created_at, endpoint_id, tenant_id, event_type, status)
		SELECT (left(id::text, 13) || substr(posthorn.uuid_v7()::text, 14))::uuid, event_id, event_created_at, `
	ofAnEvent = `, tenant_id, event_type, 'delivered' FROM posthorn.deliveries LIMIT 1`
)

// damaged makes two routed events for two endpoints and a pending one.
func damaged(t *testing.T) *bundle {
	t.Helper()
	b := setup(t)
	n := b.stillNode(t)
	b.endpoint(t, nowhere)
	b.endpoint(t, nowhere)
	b.publish(t, outbox.Event{})
	b.publish(t, outbox.Event{})
	n.relayAll(t)
	b.publish(t, outbox.Event{})
	return b
}

func TestLedger_ShowsEveryKindOfDamage(t *testing.T) {
	t.Parallel()
	for name, c := range damages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := damaged(t)
			balanced(t, b.Pool)
			b.exec(t, c.by)
			cheap, deep := readBoth(t, b.Pool)
			if cheap.Unaccounted != c.want || deep.Unaccounted != c.want {
				t.Errorf("unaccounted %d, deep %d, want %d: %+v", cheap.Unaccounted, deep.Unaccounted, c.want, cheap)
			}
		})
	}
}

// What the audit has accounted for is not looked at again; the deep reading sees it,
// and the audit itself once something has the minute counted again.
func TestLedger_ShowsEveryKindOfDamageToWhatWasAccountedFor(t *testing.T) {
	t.Parallel()
	for name, c := range damages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := damaged(t)
			b.past(t, 10*time.Minute)
			b.audit(t)
			if l := balanced(t, b.Pool); l.AuditedTo.Before(time.Now().Add(-5 * time.Minute)) {
				t.Fatalf("audited to %s", l.AuditedTo)
			}
			b.exec(t, c.by)
			cheap, deep := readBoth(t, b.Pool)
			if deep.Unaccounted != c.want {
				t.Errorf("deep: unaccounted %d, want %d: %+v", deep.Unaccounted, c.want, deep)
			}
			if seen := cheap.Unaccounted == c.want; seen != c.live {
				t.Errorf("unaccounted %d of %d: %+v", cheap.Unaccounted, c.want, cheap)
			}
			b.exec(t, `INSERT INTO posthorn.ledger_recounts SELECT minute FROM posthorn.ledger_minutes`)
			b.audit(t)
			if l := exact(t, b.Pool); l.Unaccounted != c.want {
				t.Errorf("counted again: unaccounted %d, want %d: %+v", l.Unaccounted, c.want, l)
			}
		})
	}
}
