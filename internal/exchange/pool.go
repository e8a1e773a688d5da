package exchange

import (
	"sync"
	"time"
)

// poolKey is what connections can be used for again: a scheme, and a host with its port.
type poolKey struct{ scheme, host string }

// pool keeps the connections that are not in use. It is safe for concurrent use.
type pool struct {
	max, maxPerHost int
	keep            time.Duration

	mu   sync.Mutex
	idle map[poolKey][]*conn // the last one put is the first to be taken
	size int
	old  *time.Timer // until the next look for old ones; nil while nothing is kept
}

func newPool(most, mostPerHost int, keep time.Duration) *pool {
	return &pool{max: most, maxPerHost: mostPerHost, keep: keep, idle: map[poolKey][]*conn{}}
}

// put keeps a connection, or closes it when enough are kept.
func (p *pool) put(c *conn) {
	c.idleSince = time.Now()
	p.mu.Lock()
	kept := p.size < p.max && len(p.idle[c.key]) < p.maxPerHost
	if kept {
		p.idle[c.key] = append(p.idle[c.key], c)
		p.size++
		if p.old == nil {
			p.old = time.AfterFunc(p.keep, p.closeOld)
		}
	}
	p.mu.Unlock()
	if !kept {
		c.Conn.Close()
	}
}

// take gives a connection that its receiver has not closed, or nil.
func (p *pool) take(key poolKey) *conn {
	for {
		c := p.pop(key)
		if c == nil {
			return nil
		}
		if time.Since(c.idleSince) < p.keep && !c.stale() {
			return c
		}
		c.Conn.Close()
	}
}

func (p *pool) pop(key poolKey) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	of := p.idle[key]
	if len(of) == 0 {
		return nil
	}
	c := of[len(of)-1]
	of[len(of)-1] = nil
	p.size--
	if p.idle[key] = of[:len(of)-1]; len(of) == 1 {
		delete(p.idle, key)
	}
	return c
}

// closeOld closes the connections that have been unused for too long, and comes back
// while any are kept.
func (p *pool) closeOld() {
	p.closeBefore(time.Now().Add(-p.keep))
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.old = nil; p.size > 0 {
		p.old = time.AfterFunc(p.keep/2, p.closeOld)
	}
}

// closeBefore closes the connections that have been unused since before.
func (p *pool) closeBefore(before time.Time) {
	var old []*conn
	p.mu.Lock()
	for key, of := range p.idle {
		n := 0 // those put first have been unused for longest
		for n < len(of) && of[n].idleSince.Before(before) {
			n++
		}
		old = append(old, of[:n]...)
		if p.idle[key] = append([]*conn(nil), of[n:]...); n == len(of) {
			delete(p.idle, key)
		}
	}
	p.size -= len(old)
	p.mu.Unlock()
	for _, c := range old {
		c.Conn.Close()
	}
}
