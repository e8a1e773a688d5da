package exchange

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestPost_SendsTheRequestAsItIs(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"empty": 0, "small": 100, "the largest small one": maxSmallBody, "large": maxSmallBody + 1, "very large": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := bytes.Repeat([]byte("x"), size)
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				got, _ := io.ReadAll(r.Body)
				if r.Method != "POST" || r.RequestURI != "/a%20b?c=d&e" || !bytes.Equal(got, body) || r.ContentLength != int64(size) ||
					r.Header.Get("Webhook-Id") != "evt_1" || r.Header.Get("User-Agent") != "Posthorn/test" || len(r.Header) != 3 {
					t.Errorf("%s %s, %d bytes, %v", r.Method, r.RequestURI, len(got), r.Header)
				}
				if r.Host != r.Context().Value(http.LocalAddrContextKey).(net.Addr).String() {
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
