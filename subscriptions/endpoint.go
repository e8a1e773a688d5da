package subscriptions

import (
	"encoding/json"
	"time"

	"github.com/posthorn/posthorn/internal/typeid"
)

// EndpointID names an endpoint: ep_ and 26 base32 characters outside.
type EndpointID = typeid.ID[endpointKind]

type endpointKind struct{}

// Prefix makes the kind of id that EndpointID is.
func (endpointKind) Prefix() string { return "ep" }

// ParseEndpointID reads the outside form of an endpoint's id.
func ParseEndpointID(s string) (EndpointID, error) { return typeid.Parse[endpointKind](s) }

// AllTenants is the tenant of an endpoint that sees every tenant's events. Only
// operators may make one.
const AllTenants = "*"

// Status says whether an endpoint is sent to.
type Status string

// The statuses. Paused and disabled endpoints hold their deliveries: a person
// paused the one, Posthorn disabled the other.
const (
	Enabled  Status = "enabled"
	Paused   Status = "paused"
	Disabled Status = "disabled"
)

// PayloadFormat says what the body of a webhook looks like.
type PayloadFormat string

// The payload formats.
const (
	// Standard is {"type":…,"timestamp":…,"data":<payload>}; the default.
	Standard PayloadFormat = "standard"
	// Raw is the payload alone.
	Raw PayloadFormat = "raw"
	// CloudEvents is a CloudEvents 1.0 event in structured mode.
	CloudEvents PayloadFormat = "cloudevents"
)

// Ordering says whether an endpoint's events come one after the other.
type Ordering string

// The orderings.
const (
	// Unordered events go as they come, many at a time; the default.
	Unordered Ordering = "none"
	// ByKey sends the events of one ordering key one at a time, in the order in
	// which they were committed. Events without a key go as they come.
	ByKey Ordering = "key"
)

// Endpoint is a tenant's URL with its subscription.
type Endpoint struct {
	// ID names the endpoint.
	ID EndpointID
	// TenantID is the tenant whose events it gets, or AllTenants.
	TenantID string
	// URL is where its webhooks are POSTed.
	URL string
	// EventTypes are the patterns; an event is sent if one of them matches.
	EventTypes []Pattern
	// Description is the subscriber's own words, at most 1,000 characters.
	Description string
	// PayloadFormat is the form of the body.
	PayloadFormat PayloadFormat
	// Metadata is a JSON object of the subscriber's, at most 16 KiB.
	Metadata json.RawMessage
	// MaxInFlight bounds the requests under way to it from one process, 1 to 256.
	MaxInFlight int
	// RateLimitPerSecond bounds the requests that all processes together begin in
	// a second; 0 means no limit.
	RateLimitPerSecond float64
	// Ordering says whether events with one ordering key come one after the other.
	Ordering Ordering
	// Status says whether it is sent to.
	Status Status
	// DisabledReason says why Posthorn disabled it; empty otherwise.
	DisabledReason string
	// Version counts this endpoint's changes, from 1.
	Version int
	// HealthEpoch counts the changes that void what was known of its health: a new
	// URL, a resumption.
	HealthEpoch int
	// CreatedAt and UpdatedAt are by the database's clock.
	CreatedAt, UpdatedAt time.Time
}
