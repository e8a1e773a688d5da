package dispatcher

import (
	"net"
	"net/http"
	"time"

	"github.com/posthorn/posthorn/internal/netguard"
)

// The bounds on what a receiver may cost.
const (
	maxResponseHeaderBytes = 64 << 10
	maxResponseBodyBytes   = 64 << 10 // read, to keep the connection usable; then it is dropped
	keptResponseBodyBytes  = 16 << 10 // of it, kept in the log
	keptHeaderBytes        = 16 << 10 // of the headers, kept in the log
)

// newTransport makes the one transport of all deliveries. Every address it dials
// passes the guard; it knows no proxy, follows nothing and decompresses nothing.
func newTransport(guard *netguard.Guard) *http.Transport {
	dialer := &net.Dialer{
		Timeout:  10 * time.Second,
		Control:  guard.Control,
		Resolver: &net.Resolver{PreferGo: true}, // the system's may consult more than DNS
	}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		Proxy:                  nil,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // a gzip bomb stays as small as it was sent
		MaxResponseHeaderBytes: maxResponseHeaderBytes,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxIdleConns:           4096,
		MaxIdleConnsPerHost:    256, // endpoints may share a host
		// Shorter than the usual servers', so that they seldom close a
		// connection as it is used again.
		IdleConnTimeout: 30 * time.Second,
	}
}
