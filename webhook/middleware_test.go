package webhook_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/posthorn/posthorn/webhook"
)

// receiver is a handler behind the middleware that remembers what reached it.
type receiver struct {
	http.Handler
	verifier *webhook.Verifier
	calls    int
	id       string
	hasID    bool
	body     []byte
	length   int64
}

func newReceiver(t *testing.T, secret webhook.Secret) *receiver {
	t.Helper()
	r := &receiver{verifier: verifierAt(t, signedAt, secret)}
	r.Handler = r.verifier.Middleware(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.calls++
		r.id, r.hasID = webhook.IDFromContext(req.Context())
		r.length = req.ContentLength
		var err error
		if r.body, err = io.ReadAll(req.Body); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	return r
}

// post sends m; a body that is not a bytes.Reader goes without Content-Length.
func (r *receiver) post(method string, m message, body io.Reader) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, "/webhooks", body)
	for name, values := range m.header {
		req.Header[name] = values
	}
	response := httptest.NewRecorder()
	r.ServeHTTP(response, req)
	return response
}

func TestMiddleware(t *testing.T) {
	t.Parallel()

	t.Run("PassesOnTheVerifiedBodyAndID", func(t *testing.T) {
		t.Parallel()
		secret := webhook.NewSecret()
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"with Content-Length": func(r io.Reader) io.Reader { return r },
			"chunked":             iotest.OneByteReader,
		} {
			r, m := newReceiver(t, secret), sign(t, signedAt, secret)
			if response := r.post(http.MethodPost, m, wrap(bytes.NewReader(m.body))); response.Code != http.StatusAccepted {
				t.Errorf("%s: status is %d, want the handler's: %s", name, response.Code, response.Body)
			}
			if !r.hasID || r.id != m.id {
				t.Errorf("%s: id is %q, want %q", name, r.id, m.id)
			}
			if !bytes.Equal(r.body, m.body) || r.length != int64(len(m.body)) {
				t.Errorf("%s: body is %q of length %d, want %q", name, r.body, r.length, m.body)
			}
		}
	})

	t.Run("ReadsABodyOfExactlyTheLimit", func(t *testing.T) {
		t.Parallel()
		secret := webhook.NewSecret()
		r, m := newReceiver(t, secret), sign(t, signedAt, secret)
		r.verifier.MaxBodyBytes = int64(len(m.body))
		if response := r.post(http.MethodPost, m, bytes.NewReader(m.body)); response.Code != http.StatusAccepted {
			t.Errorf("status is %d, want %d", response.Code, http.StatusAccepted)
		}
	})

	t.Run("LimitsTheBodyTo1MiBByDefault", func(t *testing.T) {
		t.Parallel()
		secret := webhook.NewSecret()
		for size, want := range map[int]int{1 << 20: http.StatusUnauthorized, 1<<20 + 1: http.StatusRequestEntityTooLarge} {
			r, m := newReceiver(t, secret), sign(t, signedAt, secret)
			if response := r.post(http.MethodPost, m, bytes.NewReader(make([]byte, size))); response.Code != want {
				t.Errorf("status for %d bytes is %d, want %d", size, response.Code, want)
			}
		}
	})

	t.Run("RefusesWithOneLineOfPlainText", func(t *testing.T) {
		t.Parallel()
		secret := webhook.NewSecret()
		for name, c := range map[string]struct {
			method string
			limit  int64
			spoil  func(*message)
			read   func(io.Reader) io.Reader
			status int
			says   string
		}{
			"GET": {method: http.MethodGet, status: 405, says: "the method must be POST"},
			"PUT": {method: http.MethodPut, status: 405, says: "the method must be POST"},
			"unsigned": {spoil: func(m *message) { m.header = http.Header{} }, status: 401,
				says: "missing header: webhook-id"},
			"other body": {spoil: func(m *message) { m.body = []byte("{}") }, status: 401,
				says: "no matching signature"},
			"old": {spoil: func(m *message) { m.header.Set(webhook.HeaderTimestamp, "1") }, status: 401,
				says: "timestamp too old"},
			"too long": {limit: 14, status: 413, says: "the body is too long"},
			"too long, chunked": {limit: 14, status: 413, says: "the body is too long",
				read: iotest.OneByteReader},
			"broken off": {status: 400, says: "the body could not be read",
				read: func(r io.Reader) io.Reader { return io.MultiReader(r, iotest.ErrReader(errors.New("reset"))) }},
		} {
			r, m := newReceiver(t, secret), sign(t, signedAt, secret)
			r.verifier.MaxBodyBytes = c.limit
			if c.spoil != nil {
				c.spoil(&m)
			}
			var body io.Reader = bytes.NewReader(m.body)
			if c.read != nil {
				body = c.read(body)
			}
			method := c.method
			if method == "" {
				method = http.MethodPost
			}

			response := r.post(method, m, body)
			text := response.Body.String()
			if response.Code != c.status || !strings.Contains(text, c.says) {
				t.Errorf("%s: answer is %d %q, want %d with %q", name, response.Code, text, c.status, c.says)
			}
			if strings.Count(text, "\n") != 1 || !strings.HasPrefix(response.Header().Get("Content-Type"), "text/plain") {
				t.Errorf("%s: answer %q is not one line of plain text", name, text)
			}
			if allow := response.Header().Get("Allow"); (c.status == 405) != (allow == "POST") {
				t.Errorf("%s: Allow is %q", name, allow)
			}
			if r.calls != 0 {
				t.Errorf("%s: the handler was called", name)
			}
		}
	})

	t.Run("DoesNotReadTheBodyWhenTheHeadersAreRefused", func(t *testing.T) {
		t.Parallel()
		r := newReceiver(t, webhook.NewSecret())
		unread := strings.NewReader("a stranger's body")
		r.post(http.MethodPost, message{}, unread)
		if unread.Len() != len("a stranger's body") {
			t.Errorf("%d bytes are left, want all", unread.Len())
		}
	})
}

func TestIDFromContextFindsNothingOutsideTheMiddleware(t *testing.T) {
	t.Parallel()
	if id, ok := webhook.IDFromContext(context.Background()); ok || id != "" {
		t.Errorf("found %q", id)
	}
}
