package dispatcher

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRetryAfter_IsReadInEveryFormAndAbsurdOnesAreBounded(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{ // 0: no hold
		"120":   2 * time.Minute,
		" 120 ": 2 * time.Minute,
		"007":   7 * time.Second,
		"1":     time.Second,
		"86400": maxRetryAfter,
		"86401": maxRetryAfter,
		// Absurd, but clearly "not soon".
		"9223372037":             maxRetryAfter, // seconds that overflow a time.Duration
		"18446744073709551616":   maxRetryAfter, // and a uint64
		strings.Repeat("9", 500): maxRetryAfter,

		"0": 0, "000": 0, "-5": 0, "-0": 0, "+5": 0, "1.5": 0, "1,5": 0, "1e3": 0, "0x10": 0, "1_000": 0,
		"abc": 0, "": 0, " ": 0, "120s": 0, "120, 60": 0, "१२": 0, "12\x00": 0, "∞": 0,

		"Mon, 23 Nov 2026 12:01:00 GMT":   time.Minute, // IMF-fixdate
		"Monday, 23-Nov-26 12:01:00 GMT":  time.Minute, // RFC 850
		"Mon Nov 23 12:01:00 2026":        time.Minute, // asctime
		"Tue Dec  1 12:00:00 2026":        maxRetryAfter,
		"Tue, 24 Nov 2026 11:59:59 GMT":   maxRetryAfter - time.Second,
		"Fri, 31 Dec 9999 23:59:59 GMT":   maxRetryAfter,
		"Mon, 23 Nov 2026 12:00:00 GMT":   0, // now
		"Mon, 23 Nov 2026 11:59:59 GMT":   0, // past
		"Sunday, 06-Nov-94 08:49:37 GMT":  0,
		"Sun Nov  6 08:49:37 1994":        0,
		"Thu, 01 Jan 0000 00:00:00 GMT":   0,
		"2026-11-23T12:01:00Z":            0, // RFC 3339 is no HTTP date
		"Mon, 23 Nov 2026 12:01:00 +0000": 0,
		"Mon, 31 Feb 2027 12:01:00 GMT":   0, // no such day
	} {
		for _, status := range []int{429, 503} {
			got, ok := retryAfter(status, http.Header{"Retry-After": {value}}, now)
			if got != want || ok != (want > 0) {
				t.Errorf("%d with %.60q: %s, %t; want %s", status, value, got, ok, want)
			}
		}
	}
}

func TestRetryAfter_CountsOnlyOnceAndOnlyWhereItHolds(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for name, header := range map[string]http.Header{
		"none": {}, "nil": nil, "two lines": {"Retry-After": {"60", "120"}}, "two equal lines": {"Retry-After": {"60", "60"}},
		"no line": {"Retry-After": {}}, "another header": {"Retry-After-Ms": {"60"}},
	} {
		if got, ok := retryAfter(429, header, now); ok || got != 0 {
			t.Errorf("%s: %s, %t", name, got, ok)
		}
	}
	for status := range 1000 {
		_, ok := retryAfter(status, http.Header{"Retry-After": {"60"}}, now)
		if want := status == 429 || status == 503; ok != want {
			t.Errorf("%d: %t", status, ok)
		}
	}
	// The answer's own clock does not matter.
	header := http.Header{"Retry-After": {"Mon, 23 Nov 2026 12:01:00 GMT"}, "Date": {"Mon, 23 Nov 2026 11:00:00 GMT"}}
	if got, ok := retryAfter(503, header, now); !ok || got != time.Minute {
		t.Errorf("%s, %t", got, ok)
	}
}

func TestRetryAfter_IsAlwaysWithinADay(t *testing.T) {
	t.Parallel()
	values := rapid.OneOf(
		rapid.String(),
		rapid.StringMatching(`[-+]?[0-9]{1,30}(\.[0-9]*)?`),
		rapid.Custom(func(t *rapid.T) string {
			at := time.Unix(rapid.Int64Range(-1<<36, 1<<37).Draw(t, "unix"), 0).UTC()
			return at.Format(rapid.SampledFrom([]string{http.TimeFormat, time.RFC850, time.ANSIC}).Draw(t, "form"))
		}),
		rapid.Map(rapid.Uint64(), func(n uint64) string { return strconv.FormatUint(n, 10) }),
	)
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "now"), 0)
		value := values.Draw(t, "value")
		got, ok := retryAfter(rapid.SampledFrom([]int{429, 503, 500}).Draw(t, "status"), http.Header{"Retry-After": {value}}, now)
		if ok && (got <= 0 || got > maxRetryAfter) || !ok && got != 0 {
			t.Fatalf("%q: %s, %t", value, got, ok)
		}
	})
}
