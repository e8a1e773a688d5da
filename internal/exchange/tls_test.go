package exchange

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

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
