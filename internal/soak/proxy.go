package soak

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// proxy is the network between one client and PostgreSQL. It passes bytes on until
// it is told to be a bad network. It is safe for concurrent use.
type proxy struct {
	listener net.Listener
	target   string
	turn     sync.Mutex // held by a fault for as long as it lasts
	pumps    sync.WaitGroup

	mu      sync.Mutex
	links   map[*link]bool
	refuse  bool
	delay   time.Duration
	thawed  chan struct{} // closed when bytes may pass
	closing bool
}

// link is one connection of the client and the one to the server that belongs to it.
type link struct {
	client, server *net.TCPConn
	// deaf, when true, lets nothing through any more, not even an end.
	deaf bool
}

// newProxy listens on a free port of the loopback interface.
func newProxy(target string) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: listener, target: target, links: map[*link]bool{}, thawed: closedChannel()}
	p.pumps.Go(p.accept)
	return p, nil
}

func closedChannel() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// addr is where the client connects to.
func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.pumps.Go(func() { p.connect(conn.(*net.TCPConn)) })
	}
}

// connect makes the link. While nothing passes, the client's connection is there
// and silent; while connections are refused, it is reset.
func (p *proxy) connect(client *net.TCPConn) {
	if p.refusing() {
		abort(client)
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		abort(client)
		return
	}
	l := &link{client: client, server: server.(*net.TCPConn)}
	p.mu.Lock()
	if p.closing || p.refuse {
		p.mu.Unlock()
		l.abort()
		return
	}
	p.links[l] = true
	p.pumps.Go(func() { p.pump(l, l.client, l.server) })
	p.pumps.Go(func() { p.pump(l, l.server, l.client) })
	p.mu.Unlock()
}

func (p *proxy) refusing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refuse || p.closing
}

// pump passes bytes on in one direction, and then the end.
func (p *proxy) pump(l *link, from, to *net.TCPConn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if !p.passes(l) {
			if err == nil {
				continue // swallowed
			}
			return // so is the end; cut closes the rest
		}
		if n > 0 {
			if _, failed := to.Write(buffer[:n]); failed != nil {
				err = failed
			}
		}
		if err != nil {
			l.close()
			p.forget(l)
			return
		}
	}
}

// passes waits as long as the network is frozen or slow, and says whether the link
// lets anything through.
func (p *proxy) passes(l *link) bool {
	p.mu.Lock()
	thawed, delay := p.thawed, p.delay
	p.mu.Unlock()
	<-thawed
	if delay > 0 {
		<-time.After(delay)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return !l.deaf
}

func (p *proxy) forget(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// freeze holds every byte for so long.
func (p *proxy) freeze(ctx context.Context, d time.Duration) {
	thawed := make(chan struct{})
	p.set(func() { p.thawed = thawed })
	pause(ctx, d)
	close(thawed)
}

// slow delays every message for so long.
func (p *proxy) slow(ctx context.Context, delay, d time.Duration) {
	p.set(func() { p.delay = delay })
	pause(ctx, d)
	p.set(func() { p.delay = 0 })
}

// cut resets every connection, and refuses new ones for so long.
func (p *proxy) cut(ctx context.Context, d time.Duration) {
	p.set(func() { p.refuse = true })
	p.abortAll()
	pause(ctx, d)
	p.set(func() { p.refuse = false })
}

// halfClose ends every second connection towards the server alone and the others
// towards the client alone. The other side hears nothing, neither bytes nor an
// end, until the connections are reset after d. New connections work.
func (p *proxy) halfClose(ctx context.Context, d time.Duration) {
	var deaf []*link
	p.set(func() {
		for l := range p.links {
			l.deaf = true
			deaf = append(deaf, l)
		}
	})
	for i, l := range deaf {
		// An error means that this connection has ended already.
		if i%2 == 0 {
			_ = l.server.CloseWrite()
		} else {
			_ = l.client.CloseWrite()
		}
	}
	pause(ctx, d)
	for _, l := range deaf {
		l.abort()
		p.forget(l)
	}
}

func (p *proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *proxy) abortAll() {
	p.set(func() {
		for l := range p.links {
			l.abort()
		}
		clear(p.links)
	})
}

// close ends everything.
func (p *proxy) close() error {
	p.set(func() { p.closing = true })
	err := p.listener.Close()
	p.abortAll()
	p.pumps.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// abort resets both connections.
func (l *link) abort() {
	abort(l.client)
	abort(l.server)
}

func (l *link) close() {
	_ = l.client.Close() // an error means that it is closed
	_ = l.server.Close()
}

func abort(conn *net.TCPConn) {
	_ = conn.SetLinger(0) // an error means that it is closed
	_ = conn.Close()
}

// pause waits, for the pace of a run and never for a result.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
