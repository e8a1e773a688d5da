package dispatcher

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/subscriptions"
)

// unwell gives an endpoint's health the state of an open breaker, at the epoch.
func (b *bundle) unwell(t *testing.T, id subscriptions.EndpointID, epoch int) {
	t.Helper()
	_, err := b.Pool.Exec(t.Context(), `INSERT INTO posthorn.endpoint_health (endpoint_id, epoch, version, consecutive_failures,
			failing_since, breaker, opened, open_until, reason, last_success_at, last_failure_at)
		VALUES ($1, $2, 7, 12, '2026-03-01 10:00Z', 'open', 1, '2026-03-01 11:00Z', 'failures', '2026-03-01 09:00Z', '2026-03-01 10:30Z')`, id, epoch)
	must(t, err)
}

func (b *bundle) health(t *testing.T, id subscriptions.EndpointID) EndpointHealth {
	t.Helper()
	all, err := NewLog(b.Pool).Health(t.Context(), []subscriptions.EndpointID{id})
	must(t, err)
	h, ok := all[id]
	if !ok || len(all) != 1 {
		t.Fatalf("asked for %s and got %v", id, all)
	}
	return h
}

// noEndpoint is an id that no endpoint has.
func noEndpoint(t *testing.T) subscriptions.EndpointID {
	t.Helper()
	id, err := subscriptions.ParseEndpointID("ep_00000000000000000000000001")
	must(t, err)
	return id
}

func TestHealth_OfNothingKnownIsClosed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	well, _ := b.endpoint(t, nowhere)
	for _, id := range []subscriptions.EndpointID{well.ID, noEndpoint(t)} {
		if got := b.health(t, id); got != (EndpointHealth{Breaker: "closed"}) {
			t.Errorf("%s: %+v", id, got)
		}
	}
	if all, err := NewLog(b.Pool).Health(t.Context(), nil); err != nil || len(all) != 0 {
		t.Errorf("of no endpoint: %v, %v", all, err)
	}
}

func TestHealth_IsOfTheEndpointsEpochOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.endpoint(t, nowhere)
	b.unwell(t, e.ID, 1)
	got := b.health(t, e.ID)
	at := func(clock string) *time.Time {
		parsed, err := time.Parse(time.RFC3339, "2026-03-01T"+clock+":00Z")
		must(t, err)
		return &parsed
	}
	for name, c := range map[string]struct{ got, want *time.Time }{
		"failing since": {got.FailingSince, at("10:00")}, "open until": {got.OpenUntil, at("11:00")},
		"last success": {got.LastSuccessAt, at("09:00")}, "last failure": {got.LastFailureAt, at("10:30")},
	} {
		if c.got == nil || !c.got.Equal(*c.want) {
			t.Errorf("%s: %v, want %s", name, c.got, c.want)
		}
	}
	if got.Breaker != "open" || got.Reason != "failures" || got.ConsecutiveFailures != 12 {
		t.Errorf("%+v", got)
	}
	url := nowhere + "new"
	_, err := b.store.Update(t.Context(), subscriptions.Scope{}, e.ID, subscriptions.Update{URL: &url})
	must(t, err)
	if got := b.health(t, e.ID); got != (EndpointHealth{Breaker: "closed"}) {
		t.Errorf("with a new URL: %+v", got)
	}
}

func TestHealth_TellsTheEndpointsApart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	well, _ := b.endpoint(t, nowhere)
	ill, _ := b.endpoint(t, nowhere)
	plain, _ := b.endpoint(t, nowhere) // a row without any of what may be NULL
	b.unwell(t, ill.ID, 1)
	_, err := b.Pool.Exec(t.Context(), `INSERT INTO posthorn.endpoint_health (endpoint_id, epoch, version) VALUES ($1, 1, 1)`, plain.ID)
	must(t, err)
	all, err := NewLog(b.Pool).Health(t.Context(), []subscriptions.EndpointID{well.ID, ill.ID, plain.ID})
	must(t, err)
	closed := EndpointHealth{Breaker: "closed"}
	if len(all) != 3 || all[well.ID] != closed || all[plain.ID] != closed || all[ill.ID].Breaker != "open" {
		t.Errorf("%+v", all)
	}
}

// waitingForEndpointSQL makes so many deliveries of an endpoint that wait in a job since the time.
const waitingForEndpointSQL = `INSERT INTO posthorn.deliveries (id, event_id, event_created_at, endpoint_id, tenant_id, event_type, status, job_id, next_attempt_at)
	SELECT posthorn.uuid_v7(), gen_random_uuid(), now(), $1, 'default', 'a', $2, $3, $4 FROM generate_series(1, $5::int)`

func (b *bundle) waiting(t *testing.T, id subscriptions.EndpointID, status Status, job int, at any, n int) {
	t.Helper()
	_, err := b.Pool.Exec(t.Context(), waitingForEndpointSQL, id, status, job, at, n)
	must(t, err)
}

func TestWaiting_CountsTheBacklogAndTheHeld(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.endpoint(t, nowhere)
	other, _ := b.endpoint(t, nowhere)
	_, err := b.Pool.Exec(t.Context(), `INSERT INTO posthorn.backlogs (endpoint_id, job_id) VALUES ($1, 17), ($2, 18)`, e.ID, other.ID)
	must(t, err)
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	b.waiting(t, e.ID, Pending, 17, past, 2)
	b.waiting(t, e.ID, Retrying, 17, past, 3)
	b.waiting(t, e.ID, Retrying, 17, future, 5)  // waits for its time
	b.waiting(t, e.ID, Retrying, 19, past, 7)    // is another job's
	b.waiting(t, e.ID, Pending, 17, nil, 11)     // is under way
	b.waiting(t, e.ID, Held, 0, nil, 13)         // waits for a resumption
	b.waiting(t, other.ID, Pending, 18, past, 1) // is another endpoint's
	b.waiting(t, other.ID, Held, 0, nil, 1)
	if got, err := NewLog(b.Pool).Waiting(t.Context(), e.ID); err != nil || got != (EndpointWaiting{Backlog: 5, Held: 13}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := NewLog(b.Pool).Waiting(t.Context(), noEndpoint(t)); err != nil || got != (EndpointWaiting{}) {
		t.Errorf("of none: %+v, %v", got, err)
	}
}

func TestWaiting_IsBoundedAndUsesItsIndexesAtVolume(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.endpoint(t, nowhere)
	other, _ := b.endpoint(t, nowhere)
	_, err := b.Pool.Exec(t.Context(), `INSERT INTO posthorn.backlogs (endpoint_id, job_id) VALUES ($1, 17), ($2, 18)`, e.ID, other.ID)
	must(t, err)
	past := time.Now().Add(-time.Hour)
	b.waiting(t, e.ID, Retrying, 17, past, 20_000)
	b.waiting(t, e.ID, Held, 0, nil, 20_000)
	b.waiting(t, e.ID, Delivered, 20, nil, 20_000)
	b.waiting(t, other.ID, Retrying, 18, past, 30_000)
	b.waiting(t, other.ID, Held, 0, nil, 30_000)
	_, err = b.Pool.Exec(t.Context(), `ANALYZE posthorn.deliveries, posthorn.backlogs`)
	must(t, err)
	if got, err := NewLog(b.Pool).Waiting(t.Context(), e.ID); err != nil || got != (EndpointWaiting{Backlog: MaxWaiting, Held: MaxWaiting}) {
		t.Errorf("%+v, %v", got, err)
	}
	// A healthy endpoint's count must not read the others' either.
	well, _ := b.endpoint(t, nowhere)
	for name, id := range map[string]subscriptions.EndpointID{"InTrouble": e.ID, "Healthy": well.ID} {
		t.Run(name, func(t *testing.T) {
			tx, err := b.Pool.Begin(t.Context())
			must(t, err)
			defer tx.Rollback(context.Background()) //nolint:errcheck // there is nothing to lose
			_, err = tx.Exec(t.Context(), planInStepsSQL)
			must(t, err)
			rows, err := tx.Query(t.Context(), `EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) `+endpointWaitingSQL, id, MaxWaiting, maxWaitingRead)
			must(t, err)
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			must(t, err)
			plan := strings.Join(lines, "\n")
			for _, read := range regexp.MustCompile(`(?:Scan.*actual rows=|Rows Removed by Filter: )(\d+)`).FindAllStringSubmatch(plan, -1) {
				if n, err := strconv.Atoi(read[1]); err != nil || n > MaxWaiting {
					t.Errorf("%s, %v", read[0], err)
				}
			}
			if t.Failed() {
				t.Errorf("it reads what it need not:\n%s", plan)
			}
		})
	}
	if got, err := NewLog(b.Pool).Waiting(t.Context(), well.ID); err != nil || got != (EndpointWaiting{}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestHealths_OneNodeGetsTheProbe(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.endpoint(t, nowhere)
	b.unwell(t, e.ID, 1)
	for node, want := range []bool{true, false, false} {
		claimed, err := newHealths(&clock{}).claimProbe(t.Context(), b.Pool, e.ID, time.Hour)
		if err != nil || claimed != want {
			t.Errorf("node %d claims the probe: %t (%v), want %t", node, claimed, err, want)
		}
	}
}
