package dispatcher

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
)

// step is a part of an attempt, in the order in which they follow each other.
type step int32

const (
	unknownStep step = iota
	resolving
	connecting
	handshaking
	sending
	waiting   // the request is written
	answering // the answer has begun
)

// during says in which part the time ran out, for a person.
func (s step) during() string {
	switch s {
	case resolving:
		return "looking up the host name"
	case connecting:
		return "connecting"
	case handshaking:
		return "in the TLS handshake"
	case sending:
		return "sending the request"
	case waiting:
		return "waiting for the answer"
	case answering:
		return "in the middle of the answer's headers"
	default:
		return ""
	}
}

// progress is how far an attempt has come. It is safe for concurrent use: net/http
// tells of a dial from a goroutine of its own, which may outlive the attempt or
// end up serving another one. Then progress is less than the truth, or unknown.
type progress struct{ reached atomic.Int32 }

// to moves forward and never back: a dial may end after an idle connection was
// taken instead.
func (p *progress) to(s step) {
	for {
		now := p.reached.Load()
		if now >= int32(s) || p.reached.CompareAndSwap(now, int32(s)) {
			return
		}
	}
}

func (p *progress) step() step { return step(p.reached.Load()) }

// watch gives the context of an attempt that is to be followed. Got1xxResponse
// must stay unset: with it, net/http stops bounding a flood of 1xx answers.
func (p *progress) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart:             func(httptrace.DNSStartInfo) { p.to(resolving) },
		ConnectStart:         func(string, string) { p.to(connecting) },
		TLSHandshakeStart:    func() { p.to(handshaking) },
		GotConn:              func(httptrace.GotConnInfo) { p.to(sending) },
		WroteRequest:         func(i httptrace.WroteRequestInfo) { p.wrote(i.Err) },
		GotFirstResponseByte: func() { p.to(answering) },
	})
}

func (p *progress) wrote(err error) {
	if err == nil {
		p.to(waiting)
	}
}
