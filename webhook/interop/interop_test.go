package interop_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/posthorn/posthorn/webhook"
	"github.com/posthorn/posthorn/webhook/interop"
)

// recorder keeps the failures that Verify reports instead of failing the test.
type recorder struct {
	testing.TB
	failures []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func signed(t *testing.T) interop.Case {
	t.Helper()
	secret, now := webhook.NewSecret(), time.Now()
	c := interop.Case{
		Secret:    secret.Reveal(),
		ID:        "evt_1",
		Timestamp: fmt.Sprint(now.Unix()),
		Body:      []byte(`{"order_id":17}`),
	}
	var err error
	if c.Signature, err = webhook.Sign(c.ID, now, c.Body, secret); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestVerify(t *testing.T) {
	t.Parallel()

	t.Run("ReportsExactlyTheRefusedCases", func(t *testing.T) {
		t.Parallel()
		good, body, secret, old := signed(t), signed(t), signed(t), signed(t)
		good.Name = "good"
		body.Name, body.Body = "other body", []byte(`{"order_id":18}`)
		secret.Name, secret.Secret = "other secret", webhook.NewSecret().Reveal()
		old.Name, old.Timestamp = "other time", fmt.Sprint(time.Now().Add(-time.Hour).Unix())

		r := &recorder{TB: t}
		interop.Verify(r, []interop.Case{body, good, secret, old})

		if len(r.failures) != 3 {
			t.Fatalf("%d failures, want 3: %q", len(r.failures), r.failures)
		}
		for i, want := range []string{"other body", "other secret", "other time"} {
			if !strings.Contains(r.failures[i], want) {
				t.Errorf("failure %d is %q, want it to name %q", i, r.failures[i], want)
			}
			for _, library := range []string{"standardwebhooks WebhookVerificationError", "svix WebhookVerificationError"} {
				if !strings.Contains(r.failures[i], library) {
					t.Errorf("failure %d is %q, want it to hold %q", i, r.failures[i], library)
				}
			}
		}
	})
}
