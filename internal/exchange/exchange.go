// Package exchange makes HTTP exchanges: one POST and its answer, within one
// deadline, over connections that are kept.
//
// What a dispatcher spends most on is net/http's Transport, which has two goroutines
// for every connection and hands each request and answer from one to the next. A
// small body over HTTP/1.1, and nearly all webhooks are that, needs neither: it is
// written and read where it is asked for, at half the cost (docs/performance.md).
// What is read is still parsed by net/http, and everything else is its Transport's
// business: HTTP/2, and bodies so large that an answer may come before they are sent.
//
// Whichever way it goes, a request is written to a connection at most once, no
// redirect is followed, no proxy is known and nothing is decompressed.
package exchange

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// maxSmallBody is the largest body, in bytes, that is written before anything is
// read: the sockets' buffers take it even if the receiver does not read.
const maxSmallBody = 32 << 10

// Config says how a Client connects and what it bounds.
type Config struct {
	// Dial connects to a host and port. It must not be nil.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS is for https, with the protocols and the server's name filled in. Nil means
	// Go's defaults.
	TLS *tls.Config
	// HandshakeTimeout bounds a TLS handshake, beside the exchange's deadline.
	HandshakeTimeout time.Duration
	// MaxHeaderBytes bounds an answer's status line and headers, those of 1xx answers
	// before it included.
	MaxHeaderBytes int
	// MaxIdle and MaxIdlePerHost bound the connections that are kept.
	MaxIdle, MaxIdlePerHost int
	// IdleTimeout is how long a connection is kept unused.
	IdleTimeout time.Duration
	// Transport makes the exchanges that Client does not make itself. Its DialTLSContext
	// is replaced; the rest is the caller's. It must not be nil.
	Transport *http.Transport
}

// Client makes exchanges. It is safe for concurrent use.
type Client struct {
	config Config
	pool   *pool

	mu    sync.Mutex
	http2 map[string]time.Time // hosts that chose HTTP/2, and when
}

// New makes a client.
func New(c Config) *Client {
	client := &Client{config: c, pool: newPool(c.MaxIdle, c.MaxIdlePerHost, c.IdleTimeout), http2: map[string]time.Time{}}
	c.Transport.DialTLSContext = client.dialTLSFor
	return client
}

// Post makes an exchange and notes in p how far it came. The answer's body must be
// closed; reading it ends at the deadline. After the deadline the error is one for
// which errors.Is(err, context.DeadlineExceeded) is true.
func (c *Client) Post(r *Request, deadline time.Time, p *Progress) (*http.Response, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	if len(r.Body) > maxSmallBody || !r.plain() || c.choseHTTP2(r.URL) {
		return c.byTransport(r, deadline, p, nil)
	}
	conn, err := c.connect(r.URL, deadline, p)
	if err != nil {
		return nil, inTime(err)
	}
	if conn.secure != nil && conn.secure.ConnectionState().NegotiatedProtocol == "h2" {
		c.noteHTTP2(r.URL)
		return c.byTransport(r, deadline, p, conn.secure)
	}
	response, err := conn.exchange(r, p)
	if err != nil {
		conn.Close()
		return nil, inTime(err)
	}
	return response, nil
}

// Close closes every connection that is not in use.
func (c *Client) Close() {
	c.pool.closeBefore(time.Now().Add(time.Hour))
	c.config.Transport.CloseIdleConnections()
}

// connect gives a connection to the URL's host that nobody else uses.
func (c *Client) connect(to *url.URL, deadline time.Time, p *Progress) (*conn, error) {
	key := poolKey{to.Scheme, to.Host}
	if kept := c.pool.take(key); kept != nil {
		if err := kept.SetDeadline(deadline); err == nil {
			return kept, nil
		}
		kept.Conn.Close()
	}
	ctx, cancel := context.WithDeadline(p.watch(context.Background()), deadline)
	defer cancel()
	plain, err := c.config.Dial(ctx, "tcp", address(to))
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, ctx.Err() // the resolver would call its name servers slow
	case err != nil:
		return nil, err
	}
	fresh := newConn(plain, c.pool, key, c.config.MaxHeaderBytes)
	if to.Scheme == "https" {
		fresh.secure, err = c.handshake(ctx, plain, to.Hostname())
		if err != nil {
			plain.Close()
			return nil, err
		}
		fresh.Conn = fresh.secure
	}
	if err := fresh.SetDeadline(deadline); err != nil {
		fresh.Conn.Close()
		return nil, err
	}
	return fresh, nil
}
