package webhook_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/posthorn/posthorn/webhook"
	"github.com/posthorn/posthorn/webhook/interop"
)

// interopBodies are JSON in forms that a careless sender or receiver changes.
var interopBodies = map[string]string{
	"plain":             `{"order_id":17}`,
	"odd white space":   " \n{\t\"b\" : 1 ,\r\n  \"a\":[ ] }\n\n",
	"big numbers":       `{"n":12345678901234567890123,"f":1.10,"e":1E+400}`,
	"unicode":           `{"name":"Zoë 漢字 😀 \u2028` + "\u2028" + `"}`,
	"escapes":           `{"s":"\u0000\ud800 \/ \u00e9 <&>"}`,
	"duplicate keys":    `{"a":1,"a":2}`,
	"scalar":            `0`,
	"dots like an id's": `"evt_1.1767225600."`,
}

func TestInteropWithNode(t *testing.T) {
	t.Parallel()
	current, next := webhook.NewSecret(), webhook.NewSecret()
	short, err := webhook.SecretFromBytes(current.Bytes()[:webhook.MinSecretBytes])
	if err != nil {
		t.Fatal(err)
	}
	long, err := webhook.SecretFromBytes(append(current.Bytes(), next.Bytes()...))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()

	var cases []interop.Case
	for name, body := range interopBodies {
		for receives, c := range map[string]struct {
			sender   []webhook.Secret
			receiver webhook.Secret
		}{
			"one secret":              {[]webhook.Secret{current}, current},
			"first of two secrets":    {[]webhook.Secret{current, next}, current},
			"second of two secrets":   {[]webhook.Secret{current, next}, next},
			"last of five secrets":    {[]webhook.Secret{current, next, short, current, long}, long},
			"shortest secret allowed": {[]webhook.Secret{short}, short},
		} {
			signature, err := webhook.Sign("evt_01jgx5r8v3e6qs4w1n0b7c2d9f", now, []byte(body), c.sender...)
			if err != nil {
				t.Fatal(err)
			}
			cases = append(cases, interop.Case{
				Name:      name + ", " + receives,
				Secret:    c.receiver.Reveal(),
				ID:        "evt_01jgx5r8v3e6qs4w1n0b7c2d9f",
				Timestamp: strconv.FormatInt(now.Unix(), 10),
				Signature: signature,
				Body:      []byte(body),
			})
		}
	}
	interop.Verify(t, cases)
}

func TestInteropWithGo(t *testing.T) {
	t.Parallel()
	bodies := map[string]string{"nothing": "", "not text": "\x00\xff\xfe"}
	for name, body := range interopBodies {
		bodies[name] = body
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secret := webhook.NewSecret()
			reference, err := standardwebhooks.NewWebhook(secret.Reveal())
			if err != nil {
				t.Fatal(err)
			}
			now := time.Now()
			header := http.Header{}
			header.Set(standardwebhooks.HeaderWebhookID, "evt_1")
			header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))

			ours, err := webhook.Sign("evt_1", now, []byte(body), webhook.NewSecret(), secret)
			if err != nil {
				t.Fatal(err)
			}
			header.Set(standardwebhooks.HeaderWebhookSignature, ours)
			if err := reference.Verify([]byte(body), header); err != nil {
				t.Errorf("the reference library refuses our signature: %v", err)
			}

			theirs, err := reference.Sign("evt_1", now, []byte(body))
			if err != nil {
				t.Fatal(err)
			}
			header.Set(standardwebhooks.HeaderWebhookSignature, theirs)
			if err := verifierAt(t, now, webhook.NewSecret(), secret).Verify(header, []byte(body)); err != nil {
				t.Errorf("we refuse the reference library's signature: %v", err)
			}
		})
	}
}
