package dispatcher

import (
	"errors"
	"testing"
	"time"

	"github.com/posthorn/posthorn/internal/typeid"
	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

func (b *bundle) redeliverer(t *testing.T) *Redeliverer {
	t.Helper()
	r, err := NewRedeliverer(b.Pool)
	must(t, err)
	return r
}

func TestRetry_DependsOnWhereTheDeliveryStands(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before string // what the delivery is made into
		tenant string
		want   error
	}{
		"delivered":                 {before: `UPDATE posthorn.deliveries SET status = 'delivered', attempts = 1`},
		"cancelled":                 {before: `UPDATE posthorn.deliveries SET status = 'cancelled'`},
		"held":                      {before: `UPDATE posthorn.deliveries SET status = 'held', job_id = NULL`},
		"retrying, not due":         {before: `UPDATE posthorn.deliveries SET status = 'retrying', attempts = 1, next_attempt_at = now() + interval '1 hour'`},
		"retrying, due":             {before: `UPDATE posthorn.deliveries SET status = 'retrying', attempts = 1, next_attempt_at = now()`, want: ErrInProgress},
		"retrying, under way":       {before: `UPDATE posthorn.deliveries SET status = 'retrying', attempts = 1, next_attempt_at = NULL`, want: ErrInProgress},
		"pending":                   {before: `SELECT 1`, want: ErrInProgress},
		"pending for long":          {before: `UPDATE posthorn.deliveries SET next_attempt_at = now() - interval '1 hour'`, want: ErrInProgress},
		"endpoint deleted":          {before: `WITH d AS (UPDATE posthorn.deliveries SET status = 'delivered') UPDATE posthorn.endpoints SET deleted_at = now()`, want: ErrEndpointGone},
		"of its own tenant":         {before: `UPDATE posthorn.deliveries SET status = 'delivered'`, tenant: outbox.DefaultTenant},
		"of another tenant":         {before: `UPDATE posthorn.deliveries SET status = 'delivered'`, tenant: "another", want: ErrNotFound},
		"of another tenant, busy":   {before: `SELECT 1`, tenant: "another", want: ErrNotFound},
		"of all tenants, not one":   {before: `SELECT 1`, tenant: "*", want: ErrNotFound},
		"of another, endpoint gone": {before: `UPDATE posthorn.endpoints SET deleted_at = now()`, tenant: "another", want: ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			d := b.relayed(t, b.stillNode(t), 1)[0]
			b.exec(t, c.before)
			was := b.row(t, d)
			err := b.redeliverer(t).Retry(t.Context(), c.tenant, d.id)
			if !errors.Is(err, c.want) {
				t.Fatalf("err = %v, want %v", err, c.want)
			}
			if c.want != nil {
				b.wantRow(t, d, was)
				return
			}
			if due := value[bool](t, b.Pool, `SELECT status = 'retrying' AND next_attempt_at <= now() AND schedule_start = attempts
				AND finished_at IS NULL AND j.state = 'available' FROM posthorn.deliveries d JOIN river.river_job j ON j.id = d.job_id`); !due {
				t.Errorf("it is not due: %s", b.row(t, d))
			}
			if err := b.redeliverer(t).Retry(t.Context(), c.tenant, d.id); !errors.Is(err, ErrInProgress) {
				t.Errorf("asked again: %v", err)
			}
			balanced(t, b.Pool)
		})
	}
}

func TestRedeliverer_DoesNotFindWhatIsNotThere(t *testing.T) {
	t.Parallel()
	r := setup(t).redeliverer(t)
	if err := r.Retry(t.Context(), "", typeid.New[deliveryKind]()); !errors.Is(err, ErrNotFound) {
		t.Errorf("delivery: %v", err)
	}
	if _, err := r.Replay(t.Context(), "", typeid.New[deadLetterKind]()); !errors.Is(err, ErrNotFound) {
		t.Errorf("dead letter: %v", err)
	}
}

func TestReplay_BeginsTheScheduleAnewAndCountsOn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, status(500))
	b.endpoint(t, r.URL)
	b.run(t)
	id := b.publish(t, outbox.Event{}).String()
	settled(t, b.Pool)
	redeliverer := b.redeliverer(t)
	first := value[DeadLetterID](t, b.Pool, `SELECT id FROM posthorn.dead_letters`)
	if _, err := redeliverer.Replay(t.Context(), "another", first); !errors.Is(err, ErrNotFound) {
		t.Errorf("by another tenant: %v", err)
	}
	delivery, err := redeliverer.Replay(t.Context(), outbox.DefaultTenant, first)
	must(t, err)
	if _, err := redeliverer.Replay(t.Context(), "", first); !errors.Is(err, ErrResolved) {
		t.Errorf("replayed twice: %v", err)
	}
	settled(t, b.Pool)
	if n := r.counts()[id]; n != 6 {
		t.Errorf("%d POSTs, want the schedule's 3 twice", n)
	}
	if s := value[string](t, b.Pool, `SELECT string_agg(concat_ws(' ', attempts, resolution), ', ' ORDER BY dead_at) FROM posthorn.dead_letters WHERE delivery_id = $1`, delivery); s != "3 replayed, 6" {
		t.Errorf("dead letters: %s", s)
	}
	if s := value[[]int32](t, b.Pool, `SELECT array_agg(number ORDER BY started_at) FROM posthorn.attempts`); len(s) != 6 || s[0] != 1 || s[5] != 6 {
		t.Errorf("attempts: %v", s)
	}
	if l := balanced(t, b.Pool); l.DeadLetters != 1 || l.Deliveries[Dead] != 1 {
		t.Errorf("%+v", l)
	}

	// A retry of the delivery resolves the second as well.
	r.become(nil)
	must(t, redeliverer.Retry(t.Context(), "", delivery))
	settled(t, b.Pool)
	if l := balanced(t, b.Pool); l.DeadLetters != 0 || l.Deliveries[Delivered] != 1 {
		t.Errorf("%+v", l)
	}
}

func TestReplay_IsRefusedForADeletedEndpoint(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t, func(c *Config) { c.Retry.Schedule = []time.Duration{} })
	d := b.relayed(t, n, 1)[0]
	n.recorder.record(t.Context(), []result{n.answered(d, 500)})
	must(t, b.store.Delete(t.Context(), subscriptions.Scope{}, d.chunk.endpointID))
	dead := value[DeadLetterID](t, b.Pool, `SELECT id FROM posthorn.dead_letters`)
	if _, err := b.redeliverer(t).Replay(t.Context(), "", dead); !errors.Is(err, ErrEndpointGone) {
		t.Errorf("err = %v", err)
	}
	if l := balanced(t, b.Pool); l.DeadLetters != 1 || l.Deliveries[Dead] != 1 {
		t.Errorf("%+v", l)
	}
}

func TestRetry_OfAWaitingRetryIsSentOnceOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, status(500))
	b.endpoint(t, r.URL)
	b.run(t, func(c *Config) { c.Retry.Schedule = []time.Duration{2 * time.Second} })
	id := b.publish(t, outbox.Event{}).String()
	eventually(t, b.Pool, "a retry waits", `SELECT EXISTS (SELECT FROM posthorn.deliveries WHERE status = 'retrying')`)
	r.become(nil)
	must(t, b.redeliverer(t).Retry(t.Context(), "", value[DeliveryID](t, b.Pool, `SELECT id FROM posthorn.deliveries`)))
	settled(t, b.Pool)
	// The first retry's job finds nothing that is its own.
	eventually(t, b.Pool, "its job is done with", `SELECT NOT EXISTS (SELECT FROM river.river_job WHERE kind = 'deliver' AND finalized_at IS NULL)`)
	if n := r.counts()[id]; n != 2 {
		t.Errorf("%d POSTs, want 2", n)
	}
	balanced(t, b.Pool)
}
