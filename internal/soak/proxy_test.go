package soak

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// line is a connection through a proxy to a server that answers each line with itself.
type line struct {
	t     *testing.T
	proxy *proxy
	conn  *net.TCPConn
	in    *bufio.Reader
	ended chan struct{} // closed when the server has seen an end
}

func newLine(t *testing.T) *line {
	t.Helper()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { must(t, server.Close()) })
	l := &line{t: t, ended: make(chan struct{})}
	go func() {
		conn, err := server.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(conn, conn) // until an end comes, whatever it is
		close(l.ended)
	}()
	l.proxy, err = newProxy(server.Addr().String())
	must(t, err)
	t.Cleanup(func() { must(t, l.proxy.close()) })
	conn, err := net.Dial("tcp", l.proxy.addr())
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	l.conn, l.in = conn.(*net.TCPConn), bufio.NewReader(conn)
	l.echo() // the link is there
	return l
}

// echo sends a line, waits for it and returns how long that took.
func (l *line) echo() time.Duration {
	l.t.Helper()
	begin := time.Now()
	_, err := io.WriteString(l.conn, "hello\n")
	must(l.t, err)
	text, err := l.in.ReadString('\n')
	must(l.t, err)
	if text != "hello\n" {
		l.t.Fatalf("%q came back", text)
	}
	return time.Since(begin)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lasting runs a fault and returns when it has begun, which changed tells, with a
// wait for its end.
func (l *line) lasting(fault func(), began func(p *proxy) bool) (over func()) {
	l.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fault()
	}()
	for begun := false; !begun; pause(l.t.Context(), time.Millisecond) {
		l.proxy.set(func() { begun = began(l.proxy) })
	}
	return func() { <-done }
}

func TestProxyFreezesAndLetsGo(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	over := l.lasting(func() { l.proxy.freeze(t.Context(), 300*time.Millisecond) }, func(p *proxy) bool {
		select {
		case <-p.thawed:
			return false
		default:
			return true
		}
	})
	if took := l.echo(); took < 200*time.Millisecond {
		t.Errorf("a frozen network answered after %s", took)
	}
	over()
	l.echo()
}

func TestProxyDelays(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	ctx, cancel := context.WithCancel(t.Context())
	over := l.lasting(func() { l.proxy.slow(ctx, 50*time.Millisecond, time.Hour) }, func(p *proxy) bool { return p.delay > 0 })
	if took := l.echo(); took < 100*time.Millisecond {
		t.Errorf("there and back took %s", took)
	}
	cancel()
	over()
	l.echo()
}

func TestProxyCutsAndRefuses(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	ctx, cancel := context.WithCancel(t.Context())
	over := l.lasting(func() { l.proxy.cut(ctx, time.Hour) }, func(p *proxy) bool { return p.refuse && len(p.links) == 0 })
	if _, err := l.in.ReadString('\n'); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection ends with %v", err)
	}
	<-l.ended
	conn, err := net.Dial("tcp", l.proxy.addr())
	if err == nil { // it may be accepted by the kernel
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	if err == nil {
		t.Error("a new connection works")
	}
	cancel()
	over()
}

func TestProxyHalfCloses(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	ctx, cancel := context.WithCancel(t.Context())
	var link *link
	l.proxy.set(func() {
		for link = range l.proxy.links {
		}
	})
	over := l.lasting(func() { l.proxy.halfClose(ctx, time.Hour) }, func(*proxy) bool { return link.deaf })
	<-l.ended // the server has heard of an end …
	must(t, l.conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err := io.WriteString(l.conn, "hello\n")
	must(t, err)
	if _, err := l.in.ReadString('\n'); !isTimeout(err) {
		t.Errorf("the client hears %v, and should hear nothing", err) // … and the client has not
	}
	cancel()
	over()
	must(t, l.conn.SetReadDeadline(time.Now().Add(20*time.Second)))
	if _, err := l.in.ReadString('\n'); err == nil || isTimeout(err) {
		t.Errorf("in the end the client hears %v", err)
	}
}

func isTimeout(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}
