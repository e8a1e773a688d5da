package dispatcher

import (
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/posthorn/posthorn/internal/exchange"
)

func TestRedirect_NamesItsTarget(t *testing.T) {
	t.Parallel()
	for location, want := range map[string]string{
		"https://new.example/hook":      "the receiver answered 301 Moved Permanently to https://new.example/hook: redirects are not followed, register the final URL",
		"/hook/":                        "the receiver answered 301 Moved Permanently to /hook/: redirects are not followed, register the final URL",
		"":                              "the receiver answered 301 Moved Permanently: redirects are not followed, register the URL that answers itself",
		"/\x00\xff\x1b[2J\u202e\r\nx":   "the receiver answered 301 Moved Permanently to /\ufffd\ufffd\ufffd[2J\ufffd\ufffd\ufffdx: redirects are not followed, register the final URL",
		"/" + strings.Repeat("é", 9999): "the receiver answered 301 Moved Permanently to /" + strings.Repeat("é", 98) + "…: redirects are not followed, register the final URL",
	} {
		got := judge(evidence{status: 301, header: http.Header{"Location": {location}}}).Message
		if got != want {
			t.Errorf("%.40q:\n%q, want\n%q", location, got, want)
		}
	}
}

func TestTimeout_IsExplainedAsFarAsItIsKnown(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		"no answer within the attempt's time limit":                                      explainTimeout(0, exchange.Unknown),
		"no answer within 15s":                                                           explainTimeout(15*time.Second, exchange.Unknown),
		"no answer within 15s: the time ran out connecting":                              explainTimeout(15*time.Second, exchange.Connecting),
		"no answer within 15s: the time ran out sending the request":                     explainTimeout(15*time.Second, exchange.Sending),
		"no answer within 1m30s: the time ran out in the middle of the answer's headers": explainTimeout(90*time.Second, exchange.Answering),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestPrintable_IsBoundedTextForEveryInput(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "s")
		limit := rapid.IntRange(10, 100).Draw(t, "limit")
		got := printable(s, limit)
		if len(got) > limit || !utf8.ValidString(got) || strings.ContainsAny(got, "\x00\n\r\x1b\x7f") || printable(got, limit) != got {
			t.Fatalf("%q", got)
		}
	})
}
