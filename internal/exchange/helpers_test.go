package exchange

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is long enough for anything on loopback.
const patience = 10 * time.Second

// bench is a client that counts its connections.
type bench struct {
	*Client
	dials atomic.Int32
}

func newBench(t testing.TB, change ...func(*Config)) *bench {
	b := &bench{}
	dialer := &net.Dialer{}
	c := Config{
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			b.dials.Add(1)
			return dialer.DialContext(ctx, network, address)
		},
		HandshakeTimeout: patience, MaxHeaderBytes: 8 << 10, MaxIdle: 100, MaxIdlePerHost: 50, IdleTimeout: time.Minute,
		Transport: &http.Transport{ForceAttemptHTTP2: true, DisableCompression: true},
	}
	c.Transport.DialContext = c.Dial
	for _, f := range change {
		f(&c)
	}
	b.Client = New(c)
	t.Cleanup(b.Close)
	return b
}

// answer is what came of an exchange, its body read.
type answer struct {
	status int
	body   string
	err    error
}

func (b *bench) post(t testing.TB, to string, body []byte, fields ...Field) answer {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	var p Progress
	response, err := b.Post(&Request{URL: u, Header: fields, Body: body}, time.Now().Add(patience), &p)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	read, _ := io.ReadAll(response.Body) // how it ends is the receiver's
	return answer{response.StatusCode, string(read), nil}
}

func serve(t testing.TB, h http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// script answers each request of each connection by hand.
func script(t testing.TB, each func(conn net.Conn, request int)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			all.Go(func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for n := 1; ; n++ {
					request, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					io.Copy(io.Discard, request.Body) //nolint:errcheck // the script goes on
					each(conn, n)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return "http://" + l.Addr().String() + "/hook"
}

// secureServer is one over TLS, and whom to trust.
func secureServer(t *testing.T, http2 bool, h http.HandlerFunc) (*httptest.Server, func(*Config)) {
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = http2
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return s, func(c *Config) { c.TLS = &tls.Config{RootCAs: roots} }
}
