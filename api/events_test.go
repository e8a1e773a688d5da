package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/posthorn/posthorn/api"
	"github.com/posthorn/posthorn/outbox"
)

func TestPublishedPayloadsKeepTheirBytes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, payload := range map[string]string{
		"OddWhiteSpace":   "{ \"a\" :\t[ 1 ,2 ]\r\n}",
		"BigNumbers":      `[12345678901234567890, 1.10, 1e400, 1E+2, -0]`,
		"NULEscape":       `{"a":"\u0000"}`,
		"LoneSurrogate":   `"\ud800"`,
		"Unicode":         `{"é":"🐦 \u2028 <script>&"}`,
		"RepeatedMembers": `{"a":1,"a":2}`,
		"Null":            `null`,
		"Text":            `"' OR 1=1; --"`,
		"Deep":            strings.Repeat("[", 500) + strings.Repeat("]", 500),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			op := b.operator(t)
			published := op.post("/v1/events", `{"event_type": "order.paid", "payload":  `+payload+"\n}").want(http.StatusAccepted).object()
			id := published["id"].(string)
			var stored string
			parsed, err := outbox.ParseEventID(id)
			must(t, err)
			must(t, b.Pool.QueryRow(t.Context(), `SELECT payload::text FROM posthorn.outbox WHERE id = $1`, parsed).Scan(&stored))
			if stored != payload {
				t.Errorf("stored %q, sent %q", stored, payload)
			}
			got := op.get("/v1/events/" + id).want(http.StatusOK)
			if !strings.HasSuffix(got.body, `"payload":`+payload+"}\n") {
				t.Errorf("shown %q, sent %q", got.body, payload)
			}
		})
	}
}

func TestPublish(t *testing.T) {
	t.Parallel()
	b := setup(t)
	op := b.operator(t)
	body := `{"event_type":"order.paid","payload":{},"tenant_id":"shop_1","ordering_key":"order-17","idempotency_key":"k",
		"occurred_at":"2026-03-01T10:30:00.5+01:00","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}`
	first := op.post("/v1/events", body).want(http.StatusAccepted).object()
	if first["tenant_id"] != "shop_1" || first["event_type"] != "order.paid" || first["object"] != "event" {
		t.Errorf("published: %v", first)
	}
	if again := op.post("/v1/events", body).want(http.StatusAccepted).object(); again["id"] != first["id"] {
		t.Errorf("the repeat is %s, the first %s", again["id"], first["id"])
	}
	got := op.get("/v1/events/" + first["id"].(string)).want(http.StatusOK).object()
	if got["occurred_at"] != "2026-03-01T09:30:00.5Z" || got["ordering_key"] != "order-17" || got["idempotency_key"] != "k" ||
		got["traceparent"] != "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" || got["routed_at"] != nil {
		t.Errorf("got: %v", got)
	}
	if l := op.get("/v1/events?tenant_id=shop_1&event_type=order.paid&since=2026-01-01T00:00:00Z").list(); len(l.Data) != 1 || l.Data[0]["id"] != first["id"] {
		t.Errorf("listed: %v", l.Data)
	}
	for _, query := range []string{"tenant_id=shop_2", "event_type=order", "until=2026-01-01T00:00:00Z", "since=2999-01-01T00:00:00Z"} {
		if l := op.get("/v1/events?" + query).list(); len(l.Data) != 0 {
			t.Errorf("%s lists %v", query, l.Data)
		}
	}
	if own := b.subscriber(t, "shop_9").post("/v1/events", `{"event_type":"a","payload":1}`).want(202).object(); own["tenant_id"] != "shop_9" {
		t.Errorf("a subscriber's event is of %v", own["tenant_id"])
	}
}

func TestRefusedEventsNameTheField(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, c := range []struct{ name, members, pointer, words string }{
		{"AWrongType", `"event_type":"order paid","payload":1`, "/event_type", "dot-separated"},
		{"PosthornsOwnType", `"event_type":"posthorn.endpoint.disabled","payload":1`, "/event_type", "reserved"},
		{"NoPayload", `"event_type":"a"`, "/payload", "is required"},
		{"AllTenants", `"event_type":"a","payload":1,"tenant_id":"*"`, "/tenant_id", "not be"},
		{"ALongTenant", `"event_type":"a","payload":1,"tenant_id":"` + strings.Repeat("é", 256) + `"`, "/tenant_id", "at most 255 characters, not 256"},
		{"NoTraceContext", `"event_type":"a","payload":1,"traceparent":"00-0-0-0"`, "/traceparent", "W3C"},
		{"NoTime", `"event_type":"a","payload":1,"occurred_at":"yesterday"`, "/occurred_at", "RFC 3339"},
		{"AYearThatIsNone", `"event_type":"a","payload":1,"occurred_at":"0000-06-01T00:00:00Z"`, "/occurred_at", "years"},
		{"AnEmptyKey", `"event_type":"a","payload":1,"idempotency_key":""`, "/idempotency_key", "at least 1 character"},
		{"NULInAKey", `"event_type":"a","payload":1,"ordering_key":"\u0000"`, "/ordering_key", "NUL"},
		{"ANumberBeyondAllBounds", `"event_type":1e999999999,"payload":1`, "/event_type", "must be text"},
		{"Depth", `"event_type":"a","payload":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000), "", "nested"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := b.operator(t).post("/v1/events", "{"+c.members+"}").refused(422, "validation_failed")
			if len(p.Errors) != 1 || p.Errors[0].Pointer != c.pointer || !strings.Contains(p.Errors[0].Detail, c.words) {
				t.Errorf("errors %q, want one at %q with %q", p.Errors, c.pointer, c.words)
			}
			if strings.Contains(p.Errors[0].Detail, "posthorn:") {
				t.Errorf("detail %q", p.Errors[0].Detail)
			}
		})
	}
}

func TestDeepPayloadsAreAnsweredNotSuffered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	// Below the decoder's bound; whether PostgreSQL takes it depends on its stack.
	got := b.operator(t).post("/v1/events", `{"event_type":"a","payload":`+strings.Repeat("[", 9000)+strings.Repeat("]", 9000)+"}")
	if got.status != 202 && got.refused(422, "validation_failed").Errors[0].Pointer != "/payload" {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestPayloadLimit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const limit = 256 << 10
	event := func(size int) string {
		return fmt.Sprintf(`{"event_type":"a","payload":"%s"}`, strings.Repeat("x", size-2))
	}
	b.operator(t).post("/v1/events", event(limit)).want(http.StatusAccepted)
	p := b.operator(t).post("/v1/events", event(limit+1)).refused(http.StatusRequestEntityTooLarge, "too_large")
	if p.Detail != "The payload has 262145 bytes, the limit is 262144." {
		t.Errorf("detail %q", p.Detail)
	}
	b.operator(t).post("/v1/events", event(limit+2<<20)).refused(http.StatusRequestEntityTooLarge, "too_large")

	larger := setup(t, func(c *api.Config) { c.MaxPayloadBytes = 4 << 20 })
	larger.exec(t, `SELECT posthorn.set_max_payload_bytes(4 << 20)`)
	larger.operator(t).post("/v1/events", event(4<<20)).want(http.StatusAccepted)
}

func TestAnEventShowsWhatWasDecidedAndWhy(t *testing.T) {
	t.Parallel()
	b := setup(t)
	all := b.endpoint(t, "*", "invoice.*")
	h := b.history(t, "shop_1")
	late := b.endpoint(t, "shop_1", "*") // came after the routing
	target := "/v1/events/" + h.event.String()

	decided := func(c client) map[string][2]string {
		got := c.get(target).want(http.StatusOK)
		var e struct {
			Payload   json.RawMessage
			RoutedAt  *string `json:"routed_at"`
			Endpoints []struct {
				EndpointID string `json:"endpoint_id"`
				Decision   string
				Reason     string
				DeliveryID *string `json:"delivery_id"`
			}
		}
		got.into(&e)
		if string(e.Payload) != oddPayload || e.RoutedAt == nil {
			t.Errorf("got %s", got.body)
		}
		m := map[string][2]string{}
		for _, d := range e.Endpoints {
			m[d.EndpointID] = [2]string{d.Decision, d.Reason}
			if (d.DeliveryID != nil) != (d.EndpointID == h.endpoint.String()) {
				t.Errorf("decision %+v", d)
			}
		}
		return m
	}
	want := map[string][2]string{
		h.endpoint.String():  {"dead", "Its pattern order.* matches. Given up after 2 attempts: answered 500."},
		h.unmatched.String(): {"no_match", "None of its patterns (refund.*) matches order.paid."},
	}
	if got := decided(b.subscriber(t, "shop_1")); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the subscriber sees %v, want %v", got, want)
	}
	want[all.String()] = [2]string{"no_match", "None of its patterns (invoice.*) matches order.paid."}
	if got := decided(b.operator(t)); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the operator sees %v, want %v, and not %s", got, want, late)
	}
}

func TestAHeldDeliverySaysWhatHoldsIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	h := b.history(t, "shop_1")
	b.exec(t, `UPDATE posthorn.deliveries SET status = 'held', finished_at = NULL WHERE id = $1`, h.delivery)
	op := b.operator(t)
	for _, c := range []struct{ change, reason string }{ // in their order
		{`UPDATE posthorn.endpoints SET status = 'paused' WHERE id = $1`, "The endpoint is paused; the delivery is held until the endpoint is resumed."},
		{`UPDATE posthorn.endpoints SET status = 'disabled', disabled_reason = 'It answered 410.' WHERE id = $1`,
			"The endpoint is disabled (It answered 410); the delivery is held until the endpoint is resumed."},
		{`UPDATE posthorn.endpoints SET status = 'enabled', disabled_reason = NULL WHERE id = $1`,
			"The endpoint has been resumed; the delivery, which was held, will be sent."},
		{`UPDATE posthorn.endpoints SET deleted_at = now() WHERE id = $1`,
			"The endpoint is paused or disabled; the delivery is held until the endpoint is resumed."},
	} {
		b.exec(t, c.change, h.endpoint)
		var e struct {
			Endpoints []struct{ Decision, Reason string }
		}
		op.get("/v1/events/" + h.event.String()).want(http.StatusOK).into(&e)
		if d := e.Endpoints[0]; d.Decision != "held" || d.Reason != "Its pattern order.* matches. "+c.reason {
			t.Errorf("%s: %+v", c.change, d)
		}
	}
}

func TestTheIdempotencyKeyHeaderServesWhereTheBodyHasNone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	op := b.operator(t)
	publish := func(body, key string) any {
		return op.do("POST", "/v1/events", body, "Idempotency-Key", key).want(http.StatusAccepted).object()["id"]
	}
	first := publish(`{"event_type":"a","payload":1}`, "k")
	if again := publish(`{"event_type":"a","payload":1}`, "k"); again != first {
		t.Errorf("the repeat is %v, want %v", again, first)
	}
	if other := publish(`{"event_type":"a","payload":1,"idempotency_key":"own"}`, "k"); other == first {
		t.Error("the body's own key does not go before the header")
	}
	if n := len(op.get("/v1/events").want(http.StatusOK).list().Data); n != 2 {
		t.Errorf("%d events were published, want 2", n)
	}
}
