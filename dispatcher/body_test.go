package dispatcher

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// anyEvent is an event that the outbox's constraints allow.
func anyEvent(t *rapid.T) (e BodyEvent) {
	id, err := outbox.ParseEventID("evt_01k4x3b8v2e0rr8c9kq7m5n4ts")
	if err != nil {
		t.Fatal(err)
	}
	return BodyEvent{
		ID:       id,
		TenantID: rapid.StringN(1, 255, -1).Draw(t, "tenant"),
		Type:     rapid.StringMatching(`[A-Za-z0-9_]{1,20}(\.[A-Za-z0-9_]{1,20}){0,5}`).Draw(t, "type"),
		OccurredAt: time.UnixMicro(rapid.Int64Range(-62135596800e6, 253402300799e6-1).Draw(t, "micros")).
			In(time.FixedZone("", rapid.IntRange(-12, 14).Draw(t, "zone")*3600)),
		Payload: []byte(rapid.SampledFrom(oddPayloads).Draw(t, "payload")),
	}
}

func TestBody_KeepsThePayloadByteForByte(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent(t)
		if got := Body(subscriptions.Raw, e); !bytes.Equal(got, e.Payload) {
			t.Fatalf("raw: %q", got)
		}
		for _, format := range []subscriptions.PayloadFormat{subscriptions.Standard, subscriptions.CloudEvents} {
			head, found := strings.CutSuffix(string(Body(format, e)), `,"data":`+string(e.Payload)+"}")
			if !found || !json.Valid([]byte(head+"}")) {
				t.Fatalf("%s: %q", format, Body(format, e))
			}
		}
	})
}

func TestBody_IsTheSameOnEveryAttempt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent(t)
		before := bytes.Clone(e.Payload)
		for _, format := range []subscriptions.PayloadFormat{subscriptions.Standard, subscriptions.Raw, subscriptions.CloudEvents} {
			first := bytes.Clone(Body(format, e))
			e.OccurredAt = e.OccurredAt.UTC()
			if again := Body(format, e); !bytes.Equal(first, again) || !json.Valid(again) {
				t.Fatalf("%s: %q, then %q", format, first, again)
			}
		}
		if !bytes.Equal(before, e.Payload) {
			t.Fatal("the payload was changed")
		}
	})
}

func TestBody_StandardSaysTypeTimeAndData(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent(t)
		var got struct {
			Type      string
			Timestamp string
			Data      json.RawMessage
		}
		decoder := json.NewDecoder(bytes.NewReader(Body(subscriptions.Standard, e)))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if got.Type != e.Type || !bytes.Equal(got.Data, bytes.Trim(e.Payload, " \t\r\n")) {
			t.Fatalf("%+v", got)
		}
		checkTime(t, got.Timestamp, e.OccurredAt)
	})
}

func TestBody_CloudEventsIsValid(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent(t)
		var got map[string]json.RawMessage
		if err := json.Unmarshal(Body(subscriptions.CloudEvents, e), &got); err != nil {
			t.Fatal(err)
		}
		text := func(name string) (s string) {
			if err := json.Unmarshal(got[name], &s); err != nil || s == "" {
				t.Fatalf("%s: %s (%v)", name, got[name], err)
			}
			return s
		}
		if text("specversion") != "1.0" || text("id") != e.ID.String() || text("type") != e.Type || text("datacontenttype") != "application/json" {
			t.Fatalf("%s", got)
		}
		checkTime(t, text("time"), e.OccurredAt)
		source, err := url.Parse(text("source"))
		if err != nil || source.Scheme != "urn" {
			t.Fatalf("source %s is no URN (%v)", got["source"], err)
		}
		tenant, err := url.PathUnescape(strings.TrimPrefix(source.Opaque, "posthorn:"))
		if err != nil || tenant != e.TenantID {
			t.Fatalf("source %s does not tell the tenant %q (%v)", got["source"], e.TenantID, err)
		}
		if len(got) != 7 {
			t.Fatalf("%d attributes", len(got))
		}
	})
}

func checkTime(t *rapid.T, text string, want time.Time) {
	got, err := time.Parse(time.RFC3339, text)
	if err != nil || !got.Equal(want) || !strings.HasSuffix(text, "Z") {
		t.Fatalf("time %s (%v), want %s in UTC, by RFC 3339", text, err, want)
	}
}

func TestContentType_GoesWithTheFormat(t *testing.T) {
	t.Parallel()
	for format, want := range map[subscriptions.PayloadFormat]string{
		subscriptions.Standard: "application/json", subscriptions.Raw: "application/json",
		subscriptions.CloudEvents: "application/cloudevents+json",
	} {
		if got := ContentType(format); got != want {
			t.Errorf("%s: %s, want %s", format, got, want)
		}
	}
}
