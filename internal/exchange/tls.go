package exchange

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
	"net/url"
	"sync"
	"time"
)

// handshake makes a plain connection one of TLS. It leaves it open when it fails.
func (c *Client) handshake(ctx context.Context, plain net.Conn, serverName string) (*tls.Conn, error) {
	config := &tls.Config{}
	if c.config.TLS != nil {
		config = c.config.TLS.Clone()
	}
	config.ServerName, config.NextProtos = serverName, []string{"h2", "http/1.1"}
	limited, cancel := context.WithTimeout(ctx, c.config.HandshakeTimeout)
	defer cancel()
	if trace := httptrace.ContextClientTrace(ctx); trace != nil && trace.TLSHandshakeStart != nil {
		trace.TLSHandshakeStart()
	}
	secure := tls.Client(plain, config)
	err := secure.HandshakeContext(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return nil, errors.New("TLS handshake timeout") // in net/http's words
	}
	return secure, err
}

// HTTP/2 is spoken where the receiver chooses it. That shows in the handshake, and
// holds for a while: then it is asked again.
const (
	http2For   = time.Hour
	http2Hosts = 10_000 // remembered at most
)

func (c *Client) choseHTTP2(to *url.URL) bool {
	if to.Scheme != "https" {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.http2[to.Host]
	if ok && time.Since(at) > http2For {
		delete(c.http2, to.Host)
		return false
	}
	return ok
}

func (c *Client) noteHTTP2(to *url.URL) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.http2) >= http2Hosts {
		clear(c.http2)
	}
	c.http2[to.Host] = time.Now()
}

// spareConn is a connection that net/http may use instead of dialing one. The dial
// may come at any time, from a goroutine of net/http's, or never.
type spareConn struct {
	mu   sync.Mutex
	conn *tls.Conn
}

type spareKey struct{}

func (s *spareConn) take() *tls.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.conn
	s.conn = nil
	return taken
}

func (s *spareConn) close() {
	if unused := s.take(); unused != nil {
		unused.Close()
	}
}

// dialTLSFor is net/http's way to a connection for https.
func (c *Client) dialTLSFor(ctx context.Context, network, address string) (net.Conn, error) {
	if spare, ok := ctx.Value(spareKey{}).(*spareConn); ok {
		if taken := spare.take(); taken != nil {
			return taken, taken.SetDeadline(time.Time{}) // net/http has ways of its own to end
		}
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	plain, err := c.config.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	secure, err := c.handshake(ctx, plain, host)
	if err != nil {
		plain.Close()
		return nil, err
	}
	return secure, nil
}
