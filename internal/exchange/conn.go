package exchange

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

// conn is a connection that speaks HTTP/1.1. One exchange at a time uses it.
type conn struct {
	net.Conn                  // what is spoken over: of TLS, where that is
	secure    *tls.Conn       // the same, or nil
	socket    syscall.RawConn // of the TCP connection; nil where there is none to look at
	pool      *pool
	key       poolKey
	maxHeader int

	reader    *bufio.Reader
	left      int64 // bytes that may come before the bound on headers is reached
	idleSince time.Time
}

// readerSize is enough for the usual answer, and half of what net/http takes.
const readerSize = 2 << 10

func newConn(plain net.Conn, pool *pool, key poolKey, maxHeader int) *conn {
	c := &conn{Conn: plain, pool: pool, key: key, maxHeader: maxHeader}
	if tcp, ok := plain.(syscall.Conn); ok {
		c.socket, _ = tcp.SyscallConn() // without, it can't be looked at
	}
	c.reader = bufio.NewReaderSize(boundedReader{c}, readerSize)
	return c
}

// boundedReader reads from the connection what the bound on headers leaves.
type boundedReader struct{ c *conn }

func (r boundedReader) Read(b []byte) (int, error) {
	if r.c.left <= 0 {
		return 0, fmt.Errorf("server response headers exceeded %d bytes", r.c.maxHeader)
	}
	n, err := r.c.Conn.Read(b[:min(int64(len(b)), r.c.left)])
	r.c.left -= int64(n)
	return n, err
}

// exchange writes the request and reads the answer's head.
func (c *conn) exchange(r *Request, p *Progress) (*http.Response, error) {
	p.to(Sending)
	buffer := writeBuffers.Get().(*[]byte)
	*buffer = r.append((*buffer)[:0])
	_, failed := c.Write(*buffer)
	writeBuffers.Put(buffer)
	if failed == nil {
		p.to(Waiting)
	} else if errors.Is(failed, os.ErrDeadlineExceeded) {
		return nil, failed
	}
	// A receiver may answer, and close, before it has read everything.
	response, err := c.readHead(p)
	switch {
	case failed != nil && err != nil:
		return nil, failed
	case err != nil:
		return nil, err
	}
	response.Body = c.body(response, failed == nil)
	return response, nil
}

// writeBuffers hold heads and small bodies, which go out in one write.
var writeBuffers = sync.Pool{New: func() any { return new(make([]byte, 0, 4<<10)) }}

// maxInformational is how many 1xx answers may come before the answer, as in net/http.
const maxInformational = 5

// posted tells net/http what the answers are to.
var posted = &http.Request{Method: http.MethodPost}

// readHead reads up to the end of the answer's headers.
func (c *conn) readHead(p *Progress) (*http.Response, error) {
	c.left = int64(c.maxHeader)
	defer func() { c.left = math.MaxInt64 }()
	if _, err := c.reader.Peek(1); err != nil {
		return nil, err
	}
	p.to(Answering)
	for range maxInformational + 1 {
		response, err := http.ReadResponse(c.reader, posted)
		if err != nil {
			return nil, err
		}
		if response.StatusCode >= 200 || response.StatusCode == http.StatusSwitchingProtocols {
			return response, nil
		}
	}
	return nil, errors.New("too many 1xx informational responses")
}

// longAgo, as a deadline, has a read return what is there already, and not wait.
var longAgo = time.Unix(1, 0)

// stale reports whether something has come over an unused connection: its end, or
// what nobody has asked for. A request would be lost on it, or get another's answer.
func (c *conn) stale() bool { return c.secure != nil && c.decrypted() || c.came() }

// decrypted reports whether anything is left of what TLS has read from the socket. A
// read whose deadline is past reads nothing more, and spoils nothing.
func (c *conn) decrypted() bool {
	if err := c.secure.SetReadDeadline(longAgo); err != nil {
		return true
	}
	_, err := c.secure.Read(make([]byte, 1))
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// body gives the answer's body, which gives the connection back when it has been read
// to its end, or at once where there is none.
func (c *conn) body(response *http.Response, wroteAll bool) io.ReadCloser {
	b := &body{c: c, from: response.Body,
		reusable: wroteAll && !response.Close && response.StatusCode != http.StatusSwitchingProtocols}
	if response.Body != http.NoBody {
		return b
	}
	b.ended = true
	b.Close()
	return http.NoBody
}

// body is an answer's body.
type body struct {
	c        *conn
	from     io.ReadCloser
	reusable bool
	ended    bool // read to its end
	closed   bool
}

// Read implements io.Reader.
func (b *body) Read(to []byte) (int, error) {
	if b.closed {
		return 0, http.ErrBodyReadAfterClose // the connection may be another's by now
	}
	n, err := b.from.Read(to)
	b.ended = b.ended || err == io.EOF
	return n, err
}

// Close implements io.Closer: the connection is kept if nothing of the body is left.
func (b *body) Close() error {
	switch {
	case b.closed:
	case b.reusable && b.ended && b.c.reader.Buffered() == 0:
		b.c.pool.put(b.c)
	default:
		b.c.Conn.Close()
	}
	b.closed = true
	return nil
}
