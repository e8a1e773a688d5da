package sample

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/posthorn/posthorn/webhook"
)

// ReceivePath is where a Subscriber takes webhooks.
const ReceivePath = "/webhooks"

const (
	// maxRemembered bounds the ids kept to tell repeats: about 1 MB.
	maxRemembered = 10_000
	// maxPrinted bounds the bytes of a payload that are printed.
	maxPrinted = 2 << 10
)

// SubscriberConfig is what a Subscriber needs.
type SubscriberConfig struct {
	// Addr is where to listen, such as ":8082". Only RunSubscriber uses it.
	Addr string

	// PosthornURL is the base of Posthorn's API, such as "http://localhost:8080".
	// Only Register and RunSubscriber use it.
	PosthornURL string

	// OperatorKey is the API key to register with. Only Register and RunSubscriber
	// use it.
	OperatorKey string

	// PublicURL is where Posthorn reaches this subscriber, without a path, such as
	// "http://subscriber:8082". Only RunSubscriber uses it; empty means
	// http://localhost and the port listened at.
	PublicURL string

	// EventTypes are the patterns to subscribe to. Empty means "*": everything.
	EventTypes []string

	// Output receives a line for each webhook, each in one Write. Nil means
	// standard output.
	Output io.Writer

	// Logger receives what else there is to say. Nil means slog.Default().
	Logger *slog.Logger

	// OnMessage, if set, is called with each webhook that was accepted, before it
	// is answered. Calls may overlap.
	OnMessage func(Message)
}

// Message is a verified webhook.
type Message struct {
	ID     string          // the header webhook-id
	Type   string          // empty if the body is not in the standard format
	Data   json.RawMessage // the payload, byte for byte; else the whole body
	Repeat bool            // the id has been received before
}

// Counts is how many webhooks a Subscriber has answered, and how.
type Counts struct {
	Received int `json:"received"` // verified and accepted, repeats included
	Repeated int `json:"repeated"` // of those, with an id received before
	Refused  int `json:"refused"`  // 401: the signature did not verify
	Failed   int `json:"failed"`   // verified, but answered as Break says
}

// Subscriber receives webhooks, verifies and prints them. It is an
// http.Handler, which serves ReceivePath, GET / with its state, and POST /break
// and /repair. It is safe for concurrent use.
type Subscriber struct {
	cfg      SubscriberConfig
	log      *slog.Logger
	mux      *http.ServeMux
	verifier atomic.Pointer[webhook.Verifier]

	mu     sync.Mutex // also keeps lines of output apart
	counts Counts
	seen   recentIDs
	broken int // the status to answer, 0 when whole
}

// NewSubscriber makes a subscriber. Until SetSecret or Register has given it
// its secret it answers 503, which Posthorn tries again.
func NewSubscriber(cfg SubscriberConfig) *Subscriber {
	if cfg.Output == nil {
		cfg.Output = os.Stdout
	}
	if len(cfg.EventTypes) == 0 {
		cfg.EventTypes = []string{"*"}
	}
	s := &Subscriber{cfg: cfg, log: cfg.Logger, mux: http.NewServeMux(), seen: newRecentIDs(maxRemembered)}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.mux.HandleFunc("GET /{$}", s.serveState)
	s.mux.HandleFunc("POST "+ReceivePath, s.receive)
	s.mux.HandleFunc("POST /break", s.serveBreak)
	s.mux.HandleFunc("POST /repair", s.serveRepair)
	return s
}

// ServeHTTP serves the subscriber's routes.
func (s *Subscriber) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// SetSecret sets the secret to verify with, in place of an earlier one. It
// returns an error for which errors.Is(err, webhook.ErrInvalidSecret) is true
// for the zero Secret.
func (s *Subscriber) SetSecret(secret webhook.Secret) error {
	verifier, err := webhook.NewVerifier(secret)
	if err != nil {
		return err
	}
	s.verifier.Store(verifier)
	return nil
}

// Received returns the counts so far.
func (s *Subscriber) Received() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// Break makes the subscriber answer verified webhooks with an HTTP status, 300
// to 599, until Repair. It returns an error for any other.
func (s *Subscriber) Break(status int) error {
	if status < 300 || status > 599 {
		return fmt.Errorf("the status must be 300 to 599, not %d", status)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = status
	return nil
}

// Repair undoes Break.
func (s *Subscriber) Repair() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = 0
}

func (s *Subscriber) receive(w http.ResponseWriter, r *http.Request) {
	verifier := s.verifier.Load()
	if verifier == nil {
		http.Error(w, "the subscriber has no secret yet", http.StatusServiceUnavailable)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, webhook.DefaultMaxBodyBytes))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := verifier.Verify(r.Header, body); err != nil {
		s.refuse(err)
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	message := Message{ID: r.Header.Get(webhook.HeaderID), Data: body}
	if event, err := webhook.ParseEvent(body); err == nil {
		message.Type, message.Data = event.Type, event.Data
	}
	if status := s.accept(&message); status != 0 {
		http.Error(w, "broken on purpose; POST /repair", status)
		return
	}
	if s.cfg.OnMessage != nil {
		s.cfg.OnMessage(message)
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Subscriber) refuse(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Refused++
	s.print("refused a webhook: " + reason.Error())
}

// accept counts and prints a verified message, and returns the status to fail
// it with, or 0.
func (s *Subscriber) accept(m *Message) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	what := m.ID
	if m.Type != "" {
		what = m.Type + " " + m.ID
	}
	if s.broken != 0 {
		s.counts.Failed++
		s.print("failed   " + what + " with status " + strconv.Itoa(s.broken) + " (broken; POST /repair)")
		return s.broken
	}
	s.counts.Received++
	note := "(verified)"
	if m.Repeat = s.seen.add(m.ID); m.Repeat {
		s.counts.Repeated++
		note = "(verified, received before)"
	}
	s.print("received " + what + " " + shown(m.Data) + " " + note)
	return 0
}

// print writes a line; the caller holds mu.
func (s *Subscriber) print(line string) {
	_, _ = io.WriteString(s.cfg.Output, printable(line)+"\n") // nobody to tell
}

func (s *Subscriber) serveState(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	state := struct {
		Counts
		BrokenStatus *int     `json:"broken_status"` // null: whole
		EventTypes   []string `json:"event_types"`
		Help         string   `json:"help"`
	}{Counts: s.counts, EventTypes: s.cfg.EventTypes, Help: "POST /break?status=500, POST /repair"}
	if broken := s.broken; broken != 0 {
		state.BrokenStatus = &broken
	}
	s.mu.Unlock()
	writeJSON(w, http.StatusOK, state)
}

func (s *Subscriber) serveBreak(w http.ResponseWriter, r *http.Request) {
	status := http.StatusInternalServerError
	if text := r.FormValue("status"); text != "" {
		var err error
		if status, err = strconv.Atoi(text); err != nil {
			writeError(w, http.StatusBadRequest, fmt.Sprintf("the status %.20q is not a number", text))
			return
		}
	}
	if err := s.Break(status); err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	s.serveState(w, r)
}

func (s *Subscriber) serveRepair(w http.ResponseWriter, r *http.Request) {
	s.Repair()
	s.serveState(w, r)
}
