package dispatcher

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/posthorn/posthorn/internal/exchange"
	"github.com/posthorn/posthorn/internal/netguard"
)

// The words for what went wrong. They are for the person who looks at a failed
// delivery: what happened, whose side it is on, and what to do, and no Go.

const (
	maxMessage = 500 // bytes
	maxQuoted  = 200 // bytes of what the receiver sent, within a message
)

// explainStatus puts an answer that is not 2xx into words.
func explainStatus(e evidence, hold time.Duration) string {
	message := strings.TrimSpace(fmt.Sprintf("the receiver answered %d %s", e.status, http.StatusText(e.status)))
	switch {
	case e.status == http.StatusGone:
		return message + ": the endpoint is disabled until it is resumed"
	case e.status == http.StatusRequestEntityTooLarge && e.bodySize > 0:
		return fmt.Sprintf("%s: the body of %d bytes is too large for it", message, e.bodySize)
	case e.status >= 300 && e.status <= 399 && e.status != http.StatusNotModified:
		return message + redirection(e.header.Get("Location"))
	}
	if hint := statusHints[e.status]; hint != "" {
		message += ": " + hint
	}
	if hold > 0 {
		message += "; it asks not to be sent to for " + max(hold.Round(time.Second), time.Second).String()
	}
	return message
}

// redirection names where a redirect leads, so that it can be registered.
func redirection(location string) string {
	if location == "" {
		return ": redirects are not followed, register the URL that answers itself"
	}
	return fmt.Sprintf(" to %s: redirects are not followed, register the final URL", printable(location, maxQuoted))
}

// statusHints say what to look at. A status that speaks for itself has none.
var statusHints = map[int]string{
	http.StatusSwitchingProtocols:    "it left HTTP instead of answering",
	http.StatusNotModified:           "that is no answer to a POST",
	http.StatusBadRequest:            "its answer's body may say what it does not like",
	http.StatusUnauthorized:          "check the signing secret there, or the credentials it expects",
	http.StatusForbidden:             "check its firewall and allow-list, and the signing secret there",
	http.StatusNotFound:              "nothing is at this path, check the endpoint's URL",
	http.StatusMethodNotAllowed:      "it takes no POST at this path, check the endpoint's URL",
	http.StatusRequestTimeout:        "it waited for the request too long",
	http.StatusRequestEntityTooLarge: "the body is too large for it",
	http.StatusUnsupportedMediaType:  "it does not take this content type, check the endpoint's payload format",
	http.StatusTooManyRequests:       "it gets more than it wants",
	http.StatusBadGateway:            "a proxy in front of it gets no proper answer from it",
	http.StatusServiceUnavailable:    "it is overloaded or under maintenance",
	http.StatusGatewayTimeout:        "a proxy in front of it gets no answer from it in time",
}

// explainError puts what came instead of an answer into words.
func explainError(kind ErrorKind, e evidence) string {
	switch kind {
	case KindTimeout:
		return explainTimeout(e.limit, e.reached)
	case KindReset:
		return "the connection was closed before an answer came"
	case KindDNS:
		return explainDNS(e.err)
	case KindConnect:
		return explainConnect(e.err)
	case KindBlockedAddress:
		return "the endpoint's address is not allowed: " + blockedReason(e.err)
	case KindTLS:
		return explainTLS(e.err)
	default:
		return "the answer could not be read: " + printable(withoutPackage(rootCause(e.err)), maxQuoted)
	}
}

func explainTimeout(limit time.Duration, reached exchange.Step) string {
	message := "no answer within the attempt's time limit"
	if limit > 0 {
		message = "no answer within " + limit.String()
	}
	if during := reached.During(); during != "" {
		message += ": the time ran out " + during
	}
	return message
}

// explainDNS tells a name that does not exist from name servers that fail.
func explainDNS(err error) string {
	var dns *net.DNSError
	errors.As(err, &dns)
	name := "the host name " + printable(dns.Name, maxQuoted)
	switch {
	case dns.IsNotFound:
		return name + " does not exist or has no address: check the endpoint's URL and the name's DNS records"
	case dns.IsTimeout, errors.Is(err, context.DeadlineExceeded):
		return name + " could not be looked up: no name server answered in time"
	case dns.IsTemporary, dns.Err == "server misbehaving": // the resolver's word for every refusal
		return name + " could not be looked up: its name servers fail (SERVFAIL or alike)"
	default:
		return name + " could not be looked up: " + printable(dns.Err, maxQuoted)
	}
}

func explainConnect(err error) string {
	var op *net.OpError
	errors.As(err, &op)
	reason := printable(rootCause(op.Err).Error(), maxQuoted)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		reason = "connection refused, nothing listens there or a firewall says no"
	case op.Timeout():
		reason = "nothing answers there, or a firewall drops what is sent"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		reason = "there is no route to it from here"
	}
	to := "the receiver"
	if op.Addr != nil {
		to = op.Addr.String()
	}
	return "no connection to " + to + ": " + reason
}

// explainTLS names the usual faults of certificates plainly; for the rest the
// library's sentence is the best there is.
func explainTLS(err error) string {
	var (
		invalid x509.CertificateInvalidError
		host    x509.HostnameError
		unknown x509.UnknownAuthorityError
		plain   tls.RecordHeaderError
		alert   tls.AlertError
	)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return explainValidity(invalid)
	case errors.As(err, &host):
		return explainHost(host)
	case errors.As(err, &unknown):
		return explainAuthority(unknown)
	case errors.As(err, &plain):
		return "the TLS handshake failed: what answers on this port does not speak TLS"
	case errors.As(err, &alert):
		return "the receiver refused the TLS handshake: " + strings.TrimPrefix(alert.Error(), "tls: ")
	case strings.Contains(err.Error(), "TLS handshake timeout"):
		return "the TLS handshake was not over within " + tlsHandshakeTimeout.String()
	}
	return "the TLS handshake failed: " + printable(strings.TrimPrefix(withoutPackage(rootCause(err)), "tls: "), maxQuoted)
}

// explainValidity tells expired from not valid yet: for x509 both are "expired".
func explainValidity(invalid x509.CertificateInvalidError) string {
	if strings.Contains(invalid.Detail, "is before") {
		return "the receiver's TLS certificate is not valid before " + invalid.Cert.NotBefore.UTC().Format(time.RFC3339)
	}
	return "the receiver's TLS certificate expired on " + invalid.Cert.NotAfter.UTC().Format(time.RFC3339)
}

func explainHost(host x509.HostnameError) string {
	var names []string
	if c := host.Certificate; c != nil {
		names = append(names, c.DNSNames...)
		for _, ip := range c.IPAddresses {
			names = append(names, ip.String())
		}
	}
	message := "the receiver's TLS certificate is not for " + printable(host.Host, maxQuoted)
	if len(names) == 0 {
		return message + ": it names no host"
	}
	return message + ", it is for " + printable(strings.Join(names, ", "), maxQuoted)
}

func explainAuthority(unknown x509.UnknownAuthorityError) string {
	if c := unknown.Cert; c != nil && bytes.Equal(c.RawSubject, c.RawIssuer) {
		return "the receiver's TLS certificate is self-signed: no authority that is trusted here vouches for it"
	}
	return "the receiver's TLS certificate is signed by no authority that is trusted here: " +
		"does the receiver send its intermediate certificates?"
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
func withoutPackage(err error) string {
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "net/http: "), "http2: ")
}

// printable is text that may be stored, logged and shown to a person: no control
// or invisible characters, nothing that reorders the line, at most so many bytes.
func printable(s string, limit int) string {
	clean := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s[:min(len(s), limit)])
	if len(clean) <= limit && len(s) <= limit {
		return clean
	}
	const more = "…"
	clean = clean[:min(len(clean), limit-len(more))]
	return strings.ToValidUTF8(clean, "") + more
}
