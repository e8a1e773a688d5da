package exchange

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
)

// Step is a part of an exchange.
type Step int32

// The steps, in the order in which they follow each other.
const (
	// Unknown is before anything is known to have begun.
	Unknown Step = iota
	// Resolving looks up the host's name.
	Resolving
	// Connecting connects to one of its addresses.
	Connecting
	// Handshaking is in the TLS handshake.
	Handshaking
	// Sending has a connection and writes the request.
	Sending
	// Waiting has written the request.
	Waiting
	// Answering has read the beginning of the answer.
	Answering
)

// During says in which part something happened, for a person; "" when that is unknown.
func (s Step) During() string {
	switch s {
	case Resolving:
		return "looking up the host name"
	case Connecting:
		return "connecting"
	case Handshaking:
		return "in the TLS handshake"
	case Sending:
		return "sending the request"
	case Waiting:
		return "waiting for the answer"
	case Answering:
		return "in the middle of the answer's headers"
	default:
		return ""
	}
}

// Progress is how far an exchange has come. The zero value is ready. It is safe for concurrent use: net/http
// tells of a dial from a goroutine of its own, which may outlive the attempt or
// end up serving another one. Then Progress is less than the truth, or unknown.
type Progress struct{ reached atomic.Int32 }

// to moves forward and never back: a dial may end after an idle connection was
// taken instead.
func (p *Progress) to(s Step) {
	for {
		now := p.reached.Load()
		if now >= int32(s) || p.reached.CompareAndSwap(now, int32(s)) {
			return
		}
	}
}

// Step is the one that was reached last.
func (p *Progress) Step() Step { return Step(p.reached.Load()) }

// watch gives the context of an exchange that is to be followed. Got1xxResponse
// must stay unset: with it, net/http stops bounding a flood of 1xx answers.
func (p *Progress) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart:             func(httptrace.DNSStartInfo) { p.to(Resolving) },
		ConnectStart:         func(string, string) { p.to(Connecting) },
		TLSHandshakeStart:    func() { p.to(Handshaking) },
		GotConn:              func(httptrace.GotConnInfo) { p.to(Sending) },
		WroteRequest:         func(i httptrace.WroteRequestInfo) { p.wrote(i.Err) },
		GotFirstResponseByte: func() { p.to(Answering) },
	})
}

func (p *Progress) wrote(err error) {
	if err == nil {
		p.to(Waiting)
	}
}
