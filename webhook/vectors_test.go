package webhook_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/posthorn/posthorn/webhook"
)

// vectors are from the test suites of the reference libraries of Standard
// Webhooks, which all languages share.
var vectors = []struct {
	name, secret, id, body, signature string
	unix                              int64
}{
	{
		name:      "Shared",
		secret:    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		id:        "msg_p5jXN8AQM9LWM0D4loKWxJek",
		unix:      1614265330,
		body:      `{"test": 2432232314}`,
		signature: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
	},
	{
		name:      "Rust",
		secret:    "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
		id:        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
		unix:      1649367553,
		body:      `{"email":"test@example.com","username":"test_user"}`,
		signature: "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
	},
}

func TestOfficialVectors(t *testing.T) {
	t.Parallel()
	for _, vector := range vectors {
		t.Run(vector.name, func(t *testing.T) {
			t.Parallel()
			secret := mustParseSecret(t, vector.secret)
			at := time.Unix(vector.unix, 0)

			signature, err := webhook.Sign(vector.id, at, []byte(vector.body), secret)
			if err != nil {
				t.Fatal(err)
			}
			if signature != vector.signature {
				t.Errorf("signature is %s, want %s", signature, vector.signature)
			}

			header := http.Header{}
			header.Set("webhook-id", vector.id)
			header.Set("webhook-timestamp", strconv.FormatInt(vector.unix, 10))
			header.Set("webhook-signature", vector.signature)
			if err := verifierAt(t, at, secret).Verify(header, []byte(vector.body)); err != nil {
				t.Errorf("the official signature is refused: %v", err)
			}
		})
	}
}
