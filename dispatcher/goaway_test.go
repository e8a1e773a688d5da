package dispatcher

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// frameReceiver speaks HTTP/2 frame by frame, so that it can say goodbye at will.
type frameReceiver struct {
	net.Listener
	roots  *x509.CertPool
	answer func(framer *http2.Framer, stream uint32)

	mu    sync.Mutex
	posts int
}

func newFrameReceiver(t *testing.T, answer func(*http2.Framer, uint32)) *frameReceiver {
	t.Helper()
	certificate := selfSigned(t, "127.0.0.1", time.Now().Add(time.Hour))
	l := tls.NewListener(listen(t), &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"}})
	r := &frameReceiver{Listener: l, roots: trusting(certificate), answer: answer}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { r.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return r
}

// serve answers each request when its body has come whole.
func (r *frameReceiver) serve(conn net.Conn) {
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	framer := http2.NewFramer(conn, conn)
	if framer.WriteSettings() != nil {
		return
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		if data, ok := frame.(*http2.DataFrame); ok && data.StreamEnded() {
			r.mu.Lock()
			r.posts++
			r.mu.Unlock()
			r.answer(framer, data.StreamID)
		}
	}
}

func TestHTTP2_AGoodbyeIsOnePOSTAndOneAttempt(t *testing.T) {
	t.Parallel()
	// :status 200 as HPACK's static table has it, and :status 500.
	ok, oops := []byte{0x88}, []byte{0x8e}
	headers := func(f *http2.Framer, stream uint32, block []byte) {
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: true, EndStream: true})
	}
	for name, c := range map[string]struct {
		answer func(*http2.Framer, uint32)
		status int
		kind   ErrorKind
	}{
		"goaway that disowns the request": {func(f *http2.Framer, _ uint32) { f.WriteGoAway(0, http2.ErrCodeNo, nil) }, 0, KindReset},
		"goaway with an error": {func(f *http2.Framer, _ uint32) {
			f.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, []byte("calm\x1b[31m"))
		}, 0, KindReset},
		"goaway, then the answer": {func(f *http2.Framer, s uint32) {
			f.WriteGoAway(s, http2.ErrCodeNo, nil)
			headers(f, s, ok)
		}, 200, ""},
		"the answer, then goaway": {func(f *http2.Framer, s uint32) {
			headers(f, s, oops)
			f.WriteGoAway(s, http2.ErrCodeNo, nil)
		}, 500, KindHTTPStatus},
		"stream refused":     {func(f *http2.Framer, s uint32) { f.WriteRSTStream(s, http2.ErrCodeRefusedStream) }, 0, KindReset},
		"stream reset":       {func(f *http2.Framer, s uint32) { f.WriteRSTStream(s, http2.ErrCodeInternal) }, 0, KindReset},
		"frame of no stream": {func(f *http2.Framer, _ uint32) { f.WriteRawFrame(http2.FrameData, 0, 0, []byte("x")) }, 0, KindProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newFrameReceiver(t, c.answer)
			a := newLab(t, patience, r.roots, nil).attempt(t, "https://"+r.Addr().String())
			if a.status != c.status || a.verdict.Kind != c.kind {
				t.Errorf("status %d, %+v, want %d, %q", a.status, a.verdict, c.status, c.kind)
			}
			if strings.Contains(a.verdict.Message, "\x1b") {
				t.Errorf("%q", a.verdict.Message)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.posts != 1 {
				t.Errorf("%d POSTs for one attempt", r.posts)
			}
		})
	}
}
