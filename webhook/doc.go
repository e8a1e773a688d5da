// Package webhook signs and verifies webhooks as the Standard Webhooks
// specification describes (https://www.standardwebhooks.com). Senders and
// receivers share it; it needs nothing but the standard library.
//
// # The scheme
//
// A webhook is a POST with three headers:
//
//	webhook-id          names the event; the same on every attempt
//	webhook-timestamp   when this attempt was signed, in Unix seconds
//	webhook-signature   one or more signatures, separated by spaces
//
// A signature is "v1," and the base64 of
//
//	HMAC-SHA256(secret, id + "." + timestamp + "." + body)
//
// over the body's bytes exactly as they were sent. There is one signature for
// each of the sender's live secrets, so that a secret can be changed without a
// gap: while both are live both sign, and a receiver that holds either
// accepts. A receiver may hold several secrets for the same reason.
//
// The signed timestamp limits how long a captured request can be sent again.
// Within that time, and whenever a sender retries, the same id can arrive more
// than once: a receiver remembers the ids it has handled.
//
// # Receiving
//
// [Verifier.Middleware] verifies before your handler runs:
//
//	secret, err := webhook.ParseSecret(os.Getenv("WEBHOOK_SECRET"))
//	if err != nil {
//		log.Fatal(err)
//	}
//	verifier, err := webhook.NewVerifier(secret)
//	if err != nil {
//		log.Fatal(err)
//	}
//	http.Handle("/webhooks", verifier.Middleware(http.HandlerFunc(
//		func(w http.ResponseWriter, r *http.Request) {
//			id, _ := webhook.IDFromContext(r.Context()) // handle each id once
//			body, _ := io.ReadAll(r.Body)
//			event, err := webhook.ParseEvent(body)
//			…
//			w.WriteHeader(http.StatusNoContent)
//		})))
//
// Where a handler reads the body itself, [Verifier.Verify] takes the headers
// and the raw bytes. Verify before parsing: a body that was decoded and encoded
// again is no longer the one that was signed.
//
// # Sending
//
// [Sign] signs one message. A [Signer] made once for a list of secrets signs
// many without allocating.
package webhook
