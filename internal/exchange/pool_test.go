package exchange

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"
)

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
