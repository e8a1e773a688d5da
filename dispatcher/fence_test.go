package dispatcher

import (
	"strings"
	"testing"
	"time"

	"github.com/posthorn/posthorn/internal/typeid"
)

// row is a delivery and its log in one line.
func (b *bundle) row(t *testing.T, d *delivery) string {
	t.Helper()
	return value[string](t, b.Pool, `SELECT concat_ws(' ', d.status, d.attempts, d.last_response_status,
		(SELECT string_agg(a.number || ':' || coalesce(a.response_status::text, '-'), ',' ORDER BY a.number) FROM posthorn.attempts a WHERE a.delivery_id = d.id),
		(SELECT count(*) FROM posthorn.dead_letters l WHERE l.delivery_id = d.id) || ' dead letters')
		FROM posthorn.deliveries d WHERE d.id = $1`, d.id)
}

func (b *bundle) wantRow(t *testing.T, d *delivery, want string) {
	t.Helper()
	if got := b.row(t, d); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// late is another process's hold on the same delivery, taken at the same moment.
func late(d *delivery) *delivery {
	c := &chunk{jobID: d.chunk.jobID, endpointID: d.chunk.endpointID, deliveries: make([]delivery, 1), lease: d.chunk.lease}
	(&parcel{}).pack(c)
	twin := &c.deliveries[0]
	*twin = delivery{chunk: c, id: d.id, event: d.event, attempts: d.attempts, scheduleStart: d.scheduleStart}
	return twin
}

func TestFence_ASecondResultOfAnAttemptChangesNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		first, second int
		want          string
	}{
		{"success after success", 200, 204, "delivered 1 200 1:200 0 dead letters"},
		{"failure after success", 200, 500, "delivered 1 200 1:200 0 dead letters"},
		{"success after failure", 500, 200, "retrying 1 500 1:500 0 dead letters"},
		{"failure after failure", 500, 503, "retrying 1 500 1:500 0 dead letters"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			n := b.stillNode(t)
			d := b.relayed(t, n, 1)[0]
			twin := late(d)
			n.recorder.record(t.Context(), []result{n.answered(d, c.first)})
			b.wantRow(t, d, c.want)
			n.recorder.record(t.Context(), []result{n.answered(twin, c.second)})
			b.wantRow(t, d, c.want)
			balanced(t, b.Pool)
		})
	}
}

func TestFence_ALateSuccessDoesNotRaiseTheDead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t, func(c *Config) { c.Retry.Schedule = []time.Duration{} })
	d := b.relayed(t, n, 1)[0]
	n.recorder.record(t.Context(), []result{n.answered(d, 500)})
	n.recorder.record(t.Context(), []result{n.answered(late(d), 200)})
	b.wantRow(t, d, "dead 1 500 1:500 1 dead letters")
	next := late(d)
	next.attempts = 1
	n.recorder.record(t.Context(), []result{n.answered(next, 200)})
	b.wantRow(t, d, "dead 1 500 1:500 1 dead letters")
	balanced(t, b.Pool)
}

func TestFence_ALateResultDoesNotDisturbTheOnesBesideIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	ds := b.relayed(t, n, 3)
	n.recorder.record(t.Context(), []result{n.answered(ds[0], 500)})
	n.recorder.record(t.Context(), []result{n.answered(late(ds[0]), 200), n.answered(ds[1], 200), n.answered(ds[2], 500)})
	b.wantRow(t, ds[0], "retrying 1 500 1:500 0 dead letters")
	b.wantRow(t, ds[1], "delivered 1 200 1:200 0 dead letters")
	b.wantRow(t, ds[2], "retrying 1 500 1:500 0 dead letters")
	balanced(t, b.Pool)
}

// What is settled without an attempt has no number in the log that would be taken.
func TestFence_ALateSettlementWithoutAnAttemptChangesNothing(t *testing.T) {
	t.Parallel()
	for _, settled := range []Status{Held, Cancelled} {
		t.Run(string(settled), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			n := b.stillNode(t)
			d := b.relayed(t, n, 1)[0]
			n.recorder.record(t.Context(), []result{n.answered(d, 500)})
			n.recorder.record(t.Context(), []result{{delivery: late(d), outcome: outcome{status: settled}}})
			b.wantRow(t, d, "retrying 1 500 1:500 0 dead letters")
			balanced(t, b.Pool)
		})
	}
}

func TestFence_TwoResultsOfOneAttemptInOneBatchCountOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	d := b.relayed(t, n, 1)[0]
	n.recorder.record(t.Context(), []result{n.answered(d, 200), n.answered(late(d), 204)})
	if got := b.row(t, d); got != "delivered 1 200 1:200 0 dead letters" && got != "delivered 1 204 1:204 0 dead letters" {
		t.Error(got)
	}
	balanced(t, b.Pool)
}

func TestFence_AnAttemptsNumberIsUnique(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	d := b.relayed(t, n, 1)[0]
	n.recorder.record(t.Context(), []result{n.answered(d, 200)})
	_, err := b.Pool.Exec(t.Context(), `INSERT INTO posthorn.attempts SELECT * FROM posthorn.attempts`)
	if err == nil || !strings.Contains(err.Error(), "23505") {
		t.Errorf("a second attempt of the same number: %v", err)
	}
}

func TestRecorder_APoisonousResultDoesNotBlockTheOthers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	ds := b.relayed(t, n, 5)
	var batch []result
	for _, d := range ds {
		batch = append(batch, n.answered(d, 200))
	}
	batch[1].attempt.responseHeaders = "x: \x00\n" // PostgreSQL's text can't hold it
	batch[2].outcome.status = "unheard of"         // violates a constraint
	batch[3].attempt.requestHeaders = "x: \xff\n"  // is not UTF-8, and is never given up
	n.recorder.record(t.Context(), batch)
	b.wantRow(t, ds[0], "delivered 1 200 1:200 0 dead letters")
	b.wantRow(t, ds[1], "delivered 1 200 1:200 0 dead letters")
	b.wantRow(t, ds[2], "pending 0 0 dead letters")
	b.wantRow(t, ds[3], "pending 0 0 dead letters")
	b.wantRow(t, ds[4], "delivered 1 200 1:200 0 dead letters")
	if n.lanes.room() != n.lanes.maxInHand {
		t.Errorf("%d deliveries are still in hand", n.lanes.maxInHand-n.lanes.room())
	}
	// What was let go is in the endpoint's backlog, and comes back.
	balanced(t, b.Pool)
	if waits := value[bool](t, b.Pool, `SELECT next_attempt_at > now() AND next_attempt_at <= now() + $1
		AND job_id = (SELECT job_id FROM posthorn.backlogs) FROM posthorn.deliveries WHERE id = $2`, letGoDelay, ds[2].id); !waits {
		t.Error("what was let go does not come back")
	}
}

func TestRecorder_LeavesOutADeliveryThatIsNotThere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	d := b.relayed(t, n, 1)[0]
	stranger := late(d)
	stranger.id = typeid.New[deliveryKind]()
	n.recorder.record(t.Context(), []result{n.answered(stranger, 200), n.answered(d, 200)})
	b.wantRow(t, d, "delivered 1 200 1:200 0 dead letters")
	if attempts := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.attempts`); attempts != 1 {
		t.Errorf("%d attempts in the log, want 1", attempts)
	}
}
