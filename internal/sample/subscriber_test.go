package sample

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/posthorn/posthorn/webhook"
)

// subscriberBundle is a subscriber that listens.
type subscriberBundle struct {
	subscriber *Subscriber
	secret     webhook.Secret
	url        string
	out        *output
	messages   chan Message
}

func newSubscriber(t *testing.T) subscriberBundle {
	t.Helper()
	b := subscriberBundle{secret: webhook.NewSecret(), out: newOutput(), messages: make(chan Message, 100)}
	b.subscriber = NewSubscriber(SubscriberConfig{
		Output: b.out, OnMessage: func(m Message) { b.messages <- m }})
	if err := b.subscriber.SetSecret(b.secret); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(b.subscriber)
	t.Cleanup(server.Close)
	b.url = server.URL
	return b
}

// deliver POSTs a webhook, signed with the secret, and returns the status.
func deliver(t *testing.T, url string, secret webhook.Secret, id, body string) int {
	t.Helper()
	now := time.Now()
	signature, err := webhook.Sign(id, now, []byte(body), secret)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+ReceivePath, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set(webhook.HeaderID, id)
	request.Header.Set(webhook.HeaderTimestamp, fmt.Sprint(now.Unix()))
	request.Header.Set(webhook.HeaderSignature, signature)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

const paidBody = `{"type":"order.paid","timestamp":"2026-01-02T15:04:05Z","data":{ "order_id": 17 }}`

func TestAVerifiedWebhookIsPrintedAndCounted(t *testing.T) {
	t.Parallel()
	b := newSubscriber(t)
	if status := deliver(t, b.url, b.secret, "evt_1", paidBody); status != http.StatusNoContent {
		t.Fatalf("status %d", status)
	}
	if got := b.out.String(); got != "received order.paid evt_1 {\"order_id\":17} (verified)\n" {
		t.Errorf("printed %q", got)
	}
	if m := next(t, b.messages); m.ID != "evt_1" || m.Type != OrderPaid || string(m.Data) != `{ "order_id": 17 }` || m.Repeat {
		t.Errorf("the message is %+v", m)
	}
	if got := b.subscriber.Received(); got != (Counts{Received: 1}) {
		t.Errorf("the counts are %+v", got)
	}
}

func TestARawPayloadIsReceivedToo(t *testing.T) {
	t.Parallel()
	b := newSubscriber(t)
	if status := deliver(t, b.url, b.secret, "evt_1", `[1]`); status != http.StatusNoContent {
		t.Fatalf("status %d", status)
	}
	if got := b.out.String(); got != "received evt_1 [1] (verified)\n" {
		t.Errorf("printed %q", got)
	}
}

func TestABadSignatureIsRefused(t *testing.T) {
	t.Parallel()
	b := newSubscriber(t)
	if status := deliver(t, b.url, webhook.NewSecret(), "evt_1", paidBody); status != http.StatusUnauthorized {
		t.Errorf("another secret: status %d", status)
	}
	response, err := http.Post(b.url+ReceivePath, "application/json", strings.NewReader(paidBody))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("no signature: status %d", response.StatusCode)
	}
	if got := b.subscriber.Received(); got != (Counts{Refused: 2}) {
		t.Errorf("the counts are %+v", got)
	}
	if got := b.out.String(); strings.Contains(got, "received") || strings.Count(got, "refused a webhook: ") != 2 {
		t.Errorf("printed %q", got)
	}
	if len(b.messages) != 0 {
		t.Error("the hook was called")
	}
}

func TestWithoutASecretNothingIsAccepted(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(NewSubscriber(SubscriberConfig{Output: newOutput()}))
	t.Cleanup(server.Close)
	if status := deliver(t, server.URL, webhook.NewSecret(), "evt_1", paidBody); status != http.StatusServiceUnavailable {
		t.Errorf("status %d", status)
	}
}

func TestSetSecretReplacesTheSecret(t *testing.T) {
	t.Parallel()
	b := newSubscriber(t)
	next := webhook.NewSecret()
	if err := b.subscriber.SetSecret(next); err != nil {
		t.Fatal(err)
	}
	if status := deliver(t, b.url, b.secret, "evt_1", paidBody); status != http.StatusUnauthorized {
		t.Errorf("the old secret: status %d", status)
	}
	if status := deliver(t, b.url, next, "evt_1", paidBody); status != http.StatusNoContent {
		t.Errorf("the new secret: status %d", status)
	}
	if err := b.subscriber.SetSecret(webhook.Secret{}); err == nil {
		t.Error("the zero Secret is taken")
	}
}

func TestBreakAndRepair(t *testing.T) {
	t.Parallel()
	b := newSubscriber(t)
	if status, state := post(t, b.url+"/break?status=418", ""); status != http.StatusOK || state["broken_status"] != 418.0 {
		t.Fatalf("%d: %v", status, state)
	}
	if status := deliver(t, b.url, b.secret, "evt_1", paidBody); status != 418 {
		t.Errorf("broken: status %d", status)
	}
	// Broken, it still does not take what is not signed.
	if status := deliver(t, b.url, webhook.NewSecret(), "evt_1", paidBody); status != http.StatusUnauthorized {
		t.Errorf("broken, another secret: status %d", status)
	}
	if _, state := post(t, b.url+"/repair", ""); state["broken_status"] != nil {
		t.Errorf("repaired: %v", state)
	}
	if status := deliver(t, b.url, b.secret, "evt_1", paidBody); status != http.StatusNoContent {
		t.Errorf("repaired: status %d", status)
	}
	// What it failed it has not received: the retry is no repeat.
	if got := b.subscriber.Received(); got != (Counts{Received: 1, Refused: 1, Failed: 1}) {
		t.Errorf("the counts are %+v", got)
	}
	if state := get(t, b.url); state["received"] != 1.0 || state["failed"] != 1.0 || state["broken_status"] != nil {
		t.Errorf("the state is %v", state)
	}

	if _, state := post(t, b.url+"/break", ""); state["broken_status"] != 500.0 {
		t.Errorf("without a status: %v", state)
	}
	for _, status := range []string{"200", "299", "600", "-1", "x"} {
		if got, answer := post(t, b.url+"/break?status="+status, ""); got != http.StatusBadRequest {
			t.Errorf("status %s: %d %v", status, got, answer)
		}
	}
}

func TestARepeatedWebhookIsReported(t *testing.T) {
	t.Parallel()
	b := newSubscriber(t)
	for range 2 {
		if status := deliver(t, b.url, b.secret, "evt_1", paidBody); status != http.StatusNoContent {
			t.Fatalf("status %d", status)
		}
	}
	if first, second := next(t, b.messages), next(t, b.messages); first.Repeat || !second.Repeat {
		t.Errorf("the messages are %+v and %+v", first, second)
	}
	if got := b.subscriber.Received(); got != (Counts{Received: 2, Repeated: 1}) {
		t.Errorf("the counts are %+v", got)
	}
	b.out.await(t, "(verified, received before)")
}

func TestRecentIDsAreBounded(t *testing.T) {
	t.Parallel()
	r := newRecentIDs(3)
	for i := range 100 {
		if r.add(fmt.Sprint(i)) {
			t.Errorf("%d is known", i)
		}
		if !r.add(fmt.Sprint(i)) {
			t.Errorf("%d is not known", i)
		}
	}
	for _, id := range []string{"97", "98", "99"} {
		if !r.add(id) {
			t.Errorf("%s is forgotten", id)
		}
	}
	if len(r.known) != 3 || r.add("96") {
		t.Errorf("%d are known: %v", len(r.known), r.known)
	}
}

func TestWhatIsPrintedSteersNoTerminal(t *testing.T) {
	t.Parallel()
	b := newSubscriber(t)
	body := "{\"type\":\"order.paid\",\"timestamp\":\"2026-01-02T15:04:05Z\",\"data\":\"\u009b2J\u202e\x7f\"}"
	if status := deliver(t, b.url, b.secret, "evt_1", body); status != http.StatusNoContent {
		t.Fatalf("status %d", status)
	}
	// A raw payload that is no JSON may hold anything.
	if status := deliver(t, b.url, b.secret, "evt_2", "\x1b[31m\x9b\nreceived forged"); status != http.StatusNoContent {
		t.Fatalf("status %d", status)
	}
	if status := deliver(t, b.url, b.secret, "evt_3", "\x9b2J"); status != http.StatusNoContent {
		t.Fatalf("status %d", status)
	}
	out := b.out.String()
	if strings.Count(out, "\n") != 3 || !utf8.ValidString(out) {
		t.Errorf("printed %q", out)
	}
	for _, r := range strings.ReplaceAll(out, "\n", "") {
		if unicode.In(r, unicode.Cc, unicode.Cf) {
			t.Errorf("printed %q in %q", r, out)
		}
	}
}

func TestALongPayloadIsPrintedShortened(t *testing.T) {
	t.Parallel()
	b := newSubscriber(t)
	deliver(t, b.url, b.secret, "evt_1", `"`+strings.Repeat("ä", 100_000)+`"`)
	if out := b.out.String(); len(out) > maxPrinted+200 || !strings.Contains(out, "…") {
		t.Errorf("printed %d bytes: %.100q", len(out), out)
	}
}
