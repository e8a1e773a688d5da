package soak

import (
	"strings"
	"time"
)

// History is everything that a run has left behind, as far as the verdict needs
// it. Judge reads nothing else.
type History struct {
	Rules        Rules
	Endpoints    []Endpoint
	Publications []Publication
	Events       []Event
	Posts        []Post
	Deliveries   []Delivery
	Attempts     []Attempt
	Sightings    []Sighting
	Ledgers      []Ledger
	Faults       []Window
	// Complaints are what a process printed that it must not print, and ends that
	// nobody asked for.
	Complaints []string
	// Unsettled says what was still unfinished when the wait for quiet ended; empty
	// when nothing was.
	Unsettled string
	// Settling is how long it took after the last fault until nothing was unfinished.
	Settling time.Duration
}

// Rules are the settings that the verdict depends on.
type Rules struct {
	// AttemptTimeout is POSTHORN_ATTEMPT_TIMEOUT.
	AttemptTimeout time.Duration
	// MaxAttempts is how many attempts the retry schedule allows.
	MaxAttempts int
	// Nodes is how many posthorn serve ran.
	Nodes int
}

// Endpoint is one of the receiver's addresses, as registered.
type Endpoint struct {
	ID      string // "ep_…"
	Tenant  string
	Pattern string
	Ordered bool // ordering: "key"
}

// wants says whether an event goes to the endpoint; written anew on purpose.
func (e Endpoint) wants(tenant, eventType string) bool {
	if e.Tenant != tenant {
		return false
	}
	if prefix, all := strings.CutSuffix(e.Pattern, "*"); all {
		return strings.HasPrefix(eventType, prefix)
	}
	return e.Pattern == eventType
}

// Outcome is what a producer knows of a publication.
type Outcome string

// The outcomes.
const (
	Committed  Outcome = "committed"
	RolledBack Outcome = "rolled back"
	Unknown    Outcome = "unknown" // the commit's answer was lost: the business table knows
)

// Publication is one attempt of a producer to publish, whatever came of it.
type Publication struct {
	Seq            int64 // its own number, which is in the payload
	Tenant         string
	EventType      string
	OrderingKey    string
	IdempotencyKey string
	PayloadHash    string
	Outcome        Outcome
	// InBooks is whether the business row of the same transaction is there at the end.
	InBooks bool
	// EventID is what the statement returned, "evt_…"; empty when an INSERT with a
	// repeated idempotency key inserted nothing. Known only of what is in the books.
	EventID string
	// Position is its place among those with its tenant and ordering key in the order
	// of their commits, from 1. Known only of what is in the books.
	Position int64
}

// Event is a row of the outbox.
type Event struct {
	ID  string // "evt_…"
	Seq int64  // of its payload
}

// Post is one POST that the receiver read to its end.
type Post struct {
	N           int // from 0, in the order of arrival
	At          time.Time
	Endpoint    string // "ep_…"
	EventID     string // the header webhook-id
	Seq         int64  // of the payload
	BodyHash    string
	PayloadHash string
	Fault       string // why the request is not genuine; empty when it is
	Status      int    // what was answered; 0 when no status line was sent
	Written     bool   // the answer was written without an error
}

// accepted says whether the receiver took the event.
func (p Post) accepted() bool { return p.Status/100 == 2 }

// Delivery is a row of posthorn.deliveries.
type Delivery struct {
	ID, EventID, Endpoint string
	Status                string
	Attempts              int
}

func terminal(status string) bool {
	return status == "delivered" || status == "dead" || status == "cancelled"
}

// Attempt is a row of posthorn.attempts.
type Attempt struct {
	Delivery  string
	Number    int
	StartedAt time.Time
	Duration  time.Duration
	Status    int // 0: no answer
}

// Sighting is a state that the monitor saw while everything was running.
type Sighting struct {
	Delivery string
	Status   string
	Attempts int
	At       time.Time
}

// Ledger is an answer to GET /v1/ledger.
type Ledger struct {
	At          time.Time
	Events      int64
	Expected    int64
	Unaccounted int64
	Final       bool // taken when all was quiet
}

// Window is when a fault was at work.
type Window struct {
	Kind       FaultKind
	Detail     string
	Start, End time.Time
}
