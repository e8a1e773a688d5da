package exchange

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
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

func TestPost_SendsTheRequestAsItIs(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"empty": 0, "small": 100, "the largest small one": maxSmallBody, "large": maxSmallBody + 1, "very large": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := bytes.Repeat([]byte("x"), size)
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				got, _ := io.ReadAll(r.Body)
				if r.Method != "POST" || r.RequestURI != "/a%20b?c=d&e" || !bytes.Equal(got, body) || r.ContentLength != int64(size) ||
					r.Header.Get("Webhook-Id") != "evt_1" || r.Header.Get("User-Agent") != "Posthorn/test" || len(r.Header) != min(size, 1)+2 && len(r.Header) != 3 {
					t.Errorf("%s %s, %d bytes, %v", r.Method, r.RequestURI, len(got), r.Header)
				}
				if "http://"+r.Host != "http://"+r.Context().Value(http.LocalAddrContextKey).(net.Addr).String() {
					t.Errorf("host %s", r.Host)
				}
				fmt.Fprint(w, "ok")
			})
			got := newBench(t).post(t, s.URL+"/a%20b?c=d&e", body, Field{"Webhook-Id", "evt_1"}, Field{"User-Agent", "Posthorn/test"})
			if got != (answer{200, "ok", nil}) {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestPost_KeepsTheConnection(t *testing.T) {
	t.Parallel()
	for name, reply := range map[string]string{
		"with a length":  "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"in chunks":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"without a body": "HTTP/1.1 204 No Content\r\n\r\n",
		"after hints":    "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			to := script(t, func(conn net.Conn, _ int) { io.WriteString(conn, reply) })
			for range 3 {
				if got := b.post(t, to, []byte("{}")); got.err != nil || got.status/100 != 2 {
					t.Fatalf("%+v", got)
				}
			}
			if n := b.dials.Load(); n != 1 {
				t.Errorf("%d connections for three exchanges", n)
			}
		})
	}
}

func TestPost_NeverUsesAConnectionAgainThatIsNotClean(t *testing.T) {
	t.Parallel()
	for name, reply := range map[string]string{
		"told to close":     "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.0":          "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"more than asked":   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more",
		"an answer unasked": "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 500 Smuggled\r\nContent-Length: 0\r\n\r\n",
		"other protocol":    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			to := script(t, func(conn net.Conn, n int) {
				if n > 1 {
					t.Error("a second request came over the connection")
				}
				io.WriteString(conn, reply)
			})
			for range 3 {
				if got := b.post(t, to, []byte("{}")); got.err != nil || got.status > 299 {
					t.Fatalf("%+v", got)
				}
			}
		})
	}
}

// gathered is a connection that sends what is written to it when it is told to.
type gathered struct {
	net.Conn
	mu      sync.Mutex
	waiting []byte
	gather  bool
}

// Write implements io.Writer.
func (g *gathered) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.gather {
		return g.Conn.Write(b)
	}
	g.waiting = append(g.waiting, b...)
	return len(b), nil
}

// SetWriteDeadline does nothing: TLS ends its writing by one that is past.
func (g *gathered) SetWriteDeadline(time.Time) error { return nil }

// together sends what f writes in one piece.
func (g *gathered) together(f func()) {
	g.gather = true
	f()
	g.gather = false
	g.Conn.Write(g.waiting) //nolint:errcheck // the client tells
}

// TLS reads ahead: what follows an answer may be in neither of the buffers that are
// looked at without it.
func TestPost_NeverUsesATLSConnectionAgainThatIsNotClean(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]func(*tls.Conn){
		"an answer unasked": func(c *tls.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled") },
		"the end of TLS":    func(c *tls.Conn) { c.CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, trust := secureServer(t, false, nil)
			s.Listener.Close() // its certificate is all that is needed
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			go func() {
				for {
					plain, err := l.Accept()
					if err != nil {
						return
					}
					t.Cleanup(func() { plain.Close() })
					go func() {
						g := &gathered{Conn: plain}
						secure := tls.Server(g, s.TLS)
						request, err := http.ReadRequest(bufio.NewReader(secure))
						if err != nil {
							return
						}
						io.Copy(io.Discard, request.Body) //nolint:errcheck // the answer follows
						g.together(func() {
							io.WriteString(secure, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") //nolint:errcheck // the client tells
							more(secure)
						})
					}()
				}
			}()
			b := newBench(t, trust)
			for range 3 {
				if got := b.post(t, "https://"+l.Addr().String(), []byte("{}")); got != (answer{200, "ok", nil}) {
					t.Fatalf("%+v", got)
				}
			}
			if n := b.dials.Load(); n != 3 {
				t.Errorf("%d connections, want a new one each time", n)
			}
		})
	}
}

// What is read of a body decides: the connection of one that was left is closed.
func TestPost_ClosesTheConnectionOfABodyThatIsNotReadToItsEnd(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	closed := make(chan struct{}, 1)
	to := script(t, func(conn net.Conn, _ int) {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf")
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			closed <- struct{}{}
		}
	})
	u, _ := url.Parse(to)
	var p Progress
	response, err := b.Post(&Request{URL: u}, time.Now().Add(patience), &p)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Read(make([]byte, 2)) //nolint:errcheck // a part of it
	response.Body.Close()
	select {
	case <-closed:
	case <-time.After(patience):
		t.Error("the connection is still open")
	}
}

// A server with a shorter patience than ours closes connections that we keep. A
// request must not be lost on one.
func TestPost_NoticesThatAnUnusedConnectionWasClosed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	closing := make(chan struct{}, 1)
	to := script(t, func(conn net.Conn, _ int) {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		conn.(*net.TCPConn).CloseWrite()
		closing <- struct{}{}
	})
	for n := range 5 {
		if got := b.post(t, to, []byte("{}")); got.err != nil || got.status != 200 {
			t.Fatalf("request %d: %+v", n, got)
		}
		<-closing
	}
	if n := b.dials.Load(); n != 5 {
		t.Errorf("%d connections, want a new one each time", n)
	}
}

func TestPost_TellsWhatComesBeforeEverythingIsSent(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 1)) //nolint:errcheck // the first byte, and no more
			io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			conn.(*net.TCPConn).CloseWrite()
			t.Cleanup(func() { conn.Close() })
		}
	}()
	for _, size := range []int{10, maxSmallBody, 16 << 20} {
		if got := newBench(t).post(t, "http://"+l.Addr().String(), make([]byte, size)); got.status != 413 {
			t.Errorf("%d bytes: %+v", size, got)
		}
	}
}

func TestPost_EndsAtTheDeadlineWhereverItHangs(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	hold := make(chan struct{})
	inHeaders := script(t, func(conn net.Conn, _ int) { io.WriteString(conn, "HTTP/1.1 200 OK\r\nX: "); <-hold })
	inBody := script(t, func(conn net.Conn, _ int) {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
		<-hold
	})
	mute := script(t, func(net.Conn, int) { <-hold })
	t.Cleanup(func() { close(hold) }) // before the scripts are waited for
	for name, c := range map[string]struct {
		to   string
		body int
		step Step
	}{
		"in the handshake": {"https://" + silent.Addr().String(), 10, Handshaking},
		"for the answer":   {mute, 10, Waiting},
		"in the headers":   {inHeaders, 10, Answering},
		"for a large body": {"http://" + silent.Addr().String(), 16 << 20, Sending},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, _ := url.Parse(c.to)
			var p Progress
			_, err := newBench(t).Post(&Request{URL: u, Body: make([]byte, c.body)}, time.Now().Add(100*time.Millisecond), &p)
			if !errors.Is(err, context.DeadlineExceeded) || p.Step() != c.step {
				t.Errorf("%v, %s; want the deadline's error, %s", err, p.Step().During(), c.step.During())
			}
		})
	}
	t.Run("in the body", func(t *testing.T) {
		t.Parallel()
		u, _ := url.Parse(inBody)
		var p Progress
		response, err := newBench(t).Post(&Request{URL: u}, time.Now().Add(100*time.Millisecond), &p)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if read, err := io.ReadAll(response.Body); string(read) != "half" || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q, %v", read, err)
		}
	})
}

func TestPost_RefusesWhatBreaksOutOfAHeaderLine(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	to := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a request came") }).URL
	for _, f := range []Field{{"X", "a\r\nY: b"}, {"X", "a\nb"}, {"X", "a\x00b"}, {"X: y\r\nZ", "a"}, {"", "a"}, {"X Y", "a"}} {
		got := b.post(t, to, nil, f)
		if got.err == nil || strings.Contains(got.err.Error(), "a\\") {
			t.Errorf("%q: %+v", f, got)
		}
	}
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

func TestPost_SpeaksTheProtocolThatTheReceiverChooses(t *testing.T) {
	t.Parallel()
	for major, wants2 := range map[int]bool{1: false, 2: true} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			s, trust := secureServer(t, wants2, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.ProtoMajor) })
			b := newBench(t, trust)
			for range 3 {
				if got := b.post(t, s.URL, []byte("{}")); got != (answer{200, fmt.Sprint(major), nil}) {
					t.Fatalf("%+v", got)
				}
			}
			if got := b.post(t, s.URL, make([]byte, 2*maxSmallBody)); got != (answer{200, fmt.Sprint(major), nil}) {
				t.Errorf("a large body: %+v", got)
			}
			// Over HTTP/1.1 the large body goes by net/http, over a connection of its own.
			if n := int(b.dials.Load()); n != 3-major {
				t.Errorf("%d connections", n)
			}
		})
	}
}

func TestPost_TrustsOnlyWhomItIsToTrust(t *testing.T) {
	t.Parallel()
	s, _ := secureServer(t, true, func(http.ResponseWriter, *http.Request) { t.Error("a request came") })
	var unknown x509.UnknownAuthorityError
	for _, size := range []int{10, 2 * maxSmallBody} {
		if got := newBench(t).post(t, s.URL, make([]byte, size)); !errors.As(got.err, &unknown) {
			t.Errorf("%+v", got)
		}
	}
}

func TestPost_WritesUnusualHostsAsNetHTTPDoes(t *testing.T) {
	t.Parallel()
	var hosts sync.Map
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) { hosts.Store(r.Host, true) })
	b := newBench(t, func(c *Config) {
		dial := c.Dial
		c.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dial(ctx, network, s.Listener.Addr().String())
		}
		c.Transport.DialContext = c.Dial
	})
	for to, want := range map[string]string{
		"http://bücher.example/":  "xn--bcher-kva.example",
		"http://b.example":        "b.example",
		"http://c.example:8080/x": "c.example:8080",
	} {
		if got := b.post(t, to, nil); got.status != 200 {
			t.Errorf("%s: %+v", to, got)
		}
		if _, ok := hosts.Load(want); !ok {
			t.Errorf("%s: %s did not come", to, want)
		}
	}
}

func TestPool_KeepsNoMoreThanItMay(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var waiting sync.WaitGroup
	const many = 20
	waiting.Add(many)
	to := script(t, func(conn net.Conn, _ int) {
		waiting.Done()
		<-release
		io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
	})
	b := newBench(t, func(c *Config) { c.MaxIdlePerHost = 3 })
	var posts sync.WaitGroup
	for range many {
		posts.Go(func() { b.post(t, to, nil) })
	}
	waiting.Wait()
	close(release)
	posts.Wait()
	b.pool.mu.Lock()
	defer b.pool.mu.Unlock()
	if b.pool.size != 3 {
		t.Errorf("%d connections are kept, want 3", b.pool.size)
	}
}

func TestPool_ClosesWhatIsNotUsed(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	to := script(t, func(conn net.Conn, _ int) {
		io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
		conn.Read(make([]byte, 1)) //nolint:errcheck // its end is what is waited for
		close(gone)
	})
	newBench(t, func(c *Config) { c.IdleTimeout = 20 * time.Millisecond }).post(t, to, nil)
	select {
	case <-gone:
	case <-time.After(patience):
		t.Error("the connection is still open")
	}
}

func TestProgress_NeverGoesBack(t *testing.T) {
	t.Parallel()
	var p Progress
	for _, s := range []Step{Resolving, Waiting, Connecting, Sending} {
		p.to(s)
	}
	if got := p.Step(); got != Waiting {
		t.Errorf("%d", got)
	}
}

// BenchmarkPost compares an exchange with one by net/http's Transport.
func BenchmarkPost(b *testing.B) {
	s := serve(b, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) //nolint:errcheck // nothing to do about it
		w.WriteHeader(http.StatusNoContent)
	})
	u, _ := url.Parse(s.URL)
	body := bytes.Repeat([]byte("x"), 1024)
	client := newBench(b).Client
	for name, post := range map[string]func(*Request, time.Time, *Progress) (*http.Response, error){
		"exchange": client.Post,
		"net/http": func(r *Request, deadline time.Time, p *Progress) (*http.Response, error) {
			return client.byTransport(r, deadline, p, nil)
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					var p Progress
					response, err := post(&Request{URL: u, Header: []Field{{"Webhook-Id", "evt_1"}}, Body: body}, time.Now().Add(patience), &p)
					if err != nil {
						b.Error(err)
						return
					}
					response.Body.Close()
				}
			})
		})
	}
}
