package dispatcher

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/posthorn/posthorn/internal/exchange"
	"github.com/posthorn/posthorn/internal/netguard"
)

// Verdict is the judgement on one attempt.
type Verdict struct {
	// Delivered is whether the receiver took it: a 2xx status line came.
	Delivered bool
	// Kind says why not; empty when delivered.
	Kind ErrorKind
	// Message is for a person; empty when delivered. It is at most 500 bytes of
	// printable text, whatever the receiver sent.
	Message string
	// RetryAfter is how long the endpoint is to be left alone, from now, because
	// the receiver asked for it; at most 24 h. Zero: it did not ask.
	RetryAfter time.Duration
	// Gone is whether the receiver wants nothing more at this endpoint: a 410.
	Gone bool
}

// evidence is what an attempt leaves to judge it by. Its zero fields are unknown.
type evidence struct {
	status   int           // of the answer; 0 when none came
	header   http.Header   // of the answer
	err      error         // what came instead of an answer
	at       time.Time     // when it came: dates in the header count from here
	bodySize int           // of the request, in bytes
	limit    time.Duration // of the attempt
	reached  exchange.Step // how far the attempt was when err came
}

// wantsNoMore reports whether the receiver has asked to be left alone.
func (v Verdict) wantsNoMore() bool { return v.Gone || v.RetryAfter > 0 }

// Classify judges an attempt by the status of the answer or, with status 0, by
// the error instead of one. It is judge for those who know no more.
func Classify(status int, err error) Verdict {
	return judge(evidence{status: status, err: err})
}

// judge says what came of an attempt. It does no I/O and knows no clock.
func judge(e evidence) Verdict {
	if e.err != nil {
		kind := errorKind(e.err)
		return Verdict{Kind: kind, Message: printable(explainError(kind, e), maxMessage)}
	}
	if e.status >= 200 && e.status <= 299 {
		return Verdict{Delivered: true}
	}
	v := Verdict{Kind: KindHTTPStatus, Gone: e.status == http.StatusGone}
	v.RetryAfter, _ = retryAfter(e.status, e.header, e.at)
	v.Message = printable(explainStatus(e, v.RetryAfter), maxMessage)
	return v
}

// errorKind sorts the errors of net/http by their cause, the most certain first.
func errorKind(err error) ErrorKind {
	var (
		dns  *net.DNSError
		op   *net.OpError
		cert *tls.CertificateVerificationError
		rec  tls.RecordHeaderError
		al   tls.AlertError
		host x509.HostnameError
		inv  x509.CertificateInvalidError
		auth x509.UnknownAuthorityError
	)
	switch {
	case errors.Is(err, netguard.ErrBlocked):
		return KindBlockedAddress
	case errors.As(err, &dns):
		return KindDNS
	case errors.Is(err, context.DeadlineExceeded):
		return KindTimeout
	case errors.As(err, &cert), errors.As(err, &rec), errors.As(err, &al),
		errors.As(err, &host), errors.As(err, &inv), errors.As(err, &auth),
		strings.Contains(err.Error(), "tls: "), strings.Contains(err.Error(), "TLS handshake timeout"):
		return KindTLS
	case errors.As(err, &op) && op.Op == "dial":
		return KindConnect
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed),
		// "transport connection broken" is no sign: net/http puts it before what it could not parse too.
		strings.Contains(err.Error(), "server closed idle connection"),
		strings.Contains(err.Error(), "persistConn"), strings.Contains(err.Error(), "broken connection"),
		resetOverHTTP2(err.Error()):
		return KindReset
	default:
		return KindProtocol
	}
}

// resetOverHTTP2 knows the sentences of net/http's own copy of HTTP/2, whose error
// types have no name outside: the receiver says goodbye (GOAWAY) or takes one
// stream back (RST_STREAM).
func resetOverHTTP2(sentence string) bool {
	return strings.Contains(sentence, "GOAWAY") ||
		strings.Contains(sentence, "stream error") && strings.Contains(sentence, "received from peer") ||
		strings.Contains(sentence, "client connection lost") || strings.Contains(sentence, "client conn not usable")
}

// fingerprint is alike for failures that look to have one cause: the kind, and
// the status where there is one.
func fingerprint(kind ErrorKind, status int) string {
	if status != 0 {
		return fmt.Sprintf("%s:%d", kind, status)
	}
	return string(kind)
}
