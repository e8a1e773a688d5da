package dispatcher

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/posthorn/posthorn/outbox"
)

// crowd are receivers that wait for each other before they misbehave, so that all
// of them do it at the same moment.
type crowd struct {
	certificate tls.Certificate

	mu       sync.Mutex
	missing  int
	complete chan struct{}
}

// arrive waits until everybody has a request, or the sender has given up.
func (c *crowd) arrive(gone <-chan struct{}) {
	c.mu.Lock()
	if c.missing--; c.missing == 0 {
		close(c.complete)
	}
	c.mu.Unlock()
	select {
	case <-c.complete:
	case <-gone:
	}
}

// plain is a receiver of the crowd that speaks HTTP by hand.
func (c *crowd) plain(answer func(net.Conn, int)) func(*testing.T) string {
	return func(t *testing.T) string {
		return newRawReceiver(t, func(conn net.Conn, post int) {
			c.arrive(t.Context().Done())
			answer(conn, post)
		}).url()
	}
}

// secure is the same over TLS.
func (c *crowd) secure(answer func(net.Conn, int)) func(*testing.T) string {
	return func(t *testing.T) string {
		l := tls.NewListener(listen(t), &tls.Config{Certificates: []tls.Certificate{c.certificate}})
		r := newRawReceiverOn(t, l, func(conn net.Conn, post int) {
			c.arrive(t.Context().Done())
			answer(conn, post)
		})
		return strings.Replace(r.url(), "http:", "https:", 1)
	}
}

// mute never answers in the TLS handshake.
func (c *crowd) mute(t *testing.T) string {
	l := listen(t)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		c.arrive(t.Context().Done())
		io.Copy(io.Discard, conn) //nolint:errcheck // until the sender goes away
	}()
	t.Cleanup(func() { l.Close() })
	return "https://" + l.Addr().String() + "/hook"
}

// http2 answers over HTTP/2.
func (c *crowd) http2(answer http.HandlerFunc) func(*testing.T) string {
	return func(t *testing.T) string {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor != 2 {
				t.Errorf("%s was spoken, not HTTP/2", r.Proto)
			}
			c.arrive(r.Context().Done())
			answer(w, r)
		}))
		server.EnableHTTP2 = true
		server.TLS = &tls.Config{Certificates: []tls.Certificate{c.certificate}}
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		t.Cleanup(server.Close)
		return server.URL
	}
}

// floodOfShortLines is as many headers as a receiver may send, each as short as
// can be and none like another: what costs the most memory for a byte.
func floodOfShortLines() string {
	var b strings.Builder
	b.WriteString("HTTP/1.1 200 OK\r\n")
	for i := 0; b.Len() < maxResponseHeaderBytes-16; i++ {
		fmt.Fprintf(&b, "%s:\r\n", strings.ToUpper(fmt.Sprintf("%03s", shortName(i))))
	}
	return b.String()
}

// shortName is a name of a few letters for each number.
func shortName(n int) string {
	name := ""
	for ; n > 0 || name == ""; n /= 26 {
		name += string(rune('a' + n%26))
	}
	return name
}

// misbehaviours are the kinds of receivers that cost memory while they last.
func (c *crowd) misbehaviours(t *testing.T) map[string]func(*testing.T) string {
	bomb := gzipBomb(t)
	chatter := strings.Repeat("y", 4096)
	return map[string]func(*testing.T) string{
		"hangs":                  c.plain(saysAndHolds("")),
		"drips_headers":          c.plain(keepsSaying("HTTP/1.1 200 OK\r\nX-Slow: ", "x", 200*time.Millisecond)),
		"floods_headers":         c.plain(says("HTTP/1.1 200 OK\r\n" + tenMegabytes() + "\r\n")),
		"floods_short_headers":   c.plain(saysAndHolds(floodOfShortLines())),
		"floods_1xx":             c.plain(keepsSaying("", "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n", 0)),
		"endless_body":           c.plain(keepsSaying("HTTP/1.1 200 OK\r\n\r\n", chatter, 0)),
		"drips_body":             c.plain(keepsSaying("HTTP/1.1 500 No\r\n\r\n", "y", 200*time.Millisecond)),
		"stops_in_long_body":     c.plain(saysAndHolds("HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + strings.Repeat(chatter, 15))),
		"resets":                 c.plain(resets),
		"gzip_bomb":              c.plain(says(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", len(bomb), bomb))),
		"not_http":               c.plain(says("SSH-2.0-OpenSSH_9.2\r\n")),
		"mute_in_handshake":      c.mute,
		"long_headers_drip_body": c.plain(keepsSaying(floodOfShortLines()+"\r\n", "x", 200*time.Millisecond)),
		"hangs_tls":              c.secure(saysAndHolds("")),
		"endless_body_tls":       c.secure(keepsSaying("HTTP/1.1 200 OK\r\n\r\n", strings.Repeat(chatter, 4), 0)),
		"hangs_http2":            c.http2(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }),
		"endless_body_http2": c.http2(func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				io.WriteString(w, chatter) //nolint:errcheck // the context tells
			}
		}),
	}
}

// onlyKindEnv names the one kind of misbehaviour that all shall have, for a person
// who looks for the worst; the bound is for the mix.
const onlyKindEnv = "POSTHORN_TEST_MISBEHAVIOUR"

const (
	crowdSize = 1000
	// maxGrowth is what a thousand misbehaving receivers may cost more than as many
	// that behave. Under the race detector the RSS says nothing, it is many times
	// the heap; then heap and stacks are held to it.
	maxGrowth = 64 << 20
)

func TestMemory_AThousandMisbehavingReceiversAtOnceCostAtMost64MiB(t *testing.T) {
	b := setup(t)
	calm := &crowd{missing: crowdSize, complete: make(chan struct{})}
	wild := &crowd{missing: crowdSize, complete: make(chan struct{}), certificate: selfSigned(t, "127.0.0.1", time.Now().Add(time.Hour))}
	well := newReceiver(t, func(w http.ResponseWriter, r *http.Request) {
		calm.arrive(r.Context().Done())
		io.WriteString(w, "thank you") //nolint:errcheck // the sender may have had enough
	})
	kinds := wild.misbehaviours(t)
	names := slices.Sorted(maps.Keys(kinds))
	if only := os.Getenv(onlyKindEnv); only != "" {
		names = []string{only}
	}
	for i := range crowdSize {
		b.endpoint(t, well.URL, "calm")
		b.endpoint(t, kinds[names[i%len(names)]](t), "wild")
	}
	node := b.startWeighedNode(t, wild.certificate)
	node.weigh(t)
	b.serve(t, calm, "calm")
	node.weigh(t)
	b.serve(t, wild, "wild")
	w := node.weights(t)

	grown := w.Worst.RSS - w.Warm.RSS
	if raceDetector || w.Worst.RSS == 0 {
		grown = w.Worst.Heap + w.Worst.Stack - w.Warm.Heap - w.Warm.Stack
	}
	mib := func(w weight) string {
		return fmt.Sprintf("%d MiB (heap %d, stacks %d)", w.RSS>>20, w.Heap>>20, w.Stack>>20)
	}
	t.Logf("idle %s, after %d that behave %s, with as many that do not at most %s", mib(w.Idle), crowdSize, mib(w.Warm), mib(w.Worst))
	if int64(grown) > maxGrowth {
		t.Errorf("the process grew by %d MiB, the bound is %d MiB", grown>>20, maxGrowth>>20)
	}
	balanced(t, b.Pool)
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.attempts`); n != 2*crowdSize {
		t.Errorf("%d attempts were recorded of %d", n, 2*crowdSize)
	}
}

// serve publishes one event for the whole crowd, and waits until all is over.
func (b *bundle) serve(t *testing.T, c *crowd, eventType string) {
	t.Helper()
	b.publish(t, outbox.Event{Type: eventType})
	select {
	case <-c.complete:
	case <-time.After(patience):
		t.Errorf("%s: not all of %d receivers had a request at once", eventType, crowdSize)
	}
	settled(t, b.Pool)
}

// weighedNode is a node in a process of its own that sends and weighs itself.
type weighedNode struct {
	*process
	said *bufio.Scanner
}

// startWeighedNode starts it, with the certificate for an authority that it trusts.
func (b *bundle) startWeighedNode(t *testing.T, certificate tls.Certificate) *weighedNode {
	t.Helper()
	roots := filepath.Join(t.TempDir(), "roots.pem")
	must(t, os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Leaf.Raw}), 0o600))
	var out io.Reader
	node := startNode(t, nodeOrder{URL: b.URL, Weigh: true, Timeout: 15 * time.Second, Grace: time.Minute}, func(cmd *exec.Cmd) {
		cmd.Env = append(cmd.Env, "SSL_CERT_FILE="+roots)
		var err error
		out, err = cmd.StdoutPipe()
		must(t, err)
	})
	eventually(t, b.Pool, "the node is registered", `SELECT EXISTS (SELECT FROM posthorn.nodes)`)
	return &weighedNode{node, bufio.NewScanner(out)}
}

// weigh has the node weigh itself.
func (n *weighedNode) weigh(t *testing.T) {
	t.Helper()
	must(t, n.cmd.Process.Signal(syscall.SIGUSR1))
	if !n.said.Scan() {
		t.Fatal("the node has ended")
	}
}

// weights ends the node and gives what it has found.
func (n *weighedNode) weights(t *testing.T) (w weights) {
	t.Helper()
	must(t, n.cmd.Process.Signal(syscall.SIGTERM))
	if !n.said.Scan() {
		t.Fatal("the node did not tell its weights")
	}
	must(t, json.Unmarshal(n.said.Bytes(), &w))
	return w
}
