package webhook_test

import (
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/posthorn/posthorn/webhook"
)

// FuzzVerify holds Verify to the specification in its plainest words: whatever
// the headers, it accepts exactly what the oracle accepts. The word SIG in the
// signature header stands for the message's valid signature, which a fuzzer
// does not find by itself.
func FuzzVerify(f *testing.F) {
	const now = "1767225600"
	f.Add("evt_1", now, "SIG", []byte(`{}`))
	f.Add("evt_1", now, "v1,bad SIG v1a,x", []byte(`{}`))
	f.Add("evt_1", now, strings.Repeat("v1 ", 31)+"SIG", []byte(`{}`))
	f.Add("evt_1", now, strings.Repeat("v1 ", 32)+"SIG", []byte(`{}`))
	f.Add("evt_1", now, "SIG,x", []byte(nil))
	f.Add("evt_1", now, "", []byte(`{}`))
	f.Add("evt_1", now, "v1,", []byte(`{}`))
	f.Add("evt.1", now, "SIG", []byte(`{}`))
	f.Add("", now, "SIG", []byte(`{}`))
	f.Add("evt_1", "1767225300", "SIG", []byte("\x00\xff"))
	f.Add("evt_1", "1767225299", "SIG", []byte(`{}`))
	f.Add("evt_1", "1767225901", "SIG", []byte(`{}`))
	f.Add("evt_1", "+"+now, "SIG", []byte(`{}`))
	f.Add("evt_1", "0"+now, "SIG", []byte(`{}`))
	f.Add("evt_1", "9223372036854775807", "SIG", []byte(`{}`))

	secret := webhook.NewSecret()
	verifier := verifierAt(f, time.Unix(1767225600, 0), webhook.NewSecret(), secret)
	f.Fuzz(func(t *testing.T, id, timestamp, signature string, body []byte) {
		valid := plainSignature(secret.Bytes(), id, timestamp, body)
		signature = strings.ReplaceAll(signature, "SIG", valid)
		entries := strings.Fields(signature)
		entries = entries[:min(len(entries), 32)]
		unix, err := strconv.ParseInt(timestamp, 10, 64)
		want := id != "" && !strings.Contains(id, ".") &&
			err == nil && strconv.FormatInt(unix, 10) == timestamp &&
			unix >= 1767225300 && unix <= 1767225900 &&
			slices.Contains(entries, valid)

		header := http.Header{}
		header.Set(webhook.HeaderID, id)
		header.Set(webhook.HeaderTimestamp, timestamp)
		header.Set(webhook.HeaderSignature, signature)
		if got := verifier.Verify(header, body); (got == nil) != want {
			t.Errorf("Verify gives %v for id %q, timestamp %q, signature %q, body %q; want accepted = %v",
				got, id, timestamp, signature, body, want)
		}
	})
}

// secretErrors is every error that ParseSecret can give; none can hold any of
// its input but a length.
var secretErrors = regexp.MustCompile(`^webhook: invalid secret: (it must begin with "whsec_"` +
	`|it contains white space|what follows "whsec_" is not standard base64` +
	`|it holds [0-9]+ bytes; it must hold 24 to 64)$`)

// FuzzParseSecret checks that what is accepted is 24 to 64 bytes and survives
// Reveal, and that no error shows its input.
func FuzzParseSecret(f *testing.F) {
	f.Add("")
	f.Add("whsec_")
	f.Add("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	f.Add("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
	f.Add("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	f.Add("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=")
	f.Add("whsec_" + strings.Repeat("A", 88))
	f.Add("whsec_[redacted]")
	f.Fuzz(func(t *testing.T, text string) {
		secret, err := webhook.ParseSecret(text)
		if err != nil {
			if !errors.Is(err, webhook.ErrInvalidSecret) || !secretErrors.MatchString(err.Error()) {
				t.Errorf("error is %q", err)
			}
			return
		}
		if n := len(secret.Bytes()); n < 24 || n > 64 {
			t.Errorf("%d bytes are accepted", n)
		}
		if revealed := secret.Reveal(); strings.TrimRight(revealed, "=") != strings.TrimRight(text, "=") {
			t.Error("Reveal gives another text than was read")
		}
	})
}
