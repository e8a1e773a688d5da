package soak

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// receiver is the other side: it knows nothing of Posthorn but what comes over the
// wire, verifies that with a library that is not ours, and keeps a journal. It is
// safe for concurrent use.
type receiver struct {
	server *httptest.Server

	mu        sync.Mutex
	endpoints []listening
	journal   []Post
}

// listening is an endpoint as the receiver knows it.
type listening struct {
	id       string
	verifier *standardwebhooks.Webhook
	mode     FaultKind // empty: it behaves
}

// slowAnswer is how long some answers take of a receiver that is well.
const slowAnswer = 150 * time.Millisecond

func newReceiver() *receiver {
	r := &receiver{}
	r.server = httptest.NewServer(r)
	return r
}

// add makes room for an endpoint and returns its URL, with which it can be registered.
func (r *receiver) add() (place int, url string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endpoints = append(r.endpoints, listening{})
	place = len(r.endpoints) - 1
	return place, r.server.URL + "/" + strconv.Itoa(place)
}

// registered tells the receiver an endpoint's id and secret.
func (r *receiver) registered(place int, id, secret string) error {
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endpoints[place].id, r.endpoints[place].verifier = id, verifier
	return nil
}

// behave sets how the endpoint misbehaves from now on; empty: not at all.
func (r *receiver) behave(place int, mode FaultKind) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endpoints[place].mode = mode
}

// close waits for the requests that are being answered.
func (r *receiver) close() { r.server.Close() }

// posts is the journal so far.
func (r *receiver) posts() []Post {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Post(nil), r.journal...)
}

// ServeHTTP implements http.Handler.
func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	place, wrong := strconv.Atoi(strings.TrimPrefix(request.URL.Path, "/"))
	if err != nil || wrong != nil {
		return // the sender has died in the middle of it, or it is nobody's address
	}
	n, mode := r.enter(place, request.Header, body)
	if n%8 == 0 {
		pause(request.Context(), slowAnswer) // so that something is under way at any time
	}
	status, err := misbehave(w, request, mode)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.journal[n].Status, r.journal[n].Written = status, err == nil
}

// enter puts the request into the journal before anything is answered.
func (r *receiver) enter(place int, header http.Header, body []byte) (n int, mode FaultKind) {
	p := Post{At: time.Now(), EventID: header.Get("webhook-id"), BodyHash: hash(body)}
	var content struct {
		Type string          `json:"type"`
		Data json.RawMessage `json:"data"`
	}
	var payload struct {
		Seq int64 `json:"seq"`
	}
	if json.Unmarshal(body, &content) != nil || json.Unmarshal(content.Data, &payload) != nil {
		p.Fault = "its body is not that of an event"
	}
	p.Seq, p.PayloadHash = payload.Seq, hash(content.Data)

	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.endpoints[place]
	p.Endpoint = e.id
	if e.verifier == nil {
		p.Fault = "it came before the endpoint was registered"
	} else if err := e.verifier.Verify(body, header); err != nil {
		p.Fault = err.Error()
	}
	p.N = len(r.journal)
	r.journal = append(r.journal, p)
	return p.N, e.mode
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// misbehave answers, or does not, and returns the status line that it sent.
func misbehave(w http.ResponseWriter, request *http.Request, mode FaultKind) (status int, err error) {
	switch mode {
	case FaultError:
		return answer(w, http.StatusInternalServerError)
	case FaultBusy:
		w.Header().Set("Retry-After", "1")
		return answer(w, http.StatusTooManyRequests)
	case FaultHang:
		<-request.Context().Done()
		return 0, request.Context().Err()
	case FaultReset:
		return 0, raw(w, func(conn *net.TCPConn) error { return conn.SetLinger(0) })
	case FaultDrip:
		return 0, raw(w, func(conn *net.TCPConn) error { return drip(conn, "HTTP/1.1 200 OK\r\nSlow: "+strings.Repeat(".", 999)) })
	case FaultShort:
		return http.StatusOK, raw(w, func(conn *net.TCPConn) error {
			_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot a hundred")
			return err
		})
	case FaultDripBody:
		return http.StatusOK, raw(w, func(conn *net.TCPConn) error {
			return drip(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", strings.Repeat(".", 999))
		})
	}
	return answer(w, http.StatusNoContent)
}

func answer(w http.ResponseWriter, status int) (int, error) {
	w.WriteHeader(status)
	return status, http.NewResponseController(w).Flush()
}

// raw takes the connection over and closes it afterwards.
func raw(w http.ResponseWriter, do func(conn *net.TCPConn) error) error {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // whatever it says, it is closed
	return do(conn.(*net.TCPConn))
}

// dripInterval lets no whole header arrive for a minute and more, however long the
// sender is stopped.
const dripInterval = 100 * time.Millisecond

// drip writes a byte at a time, the last text only, until the other side has left.
func drip(conn *net.TCPConn, texts ...string) error {
	for _, whole := range texts[:len(texts)-1] {
		if _, err := io.WriteString(conn, whole); err != nil {
			return err
		}
	}
	ticker := time.NewTicker(dripInterval)
	defer ticker.Stop()
	for _, b := range []byte(texts[len(texts)-1]) {
		if _, err := conn.Write([]byte{b}); err != nil {
			return nil // it has given up, as it should
		}
		<-ticker.C
	}
	return nil
}
