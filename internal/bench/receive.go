package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The paths at which the receiver does more than count.
const (
	pathTimed = "/timed" // notes how long each event took since its sent_at
	pathHang  = "/hang"  // answers after hangFor
	pathTires = "/tires" // answers tiresAfter times, and hangs from then on
	pathFail  = "/fail"  // answers 500
)

const (
	hangFor    = 30 * time.Second
	tiresAfter = 5000
)

// Receive is the receiver's process: it listens on loopback, prints its URL and
// counts what comes, until its standard input ends.
func Receive(stdin io.Reader, stdout io.Writer) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: newCounter()}
	go func() {
		io.Copy(io.Discard, stdin) //nolint:errcheck // the end of it is the signal, however it ends
		server.Close()
	}()
	fmt.Fprintf(stdout, "http://%s\n", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// counter counts POSTs; GET reads the counts, or all latencies at pathTimed, DELETE
// resets them and lets go of the requests that hang.
type counter struct {
	n         atomic.Int64
	tired     atomic.Int64 // POSTs to pathTires
	lastAt    atomic.Int64 // when the last POST came, Unix nanoseconds
	mu        sync.Mutex
	latencies []time.Duration
	letGo     context.CancelFunc
	hanging   context.Context //nolint:containedctx // done when what hangs is let go
}

func newCounter() *counter {
	c := &counter{}
	c.hanging, c.letGo = context.WithCancel(context.Background())
	return c
}

// tally is what GET answers. Durations are in nanoseconds.
type tally struct {
	Received int64         `json:"received"`
	LastAt   int64         `json:"last_at"`
	P50      time.Duration `json:"p50"`
	P99      time.Duration `json:"p99"`
	Max      time.Duration `json:"max"`
	Timed    int64         `json:"timed"`
}

// ServeHTTP implements http.Handler.
func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
		c.receive(w, r)
	case http.MethodDelete:
		c.reset()
	default:
		var answer any = c.tally()
		if r.URL.Path == pathTimed {
			answer = c.each()
		}
		json.NewEncoder(w).Encode(answer) //nolint:errcheck // the client will see
	}
}

func (c *counter) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	now := time.Now()
	switch r.URL.Path {
	case pathTimed:
		c.time(now, body)
	case pathHang:
		c.hang(r.Context())
	case pathTires:
		if c.tired.Add(1) > tiresAfter {
			c.hang(r.Context())
		}
	case pathFail:
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	c.lastAt.Store(now.UnixNano())
	c.n.Add(1)
	w.WriteHeader(http.StatusNoContent)
}

func (c *counter) hang(ctx context.Context) {
	c.mu.Lock()
	hanging := c.hanging
	c.mu.Unlock()
	select {
	case <-time.After(hangFor):
	case <-hanging.Done():
	case <-ctx.Done():
	}
}

// time reads the sent_at of a body, in Unix nanoseconds.
func (c *counter) time(now time.Time, body []byte) {
	var event struct {
		Data struct {
			SentAt int64 `json:"sent_at"`
		} `json:"data"`
	}
	if json.Unmarshal(body, &event) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latencies = append(c.latencies, now.Sub(time.Unix(0, event.Data.SentAt)))
}

func (c *counter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n.Store(0)
	c.tired.Store(0)
	c.latencies = nil
	c.letGo()
	c.hanging, c.letGo = context.WithCancel(context.Background())
}

func (c *counter) tally() tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := tally{Received: c.n.Load(), LastAt: c.lastAt.Load()}
	if n := len(c.latencies); n > 0 {
		slices.Sort(c.latencies)
		t.P50, t.P99, t.Max, t.Timed = c.latencies[n/2], c.latencies[n*99/100], c.latencies[n-1], int64(n)
	}
	return t
}

// each is what was timed, in milliseconds.
func (c *counter) each() []float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return collect(c.latencies, milliseconds)
}
