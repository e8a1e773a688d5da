package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Receive is the receiver's process: it listens on loopback, prints its URL and
// counts what comes, until its standard input ends. A body with a sent_at in Unix
// nanoseconds is timed.
func Receive(stdin io.Reader, stdout io.Writer) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	c := &counter{}
	server := &http.Server{Handler: c}
	go func() {
		io.Copy(io.Discard, stdin) //nolint:errcheck // the end of it is the signal, however it ends
		server.Close()
	}()
	fmt.Fprintf(stdout, "http://%s\n", listener.Addr())
	if err := server.Serve(listener); err != http.ErrServerClosed {
		return err
	}
	return nil
}

// counter counts POSTs; GET reads the counts, DELETE resets them.
type counter struct {
	n         atomic.Int64
	tired     atomic.Int64 // POSTs to /tires
	lastAt    atomic.Int64 // when the last POST came, Unix nanoseconds
	mu        sync.Mutex
	latencies []time.Duration
}

// tally is what GET answers.
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
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		now := time.Now()
		switch r.URL.Path {
		case "/timed":
			c.time(now, body)
		case "/hang":
			select {
			case <-time.After(30 * time.Second):
			case <-r.Context().Done():
			}
		case "/tires": // works, and then hangs
			if c.tired.Add(1) > 5000 {
				select {
				case <-time.After(30 * time.Second):
				case <-r.Context().Done():
				}
			}
		case "/fail":
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		c.lastAt.Store(now.UnixNano())
		c.n.Add(1)
		w.WriteHeader(http.StatusNoContent)
	case http.MethodDelete:
		c.n.Store(0)
		c.tired.Store(0)
		c.mu.Lock()
		c.latencies = nil
		c.mu.Unlock()
	default:
		json.NewEncoder(w).Encode(c.tally()) //nolint:errcheck // the client will see
	}
}

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

// receiver is the receiver's process as the benchmark sees it.
type receiver struct {
	url   string
	cmd   *exec.Cmd
	stdin io.Closer
}

func startReceiver(ctx context.Context, executable string) (*receiver, error) {
	cmd := exec.CommandContext(ctx, executable, "bench", "--receiver")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start receiver: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start receiver: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start receiver: %w", err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	r := &receiver{url: strings.TrimSpace(line), cmd: cmd, stdin: stdin}
	if err != nil {
		r.stop()
		return nil, fmt.Errorf("start receiver: it printed no URL: %w", err)
	}
	return r, nil
}

// stop ends the process by closing its standard input.
func (r *receiver) stop() {
	r.stdin.Close()
	r.cmd.Wait() //nolint:errcheck // it has nothing left to say
}

func (r *receiver) reset(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodDelete, r.url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("reset receiver: %w", err)
	}
	return response.Body.Close()
}

func (r *receiver) tally(ctx context.Context) (tally, error) {
	var t tally
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return t, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return t, fmt.Errorf("ask receiver: %w", err)
	}
	defer response.Body.Close()
	return t, json.NewDecoder(response.Body).Decode(&t)
}

// await waits until n requests have been received, and returns when the last was.
func (r *receiver) await(ctx context.Context, n int64) (time.Time, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		t, err := r.tally(ctx)
		if err != nil {
			return time.Time{}, err
		}
		if t.Received >= n {
			return time.Unix(0, t.LastAt), nil
		}
		select {
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("%d of %d received: %w", t.Received, n, ctx.Err())
		case <-tick.C:
		}
	}
}
