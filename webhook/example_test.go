package webhook_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"github.com/posthorn/posthorn/webhook"
)

func ExampleSign() {
	secret, err := webhook.ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		log.Fatal(err)
	}
	at := time.Unix(1614265330, 0)
	signature, err := webhook.Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at, []byte(`{"test": 2432232314}`), secret)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(signature)
	// Output: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=
}

func ExampleSigner() {
	secret, err := webhook.ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		log.Fatal(err)
	}
	signer, err := webhook.NewSigner(secret) // once for many messages
	if err != nil {
		log.Fatal(err)
	}
	var buf []byte
	buf = signer.AppendSignature(buf[:0], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330,
		[]byte(`{"test": `), []byte(`2432232314`), []byte(`}`))
	fmt.Printf("%s\n", buf)
	// Output: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=
}

func ExampleSecret() {
	secret := webhook.NewSecret()
	fmt.Println(secret)
	fmt.Printf("%+v %#v %x\n", secret, secret, secret)
	fmt.Println(len(secret.Reveal()))
	// Output:
	// whsec_[redacted]
	// whsec_[redacted] whsec_[redacted] whsec_[redacted]
	// 50
}

func ExampleVerifier_Verify() {
	// While the sender changes its secret, hold the old one and the new one.
	oldSecret, newSecret := webhook.NewSecret(), webhook.NewSecret()
	verifier, err := webhook.NewVerifier(oldSecret, newSecret)
	if err != nil {
		log.Fatal(err)
	}

	// What a sender sends.
	now, body := time.Now(), []byte(`{"order_id":17}`)
	signature, err := webhook.Sign("evt_1", now, body, newSecret)
	if err != nil {
		log.Fatal(err)
	}
	header := http.Header{}
	header.Set(webhook.HeaderID, "evt_1")
	header.Set(webhook.HeaderTimestamp, strconv.FormatInt(now.Unix(), 10))
	header.Set(webhook.HeaderSignature, signature)

	fmt.Println(verifier.Verify(header, body))
	err = verifier.Verify(header, []byte(`{"order_id":18}`))
	fmt.Println(err, errors.Is(err, webhook.ErrNoMatchingSignature))
	// Output:
	// <nil>
	// webhook: no matching signature true
}

func ExampleVerifier_Middleware() {
	secret := webhook.NewSecret()
	verifier, err := webhook.NewVerifier(secret)
	if err != nil {
		log.Fatal(err)
	}
	handler := verifier.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := webhook.IDFromContext(r.Context())
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "cannot read", http.StatusBadRequest)
			return
		}
		event, err := webhook.ParseEvent(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Printf("%s: %s %s\n", id, event.Type, event.Data)
		w.WriteHeader(http.StatusNoContent)
	}))

	// What a sender sends.
	now := time.Now()
	body := []byte(`{"type":"order.paid","timestamp":"2026-01-02T15:04:05Z","data":{"order_id":17}}`)
	signature, err := webhook.Sign("evt_1", now, body, secret)
	if err != nil {
		log.Fatal(err)
	}
	request := httptest.NewRequest(http.MethodPost, "/webhooks", bytes.NewReader(body))
	request.Header.Set(webhook.HeaderID, "evt_1")
	request.Header.Set(webhook.HeaderTimestamp, strconv.FormatInt(now.Unix(), 10))
	request.Header.Set(webhook.HeaderSignature, signature)

	response := httptest.NewRecorder()
	handler.ServeHTTP(response, request)
	fmt.Println(response.Code)

	// What a stranger sends.
	response = httptest.NewRecorder()
	handler.ServeHTTP(response, httptest.NewRequest(http.MethodPost, "/webhooks", strings.NewReader("{}")))
	fmt.Print(response.Code, " ", response.Body)
	// Output:
	// evt_1: order.paid {"order_id":17}
	// 204
	// 401 webhook: missing header: webhook-id
}

func ExampleParseEvent() {
	event, err := webhook.ParseEvent([]byte(
		`{"type":"order.paid","timestamp":"2026-01-02T15:04:05Z","data":{"order_id":17}}`))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(event.Type, event.Timestamp.Format(time.RFC3339), string(event.Data))
	// Output: order.paid 2026-01-02T15:04:05Z {"order_id":17}
}
