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

	"github.com/posthorn/posthorn/internal/netguard"
)

// Verdict is the judgement on one attempt.
type Verdict struct {
	// Delivered is whether the receiver took it: a 2xx status line came.
	Delivered bool
	// Kind says why not; empty when delivered.
	Kind ErrorKind
	// Message is for a person; empty when delivered.
	Message string
	// RetryAfter is how long the receiver wants to be left alone; zero when it
	// does not say.
	RetryAfter time.Duration
	// Gone is whether the receiver wants nothing more, ever: it answered 410.
	Gone bool
}

// Classify judges an attempt by what came back: the status of the answer, or,
// with status 0, the error instead of one. It does no I/O.
func Classify(status int, err error) Verdict {
	if err != nil {
		kind := errorKind(err)
		return Verdict{Kind: kind, Message: errorMessage(kind, err)}
	}
	if status >= 200 && status <= 299 {
		return Verdict{Delivered: true}
	}
	message := strings.TrimSpace(fmt.Sprintf("the receiver answered %d %s", status, http.StatusText(status)))
	if status >= 300 && status <= 399 {
		message += "; redirects are not followed"
	}
	return Verdict{Kind: KindHTTPStatus, Message: message}
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
		strings.Contains(err.Error(), "persistConn"), strings.Contains(err.Error(), "broken connection"):
		return KindReset
	default:
		return KindProtocol
	}
}

// errorMessage puts the cause into words; the kinds whose errors come from the
// other side quote them.
func errorMessage(kind ErrorKind, err error) string {
	switch kind {
	case KindTimeout:
		return "no answer within the attempt's time limit"
	case KindReset:
		return "the connection was closed before an answer came"
	case KindDNS:
		var dns *net.DNSError
		errors.As(err, &dns)
		return fmt.Sprintf("the host name %s could not be resolved: %s", dns.Name, dns.Err)
	case KindConnect:
		var op *net.OpError
		errors.As(err, &op)
		return fmt.Sprintf("no connection to %v: %v", op.Addr, rootCause(op.Err))
	case KindBlockedAddress:
		return "the endpoint's address is not allowed: " + blockedReason(err)
	case KindTLS:
		return "the TLS handshake failed: " + withoutPackage(rootCause(err))
	default:
		return "the answer could not be read: " + withoutPackage(rootCause(err))
	}
}

// blockedReason is the guard's own sentence, without what net wraps around it.
func blockedReason(err error) string {
	_, reason, found := strings.Cut(err.Error(), netguard.ErrBlocked.Error()+": ")
	if !found {
		return err.Error()
	}
	return reason
}

// rootCause is the innermost error of a chain: the sentence without its prefixes.
func rootCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// withoutPackage is the error's sentence without the name of the Go package.
func withoutPackage(err error) string { return strings.TrimPrefix(err.Error(), "net/http: ") }

// fingerprint is alike for failures that look to have one cause: the kind, and
// the status where there is one.
func fingerprint(kind ErrorKind, status int) string {
	if status != 0 {
		return fmt.Sprintf("%s:%d", kind, status)
	}
	return string(kind)
}
