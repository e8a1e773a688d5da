package webhook_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/posthorn/posthorn/webhook"
)

// signedAt is when the tests' messages are signed. It has a fraction of a
// second, which signing and verifying must leave out alike.
var signedAt = time.Unix(1_767_225_600, 900_000_000)

// fataler is what the helpers need of a *testing.T, *testing.F or *rapid.T.
type fataler interface {
	Helper()
	Fatal(args ...any)
}

func mustParseSecret(t fataler, text string) webhook.Secret {
	t.Helper()
	secret, err := webhook.ParseSecret(text)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// verifierAt returns a verifier whose clock stands still at now.
func verifierAt(t fataler, now time.Time, secrets ...webhook.Secret) *webhook.Verifier {
	t.Helper()
	verifier, err := webhook.NewVerifier(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	verifier.Now = func() time.Time { return now }
	return verifier
}

// message is a signed webhook.
type message struct {
	id     string
	header http.Header
	body   []byte
}

// sign returns a message signed at the given time with the given secrets.
func sign(t fataler, at time.Time, secrets ...webhook.Secret) message {
	t.Helper()
	m := message{id: "evt_01", header: http.Header{}, body: []byte(`{"order_id":17}`)}
	signature, err := webhook.Sign(m.id, at, m.body, secrets...)
	if err != nil {
		t.Fatal(err)
	}
	m.header.Set(webhook.HeaderID, m.id)
	m.header.Set(webhook.HeaderTimestamp, strconv.FormatInt(at.Unix(), 10))
	m.header.Set(webhook.HeaderSignature, signature)
	return m
}

// plainSignature computes one signature as the specification words it, without
// this package's code.
func plainSignature(key []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "." + string(body)))
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error is %v, want one that is %v", err, want)
	}
}
