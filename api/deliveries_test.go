package api_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/posthorn/posthorn/outbox"
)

func TestDeliveryFilters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, two := b.history(t, "shop_1"), b.history(t, "shop_2")
	b.exec(t, `UPDATE posthorn.deliveries SET status = 'delivered', last_response_status = 204, last_error = NULL,
		last_error_kind = NULL WHERE id = $1`, two.delivery)
	at := func(d time.Duration) string { return url.QueryEscape(time.Now().Add(d).Format(time.RFC3339)) }
	both := []string{two.delivery.String(), one.delivery.String()}
	for query, want := range map[string][]string{
		"":                                      both,
		"tenant_id=shop_1":                      both[1:],
		"endpoint_id=" + one.endpoint.String():  both[1:],
		"endpoint_id=" + one.unmatched.String(): {},
		"event_id=" + two.event.String():        both[:1],
		"event_type=order.paid":                 both,
		"event_type=order":                      {},
		"status=dead":                           both[1:],
		"status=held":                           {},
		"response_status=204":                   both[:1],
		"since=" + at(-time.Hour):               both,
		"since=" + at(time.Hour):                {},
		"until=" + at(time.Hour):                both,
		"until=" + at(-time.Hour):               {},
		"since=1901-01-01T00:00:00Z":            both,
		"until=1901-01-01T00:00:00Z":            {},
		"until=9999-12-31T23:59:59Z":            both,
		"tenant_id=shop_1&status=delivered":     {},
		"tenant_id=shop_1&endpoint_id=" + one.endpoint.String() + "&event_id=" + one.event.String() +
			"&event_type=order.paid&status=dead&response_status=500&since=" + at(-time.Hour) + "&until=" + at(time.Hour): both[1:],
	} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			if got := b.operator(t).get("/v1/deliveries?" + query).list().ids(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("lists %v, want %v", got, want)
			}
		})
	}
}

func TestDelivery(t *testing.T) {
	t.Parallel()
	b := setup(t)
	h := b.history(t, "shop_1")
	got := b.operator(t).get("/v1/deliveries/" + h.delivery.String()).want(http.StatusOK).object()
	if got["event_id"] != h.event.String() || got["endpoint_id"] != h.endpoint.String() || got["tenant_id"] != "shop_1" ||
		got["status"] != "dead" || got["attempts"] != 2.0 || got["last_response_status"] != 500.0 || got["last_error_kind"] != "http_status" ||
		got["last_error"] != "answered 500" || got["delivered_at"] != nil || got["next_attempt_at"] != nil {
		t.Errorf("got %v", got)
	}
	b.exec(t, `UPDATE posthorn.deliveries SET status = 'delivered' WHERE id = $1`, h.delivery)
	if got := b.operator(t).get("/v1/deliveries/" + h.delivery.String()).object(); got["delivered_at"] == nil {
		t.Errorf("got %v", got)
	}
}

func TestAttempts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	h := b.history(t, "shop_1")
	target := "/v1/deliveries/" + h.delivery.String() + "/attempts"
	l := b.operator(t).get(target).list()
	if len(l.Data) != 2 || l.HasMore || l.NextCursor != nil {
		t.Fatalf("lists %v", l)
	}
	second, first := l.Data[0], l.Data[1]
	headers := second["response_headers"].(map[string]any)
	if second["number"] != 2.0 || second["duration_ms"] != 13.0 || second["response_status"] != 500.0 ||
		second["response_body"] != "<b>no\uFFFD</b>" || second["url"] != "https://shop.example.com/hooks" ||
		second["request_headers"].(map[string]any)["user-agent"] != "Posthorn/dev" ||
		headers["content-type"] != "text/html" || fmt.Sprint(headers["set-cookie"]) != "[a=1 b=2 c=3]" {
		t.Errorf("the second attempt: %v", second)
	}
	if first["number"] != 1.0 || first["response_status"] != nil || first["response_headers"] != nil || first["response_body"] != nil ||
		first["error_kind"] != "timeout" || first["error"] != "no answer within 15s" {
		t.Errorf("the first attempt: %v", first)
	}
	if body := first["request_body"].(string); !strings.HasSuffix(body, `,"data":`+oddPayload+"}") || !strings.HasPrefix(body, `{"type":"order.paid"`) {
		t.Errorf("the request's body: %s", body)
	}

	one := b.operator(t).get(target + "?limit=1").list()
	if len(one.Data) != 1 || !one.HasMore || one.NextCursor == nil {
		t.Fatalf("a page of one: %v", one)
	}
	if rest := b.operator(t).get(target + "?limit=1&cursor=" + *one.NextCursor).list(); len(rest.Data) != 1 || rest.Data[0]["number"] != 1.0 || rest.HasMore {
		t.Errorf("the page after: %v", rest)
	}

	b.exec(t, `DELETE FROM posthorn.outbox WHERE id = $1`, h.event)
	if old := b.operator(t).get(target).list(); len(old.Data) != 2 || old.Data[0]["request_body"] != nil {
		t.Errorf("without the event: %v", old.Data)
	}
}

func TestAttemptsShowTheEndpointAsItWas(t *testing.T) {
	t.Parallel()
	b := setup(t)
	h := b.history(t, "shop_1")
	b.operator(t).do("PATCH", "/v1/endpoints/"+h.endpoint.String(), `{"url":"https://new.example.com/","payload_format":"raw"}`).want(200)
	b.exec(t, `UPDATE posthorn.attempts SET endpoint_version = 2 WHERE number = 2`)
	l := b.operator(t).get("/v1/deliveries/" + h.delivery.String() + "/attempts").list()
	if l.Data[0]["url"] != "https://new.example.com/" || l.Data[0]["request_body"] != oddPayload {
		t.Errorf("the second attempt: %v", l.Data[0])
	}
	if l.Data[1]["url"] != "https://shop.example.com/hooks" || l.Data[1]["request_body"] == oddPayload {
		t.Errorf("the first attempt: %v", l.Data[1])
	}
}

func TestRetry(t *testing.T) {
	t.Parallel()
	b := setup(t)
	h := b.history(t, "shop_1")
	op := b.operator(t)
	target := "/v1/deliveries/" + h.delivery.String() + "/retry"
	if d := op.post(target, "").want(http.StatusAccepted).object(); d["status"] != "retrying" || d["id"] != h.delivery.String() {
		t.Errorf("retried: %v", d)
	}
	if l := op.get("/v1/dead-letters").list(); len(l.Data) != 0 {
		t.Errorf("dead letters after the retry: %v", l.Data)
	}
	op.post(target, "").refused(http.StatusConflict, "in_progress")
	b.exec(t, `UPDATE posthorn.deliveries SET status = 'dead', next_attempt_at = NULL WHERE id = $1`, h.delivery)
	op.do("DELETE", "/v1/endpoints/"+h.endpoint.String(), "").want(http.StatusNoContent)
	op.post(target, "").refused(http.StatusConflict, "endpoint_gone")
}

func TestDeadLetter(t *testing.T) {
	t.Parallel()
	b := setup(t)
	h := b.history(t, "shop_1")
	op := b.operator(t)
	target := "/v1/dead-letters/" + h.deadLetter.String()
	for query, want := range map[string]int{
		"": 1, "resolved=false": 1, "resolved=true": 0, "tenant_id=shop_1": 1, "tenant_id=shop_2": 0, "event_type=order.paid": 1,
		"event_type=refund": 0, "endpoint_id=" + h.endpoint.String(): 1, "endpoint_id=" + h.unmatched.String(): 0,
	} {
		if l := op.get("/v1/dead-letters?" + query).list(); len(l.Data) != want {
			t.Errorf("%q lists %v", query, l.Data)
		}
	}
	got := op.get(target).want(http.StatusOK).object()
	if got["delivery_id"] != h.delivery.String() || got["event_id"] != h.event.String() || got["attempts"] != 2.0 ||
		got["last_error"] != "answered 500" || got["fingerprint"] != "http_status 500" || got["resolved_at"] != nil || got["resolution"] != nil {
		t.Errorf("got %v", got)
	}
	if d := op.post(target+"/replay", "").want(http.StatusAccepted).object(); d["id"] != h.delivery.String() || d["status"] != "retrying" {
		t.Errorf("replayed: %v", d)
	}
	op.post(target+"/replay", "").refused(http.StatusConflict, "already_resolved")
	if got := op.get(target).want(http.StatusOK).object(); got["resolution"] != "replayed" || got["resolved_at"] == nil {
		t.Errorf("after the replay: %v", got)
	}
	if l := op.get("/v1/dead-letters").list(); len(l.Data) != 0 {
		t.Errorf("the default list still has %v", l.Data)
	}
	if l := op.get("/v1/dead-letters?resolved=true").list(); len(l.Data) != 1 {
		t.Errorf("the resolved ones: %v", l.Data)
	}
}

func TestLedger(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.history(t, "shop_1")
	b.publish(t, outbox.Event{Type: "order.paid", Payload: []byte(`1`)})
	got := b.operator(t).get("/v1/ledger").want(http.StatusOK).object()
	states := got["deliveries"].(map[string]any)
	held := got["held_by"].(map[string]any)
	if got["no_match"] != 0.0 || got["unowned"] != 0.0 || got["audited_to"] == nil || held["paused"] != 0.0 || len(held) != 3 {
		t.Errorf("got %v", got)
	}
	if got["events"] != 2.0 || got["unrouted"] != 1.0 || got["routed"] != 1.0 || got["expected_deliveries"] != 1.0 ||
		got["unaccounted"] != 0.0 || got["dead_letters"] != 1.0 || states["dead"] != 1.0 || len(states) != 6 {
		t.Errorf("got %v", got)
	}
}
