package dispatcher

import (
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"github.com/posthorn/posthorn/internal/exchange"
	"github.com/posthorn/posthorn/internal/netguard"
)

// The bounds on what a receiver may cost. TestMemory_… holds them to what a
// thousand receivers may cost that misbehave at once.
const (
	// As nginx's default for what stands behind it. In memory it is up to 24 times
	// as much, for as long as the headers are not over: net/http makes each line an
	// entry of a map, however short it is.
	maxResponseHeaderBytes = 8 << 10
	maxResponseBodyBytes   = 64 << 10 // read, to keep the connection usable; then it is dropped
	keptResponseBodyBytes  = 16 << 10 // of it, kept in the log
	keptHeaderBytes        = 8 << 10  // of the headers, kept in the log
)

// Parts of an attempt have limits of their own, so that what hangs is named.
const (
	dialTimeout         = 10 * time.Second // resolving the name and connecting
	tlsHandshakeTimeout = 10 * time.Second
)

// The connections that are kept for the next delivery.
const (
	maxIdle        = 4096
	maxIdlePerHost = 1024 // a thousand endpoints may share a host
	// Shorter than the usual servers', so that they seldom close a connection as it is
	// used again.
	idleTimeout = 30 * time.Second
)

// newTransport makes what all deliveries go by. Every address it dials passes the
// guard; it knows no proxy, follows nothing and decompresses nothing.
func newTransport(guard *netguard.Guard) *exchange.Client {
	// The system's resolver may consult more than DNS.
	return resolvingTransport(guard, &net.Resolver{PreferGo: true}, nil)
}

// resolvingTransport is newTransport with the resolver given, and whom to trust: tests
// bring their own.
func resolvingTransport(guard *netguard.Guard, resolver *net.Resolver, trust *tls.Config) *exchange.Client {
	return exchange.New(transportConfig(guard, resolver, trust))
}

func transportConfig(guard *netguard.Guard, resolver *net.Resolver, trust *tls.Config) exchange.Config {
	dialer := &net.Dialer{Timeout: dialTimeout, Control: guard.Control, Resolver: resolver}
	return exchange.Config{
		Dial: dialer.DialContext, TLS: trust,
		HandshakeTimeout: tlsHandshakeTimeout, MaxHeaderBytes: maxResponseHeaderBytes,
		MaxIdle: maxIdle, MaxIdlePerHost: maxIdlePerHost, IdleTimeout: idleTimeout,
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			Proxy:                  nil,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true, // a gzip bomb stays as small as it was sent
			MaxResponseHeaderBytes: maxResponseHeaderBytes,
			// Enough for the usual request and answer at once, and half of what net/http
			// takes for every connection.
			WriteBufferSize: 2 << 10,
			ReadBufferSize:  2 << 10,
			HTTP2: &http.HTTP2Config{
				// A receiver may send this much before it is read: 4 MB unless said.
				MaxReceiveBufferPerStream:     maxResponseBodyBytes,
				MaxReceiveBufferPerConnection: 1 << 20,
				MaxReadFrameSize:              16 << 10,
			},
			MaxIdleConns:        maxIdle,
			MaxIdleConnsPerHost: maxIdlePerHost,
			IdleConnTimeout:     idleTimeout,
		},
	}
}
