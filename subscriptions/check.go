package subscriptions

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// InvalidError lists what is wrong with a draft or an update.
type InvalidError struct {
	// Problems has one entry for each field that breaks a rule.
	Problems []Problem
}

// Problem is one rule broken.
type Problem struct {
	// Pointer is the JSON pointer to the field, such as "/event_types/0".
	Pointer string
	// Detail says what is wrong, in words for the subscriber.
	Detail string
}

// Error lists the problems.
func (e *InvalidError) Error() string {
	var all []string
	for _, p := range e.Problems {
		all = append(all, p.Pointer+": "+p.Detail)
	}
	return "invalid endpoint: " + strings.Join(all, "; ")
}

// The limits of an endpoint's fields.
const (
	maxTenantLength      = 255
	maxPatterns          = 100
	maxDescriptionLength = 1000
	maxMetadataBytes     = 16 << 10
	maxMaxInFlight       = 256
	maxRateLimit         = 10_000
	minRateLimit         = 0.01 // one request in a hundred seconds
)

// DefaultMaxInFlight is how many requests to an endpoint are under way from one
// process, unless the endpoint says otherwise.
const DefaultMaxInFlight = 16

// check returns an *InvalidError with every rule that the draft breaks, or nil.
func (s *Store) check(d Draft) error {
	var problems []Problem
	add := func(pointer, format string, args ...any) {
		problems = append(problems, Problem{pointer, fmt.Sprintf(format, args...)})
	}
	if n := utf8.RuneCountInString(d.TenantID); n == 0 || n > maxTenantLength || hasNUL(d.TenantID) {
		add("/tenant_id", "must have 1 to %d characters", maxTenantLength)
	}
	if err := s.policy.CheckURL(d.URL); err != nil {
		add("/url", "%s", err)
	}
	if n := len(d.EventTypes); n == 0 || n > maxPatterns {
		add("/event_types", "must have 1 to %d patterns, not %d", maxPatterns, n)
	}
	for i, p := range d.EventTypes {
		if _, err := ParsePattern(p); err != nil {
			add(fmt.Sprintf("/event_types/%d", i), "%s", err)
		}
	}
	if utf8.RuneCountInString(d.Description) > maxDescriptionLength || hasNUL(d.Description) {
		add("/description", "must have at most %d characters, and no NUL", maxDescriptionLength)
	}
	switch d.PayloadFormat {
	case Standard, Raw, CloudEvents:
	default:
		add("/payload_format", "must be standard, raw or cloudevents")
	}
	if d.MaxInFlight < 1 || d.MaxInFlight > maxMaxInFlight {
		add("/max_in_flight", "must be 1 to %d", maxMaxInFlight)
	}
	if r := d.RateLimitPerSecond; r != 0 && !(r >= minRateLimit && r <= maxRateLimit) {
		add("/rate_limit_per_second", "must be %v to %d", minRateLimit, maxRateLimit)
	}
	if d.Ordering != Unordered && d.Ordering != ByKey {
		add("/ordering", "must be none or key")
	}
	var object map[string]any
	if err := json.Unmarshal(d.Metadata, &object); err != nil || object == nil || len(d.Metadata) > maxMetadataBytes || !utf8.Valid(d.Metadata) {
		add("/metadata", "must be a JSON object of at most %d bytes", maxMetadataBytes)
	}
	if problems != nil {
		return &InvalidError{Problems: problems}
	}
	return nil
}

// hasNUL finds what PostgreSQL's text can't hold.
func hasNUL(s string) bool { return strings.ContainsRune(s, 0) || !utf8.ValidString(s) }
