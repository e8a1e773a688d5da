package webhook

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
)

// DefaultMaxBodyBytes is the largest body that [Verifier.Middleware] reads
// unless told otherwise: 1 MiB.
const DefaultMaxBodyBytes = 1 << 20

// Middleware returns a handler that passes only verified webhooks on to next,
// which finds the body in r.Body, unread, and the event's id through
// [IDFromContext]. All others it answers itself, with a line of plain text:
//
//	405  the method is not POST
//	401  [Verifier.Verify] refuses it; the text says why
//	413  the body is longer than MaxBodyBytes
//	400  the body could not be read to its end
//
// How long a sender may take over its body is for the server to bound
// ([net/http.Server.ReadTimeout]).
func (v *Verifier) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "webhook: the method must be POST", http.StatusMethodNotAllowed)
			return
		}
		// The headers go first: a stranger's request is not worth its body.
		claim, err := v.readClaim(r.Header)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, v.maxBodyBytes()))
		if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
			http.Error(w, "webhook: the body is too long", http.StatusRequestEntityTooLarge)
			return
		}
		if err != nil {
			http.Error(w, "webhook: the body could not be read", http.StatusBadRequest)
			return
		}
		if err := v.verifyClaim(claim, body); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		verified := r.WithContext(context.WithValue(r.Context(), idKey{}, claim.id))
		verified.Body = io.NopCloser(bytes.NewReader(body))
		verified.ContentLength = int64(len(body))
		next.ServeHTTP(w, verified)
	})
}

func (v *Verifier) maxBodyBytes() int64 {
	if v.MaxBodyBytes > 0 {
		return v.MaxBodyBytes
	}
	return DefaultMaxBodyBytes
}

type idKey struct{}

// IDFromContext returns the id of the verified event that the request carries,
// and false if the request did not pass [Verifier.Middleware]. The id is the
// same on every attempt: handle each once.
func IDFromContext(ctx context.Context) (string, bool) {
	id, ok := ctx.Value(idKey{}).(string)
	return id, ok
}
