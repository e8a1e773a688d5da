package dispatcher

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/webhook"
)

func TestDelivery_ACommittedEventArrivesSigned(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, nil)
	_, secret := b.endpoint(t, r.URL+"/hook")
	b.run(t)

	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	occurred := time.Date(2026, 11, 23, 12, 0, 0, 123456000, time.UTC)
	id := b.publish(t, outbox.Event{Payload: []byte(" {\"n\": 1e3,\t\"n\": 2}\n"), Traceparent: parent, OccurredAt: occurred})

	got := r.next(t)
	want := `{"type":"order.paid","timestamp":"2026-11-23T12:00:00.123456Z","data": {"n": 1e3,` + "\t" + `"n": 2}` + "\n}"
	if got.body != want {
		t.Errorf("body %q\nwant %q", got.body, want)
	}
	verifier, err := webhook.NewVerifier(secret)
	must(t, err)
	if err := verifier.Verify(got.header, []byte(got.body)); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{"webhook-id": id.String(), "content-type": "application/json",
		"user-agent": "Posthorn/dev", "traceparent": parent} {
		if v := got.header.Get(name); v != want {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
	settled(t, b.Pool)
	if l := balanced(t, b.Pool); l.Deliveries[Delivered] != 1 {
		t.Errorf("%+v", l)
	}
}

func TestDelivery_AFailingReceiverGetsTheScheduleThenADeadLetter(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Why", "broken \xff")
		w.WriteHeader(500)
		w.Write([]byte("no\x00pe"))
	})
	_, secret := b.endpoint(t, r.URL)
	b.run(t)
	id := b.publish(t, outbox.Event{})

	verifier, err := webhook.NewVerifier(secret)
	must(t, err)
	var signatures []string
	for range 3 { // the schedule has two delays
		got := r.next(t)
		if got.eventID() != id.String() {
			t.Errorf("webhook-id %s, want %s", got.eventID(), id)
		}
		if err := verifier.Verify(got.header, []byte(got.body)); err != nil {
			t.Error(err)
		}
		if age := time.Since(unixTime(t, got.header.Get("webhook-timestamp"))); age > 2*time.Second+patience {
			t.Errorf("timestamp is %s old", age)
		}
		signatures = append(signatures, got.header.Get("webhook-signature"))
	}
	settled(t, b.Pool)
	if n := r.counts()[id.String()]; n != 3 {
		t.Errorf("%d POSTs, want 3", n)
	}
	_ = slices.Compact(signatures)
	balanced(t, b.Pool)
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.attempts WHERE error_kind = 'http_status' AND response_status = 500
		AND response_headers LIKE '%x-why: broken %' AND response_body = 'no\000pe'::bytea`); n != 3 {
		t.Errorf("%d attempts in the log, want 3", n)
	}
	if s := value[string](t, b.Pool, `SELECT concat_ws(' ', attempts, last_response_status, last_error_kind, last_error, fingerprint) FROM posthorn.dead_letters`); s != "3 500 http_status the receiver answered 500 Internal Server Error http_status:500" {
		t.Errorf("dead letter: %s", s)
	}

	// Repaired, the dead letter is replayed.
	r.become(nil)
	redeliverer, err := NewRedeliverer(b.Pool)
	must(t, err)
	dead := value[DeadLetterID](t, b.Pool, `SELECT id FROM posthorn.dead_letters`)
	if _, err := redeliverer.Replay(t.Context(), "", dead); err != nil {
		t.Fatal(err)
	}
	if got := r.next(t); got.eventID() != id.String() {
		t.Errorf("webhook-id %s, want %s", got.eventID(), id)
	}
	settled(t, b.Pool)
	l := balanced(t, b.Pool)
	if l.Deliveries[Delivered] != 1 || l.DeadLetters != 0 {
		t.Errorf("%+v", l)
	}
	if n := value[int](t, b.Pool, `SELECT attempts FROM posthorn.deliveries`); n != 4 {
		t.Errorf("attempts %d, want 4", n)
	}
}
