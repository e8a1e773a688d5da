package sample

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/posthorn/posthorn/webhook"
)

// api stands for Posthorn's: it hands out one endpoint.
type api struct {
	url       string
	secret    webhook.Secret
	notReady  int // how many registrations to answer 503 first
	keys      []string
	requested chan map[string]any
	deleted   chan string
}

func newAPI(t *testing.T, notReady int) *api {
	t.Helper()
	a := &api{secret: webhook.NewSecret(), notReady: notReady,
		requested: make(chan map[string]any, 10), deleted: make(chan string, 10)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/endpoints", func(w http.ResponseWriter, r *http.Request) {
		a.keys = append(a.keys, r.Header.Get("Idempotency-Key")) // requests come one by one
		if a.notReady > 0 {
			a.notReady--
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		var request map[string]any
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			t.Errorf("registration: %v", err)
		}
		writeJSON(w, http.StatusCreated, map[string]string{"id": "ep_1", "secret": a.secret.Reveal()})
		a.requested <- request
	})
	mux.HandleFunc("DELETE /v1/endpoints/{id}", func(w http.ResponseWriter, r *http.Request) {
		a.deleted <- r.PathValue("id")
		w.WriteHeader(http.StatusNoContent)
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer operator" {
			writeJSON(w, http.StatusUnauthorized, map[string]string{"detail": "no such key"})
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	a.url = server.URL
	return a
}

func TestRunSubscriberRegistersReceivesAndDeregisters(t *testing.T) {
	t.Parallel()
	a, out := newAPI(t, 2), newOutput()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- RunSubscriber(ctx, SubscriberConfig{Addr: "127.0.0.1:0", PosthornURL: a.url + "/",
			OperatorKey: "operator", EventTypes: []string{"order.*"}, Output: out, Logger: out.logger()})
	}()
	request := next(t, a.requested)
	target, found := strings.CutSuffix(request["url"].(string), ReceivePath)
	if !found || len(request["event_types"].([]any)) != 1 || request["event_types"].([]any)[0] != "order.*" {
		t.Errorf("it registers %v", request)
	}
	if len(a.keys) != 3 || a.keys[0] == "" || a.keys[0] != a.keys[2] {
		t.Errorf("the idempotency keys are %q", a.keys)
	}
	out.await(t, "endpoint=ep_1")
	if status := deliver(t, target, a.secret, "evt_1", paidBody); status != http.StatusNoContent {
		t.Errorf("status %d", status)
	}
	select {
	case id := <-a.deleted:
		t.Errorf("%s is deleted too soon", id)
	default:
	}
	cancel()
	awaitEnd(t, done)
	if id := next(t, a.deleted); id != "ep_1" {
		t.Errorf("%s is deleted", id)
	}
}

func TestAPublicURLIsRegisteredAsGiven(t *testing.T) {
	t.Parallel()
	a := newAPI(t, 0)
	s := NewSubscriber(SubscriberConfig{PosthornURL: a.url, OperatorKey: "operator"})
	registration, err := s.Register(t.Context(), "http://subscriber.example:8082/")
	if err != nil {
		t.Fatal(err)
	}
	if request := next(t, a.requested); request["url"] != "http://subscriber.example:8082/webhooks" ||
		request["event_types"].([]any)[0] != "*" {
		t.Errorf("it registers %v", request)
	}
	if registration.EndpointID() != "ep_1" {
		t.Errorf("the endpoint is %s", registration.EndpointID())
	}
}

func TestARefusedRegistrationIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	a := newAPI(t, 0)
	for name, cfg := range map[string]SubscriberConfig{
		"401 Unauthorized": {PosthornURL: a.url, OperatorKey: "wrong"},
		"no such key":      {PosthornURL: a.url},
		"not the URL":      {PosthornURL: "localhost"},
	} {
		_, err := NewSubscriber(cfg).Register(t.Context(), "http://localhost")
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWaitingForPosthornEndsWithTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	starting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		cancel()
	}))
	t.Cleanup(starting.Close)
	err := RunSubscriber(ctx, SubscriberConfig{Addr: "127.0.0.1:0", PosthornURL: starting.URL, Output: newOutput()})
	if err != nil {
		t.Error(err)
	}
}

func TestRunSubscriberSaysWhenItsAddressIsTaken(t *testing.T) {
	t.Parallel()
	taken := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(taken.Close)
	addr := strings.TrimPrefix(taken.URL, "http://")
	err := RunSubscriber(t.Context(), SubscriberConfig{Addr: addr, PosthornURL: taken.URL})
	if err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("RunSubscriber: %v", err)
	}
}
