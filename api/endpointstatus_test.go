package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/dispatcher"
	"github.com/posthorn/posthorn/subscriptions"
)

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	b := setup(t)
	target := "/v1/endpoints/" + b.endpoint(t, "shop_1", "*").String()
	shop := b.subscriber(t, "shop_1")
	for i, c := range []struct { // in their order
		client             client
		route, status, tag string
	}{
		{shop, "/resume", "enabled", `"1"`}, // it is so already
		{shop, "/pause", "paused", `"2"`},
		{b.operator(t), "/pause", "paused", `"2"`},
		{b.operator(t), "/resume", "enabled", `"3"`},
		{b.operator(t), "/pause", "paused", `"4"`},
		{shop, "/resume", "enabled", `"5"`},
	} {
		got := c.client.post(target+c.route, "").want(http.StatusOK)
		if e := got.object(); e["status"] != c.status || e["disabled_reason"] != nil || got.header.Get("ETag") != c.tag {
			t.Errorf("step %d: %s with ETag %s", i, got.body, got.header.Get("ETag"))
		}
		seen := shop.get(target)
		if seen.object()["status"] != c.status || seen.header.Get("ETag") != c.tag {
			t.Errorf("step %d: then it is %s with ETag %s", i, seen.body, seen.header.Get("ETag"))
		}
	}
	shop.do("DELETE", target, "").want(http.StatusNoContent)
	shop.post(target+"/pause", "").refused(http.StatusNotFound, "not_found")
	shop.post(target+"/resume", "").refused(http.StatusNotFound, "not_found")
}

func TestADisabledEndpointSaysWhyUntilItIsResumed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.endpoint(t, "shop_1", "*")
	must(t, pgx.BeginFunc(t.Context(), b.Pool, func(tx pgx.Tx) error {
		_, _, err := subscriptions.DisableTx(t.Context(), tx, id, 1, "It answered 410.")
		return err
	}))
	shop, target := b.subscriber(t, "shop_1"), "/v1/endpoints/"+id.String()
	for _, a := range []answer{shop.get(target), shop.post(target+"/pause", "")} { // a pause keeps the reason
		if e := a.want(http.StatusOK).object(); e["status"] != "disabled" || e["disabled_reason"] != "It answered 410." {
			t.Errorf("%s: %s", a.what, a.body)
		}
	}
	if e := shop.post(target+"/resume", "").want(http.StatusOK).object(); e["status"] != "enabled" || e["disabled_reason"] != nil {
		t.Errorf("resumed: %v", e)
	}
}

const unwellSQL = `INSERT INTO posthorn.endpoint_health (endpoint_id, epoch, version, consecutive_failures,
		failing_since, breaker, opened, open_until, reason, last_success_at, last_failure_at)
	VALUES ($1, 1, 7, 12, '2026-03-01 10:00Z', 'open', 1, '2026-03-01 11:00Z', 'retry_after', '2026-03-01 09:00:00.5Z', '2026-03-01 10:30Z')`

// The healths of the tests, without what waits.
const (
	fine = "closed <nil> 0 <nil> <nil> <nil> <nil>"
	ill  = "open retry_after 12 2026-03-01T10:00:00Z 2026-03-01T11:00:00Z 2026-03-01T09:00:00.5Z 2026-03-01T10:30:00Z"
)

// wantHealth fails the test unless the endpoint shows this health, with these
// counts of what waits for it.
func wantHealth(t *testing.T, endpoint map[string]any, health string, backlog, held any) {
	t.Helper()
	h := endpoint["health"].(map[string]any)
	got := words(h["breaker"], h["reason"], h["consecutive_failures"], h["failing_since"], h["open_until"],
		h["last_success_at"], h["last_failure_at"], h["backlog"], h["held"])
	if want := words(health, backlog, held); got != want {
		t.Errorf("health %s, want %s", got, want)
	}
}

// words are the values, with a space between any two.
func words(values ...any) string { return strings.TrimSuffix(fmt.Sprintln(values...), "\n") }

func TestAnEndpointShowsItsHealth(t *testing.T) {
	t.Parallel()
	b := setup(t)
	wellID, illID := b.endpoint(t, "shop_1", "*").String(), b.endpoint(t, "shop_1", "*")
	b.exec(t, unwellSQL, illID)
	op, target := b.operator(t), "/v1/endpoints/"+illID.String()
	wantHealth(t, op.post("/v1/endpoints", newEndpoint).want(http.StatusCreated).object(), fine, nil, nil)
	wantHealth(t, op.get("/v1/endpoints/"+wellID).object(), fine, 0, 0)
	wantHealth(t, op.get(target).object(), ill, 0, 0)
	for _, e := range op.get("/v1/endpoints").list().Data {
		want := fine
		if e["id"] == illID.String() {
			want = ill
		}
		wantHealth(t, e, want, nil, nil)
	}
	wantHealth(t, op.do("PATCH", target, `{"description":"x"}`).object(), ill, nil, nil)
	wantHealth(t, op.post(target+"/pause", "").object(), ill, nil, nil)
	wantHealth(t, op.post(target+"/resume", "").object(), fine, nil, nil) // forgotten
	wantHealth(t, op.get(target).object(), fine, 0, 0)
}

func TestANewURLBeginsTheHealthAnew(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.endpoint(t, "shop_1", "*")
	b.exec(t, unwellSQL, id)
	wantHealth(t, b.subscriber(t, "shop_1").do("PATCH", "/v1/endpoints/"+id.String(), `{"url":"https://new.example.com/"}`).object(), fine, nil, nil)
}

const waitingSQL = `INSERT INTO posthorn.deliveries (id, event_id, event_created_at, endpoint_id, tenant_id, event_type, status, job_id, next_attempt_at)
	SELECT posthorn.uuid_v7(), gen_random_uuid(), now(), $1, 'shop_1', 'a', $2, $3, $4 FROM generate_series(1, $5::int)`

func TestAnEndpointAloneShowsWhatWaitsForIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.endpoint(t, "shop_1", "*")
	b.exec(t, `INSERT INTO posthorn.backlogs (endpoint_id, job_id) VALUES ($1, 17)`, id)
	b.exec(t, waitingSQL, id, dispatcher.Retrying, 17, time.Now().Add(-time.Minute), 3)
	b.exec(t, waitingSQL, id, dispatcher.Held, nil, nil, 2)
	shop := b.subscriber(t, "shop_1")
	wantHealth(t, shop.get("/v1/endpoints/"+id.String()).object(), fine, 3, 2)
	wantHealth(t, shop.get("/v1/endpoints").list().Data[0], fine, nil, nil)
	b.exec(t, waitingSQL, id, dispatcher.Held, nil, nil, dispatcher.MaxWaiting)
	wantHealth(t, shop.get("/v1/endpoints/"+id.String()).object(), fine, 3, 10001)
}
