package subscriptions

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
)

// many is so many patterns.
func many(n int) []string { return slices.Repeat([]string{"order.*"}, n) }

// object is a JSON object of so many bytes.
func object(bytes int) json.RawMessage {
	return json.RawMessage(`{"a":"` + strings.Repeat("x", bytes-8) + `"}`)
}

func TestCreate_PointsAtEveryProblem(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, c := range map[string]struct {
		change func(*Draft)
		want   []string
	}{
		"NoTenant":          {func(d *Draft) { d.TenantID = "" }, []string{"/tenant_id"}},
		"LongTenant":        {func(d *Draft) { d.TenantID = strings.Repeat("ü", 256) }, []string{"/tenant_id"}},
		"TenantWithNUL":     {func(d *Draft) { d.TenantID = "a\x00" }, []string{"/tenant_id"}},
		"TenantNotUTF8":     {func(d *Draft) { d.TenantID = "\xff" }, []string{"/tenant_id"}},
		"NoURL":             {func(d *Draft) { d.URL = "" }, []string{"/url"}},
		"InternalURL":       {func(d *Draft) { d.URL = "https://127.0.0.1/" }, []string{"/url"}},
		"NoPatterns":        {func(d *Draft) { d.EventTypes = nil }, []string{"/event_types"}},
		"ManyPatterns":      {func(d *Draft) { d.EventTypes = many(101) }, []string{"/event_types"}},
		"BadPatterns":       {func(d *Draft) { d.EventTypes = []string{"a", "b*", "c", ""} }, []string{"/event_types/1", "/event_types/3"}},
		"LongDescription":   {func(d *Draft) { d.Description = strings.Repeat("ü", 1001) }, []string{"/description"}},
		"DescriptionNUL":    {func(d *Draft) { d.Description = "\x00" }, []string{"/description"}},
		"UnknownFormat":     {func(d *Draft) { d.PayloadFormat = "xml" }, []string{"/payload_format"}},
		"MetadataNoJSON":    {func(d *Draft) { d.Metadata = json.RawMessage(`{`) }, []string{"/metadata"}},
		"MetadataEmpty":     {func(d *Draft) { d.Metadata = json.RawMessage(``) }, []string{"/metadata"}},
		"MetadataNull":      {func(d *Draft) { d.Metadata = json.RawMessage(`null`) }, []string{"/metadata"}},
		"MetadataArray":     {func(d *Draft) { d.Metadata = json.RawMessage(`[]`) }, []string{"/metadata"}},
		"MetadataLarge":     {func(d *Draft) { d.Metadata = object(16<<10 + 1) }, []string{"/metadata"}},
		"MetadataNotUTF8":   {func(d *Draft) { d.Metadata = json.RawMessage("{\"a\":\"\xff\"}") }, []string{"/metadata"}},
		"InFlightNegative":  {func(d *Draft) { d.MaxInFlight = -1 }, []string{"/max_in_flight"}},
		"InFlightLarge":     {func(d *Draft) { d.MaxInFlight = 257 }, []string{"/max_in_flight"}},
		"RateSmall":         {func(d *Draft) { d.RateLimitPerSecond = 0.001 }, []string{"/rate_limit_per_second"}},
		"RateLarge":         {func(d *Draft) { d.RateLimitPerSecond = 10_000.5 }, []string{"/rate_limit_per_second"}},
		"RateNegative":      {func(d *Draft) { d.RateLimitPerSecond = -1 }, []string{"/rate_limit_per_second"}},
		"RateNaN":           {func(d *Draft) { d.RateLimitPerSecond = math.NaN() }, []string{"/rate_limit_per_second"}},
		"RateInfinite":      {func(d *Draft) { d.RateLimitPerSecond = math.Inf(1) }, []string{"/rate_limit_per_second"}},
		"UnknownOrdering":   {func(d *Draft) { d.Ordering = "strict" }, []string{"/ordering"}},
		"EverythingAtOnce":  {func(d *Draft) { *d = Draft{Metadata: json.RawMessage(`1`)} }, []string{"/tenant_id", "/url", "/event_types", "/metadata"}},
		"SQLInPlaceOfWords": {func(d *Draft) { d.EventTypes = []string{"' OR 1=1"} }, []string{"/event_types/0"}},
	} {
		d := Draft{TenantID: "shop_1", URL: "https://example.com/", EventTypes: []string{"*"}}
		c.change(&d)
		_, secret, err := b.store.Create(t.Context(), d)
		if got := pointers(t, err); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if !secret.IsZero() {
			t.Errorf("%s: a secret comes with the refusal", name)
		}
	}
	if n := value[int](t, b.Pool, `SELECT count(*)::int FROM posthorn.endpoints`); n != 0 || b.revision(t) != 1 {
		t.Errorf("refusals have left %d endpoints and the revision %d", n, b.revision(t))
	}
}

func TestCreate_AcceptsTheLimits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	// The deepest that the bytes allow: PostgreSQL must be able to read it.
	deep := json.RawMessage(`{"a":` + strings.Repeat("[", 8189) + strings.Repeat("]", 8189) + `}`)
	if len(deep) != 16<<10 {
		t.Fatalf("%d bytes", len(deep))
	}
	for _, metadata := range []json.RawMessage{object(16 << 10), deep, json.RawMessage(" {\"a\":1,\"a\":\"\\u0000\\ud800\"} ")} {
		d := Draft{TenantID: strings.Repeat("ü", 255), URL: "https://example.com/", EventTypes: many(100),
			Description: strings.Repeat("ü", 1000), PayloadFormat: CloudEvents, Metadata: metadata}
		e, _, err := b.store.Create(t.Context(), d)
		if err != nil {
			t.Errorf("%.40s: %v", metadata, err)
			continue
		}
		if string(e.Metadata) != string(metadata) || e.Description != d.Description || e.TenantID != d.TenantID || len(e.EventTypes) != 100 {
			t.Errorf("%.40s came back as %.40s", metadata, e.Metadata)
		}
	}
}

func TestCreate_AcceptsTheLimitsOfThePace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for inFlight, rate := range map[int]float64{1: 0.01, 16: 0, 255: 1.0 / 3, 256: 10_000} {
		d := Draft{TenantID: "shop_1", URL: "https://example.com/", EventTypes: []string{"*"}, MaxInFlight: inFlight, RateLimitPerSecond: rate}
		e, _, err := b.store.Create(t.Context(), d)
		if err != nil || e.MaxInFlight != inFlight || e.RateLimitPerSecond != rate {
			t.Errorf("%d in flight, %v a second: %+v, %v", inFlight, rate, e, err)
		}
	}
}
