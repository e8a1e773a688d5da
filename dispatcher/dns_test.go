package dispatcher

import (
	"context"
	"net"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// nameServer is a resolver whose name server, on loopback, knows how each of its
// names fails; it says nothing of silent.example.
func nameServer(t *testing.T) *net.Resolver {
	t.Helper()
	codes := map[string]dnsmessage.RCode{
		"nxdomain.example.": dnsmessage.RCodeNameError,
		"servfail.example.": dnsmessage.RCodeServerFailure,
		"refused.example.":  dnsmessage.RCodeRefused,
		"nodata.example.":   dnsmessage.RCodeSuccess,
	}
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	done := inBackground(func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(buffer)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buffer[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			code, known := codes[m.Questions[0].Name.String()]
			if !known {
				continue
			}
			reply := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RCode: code}, Questions: m.Questions}
			if packed, err := reply.Pack(); err == nil {
				server.WriteTo(packed, from) //nolint:errcheck // a lost answer fails the look-up
			}
		}
	})
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

func TestDNS_TellsANameThatDoesNotExistFromServersThatFail(t *testing.T) {
	t.Parallel()
	for name, message := range map[string]string{
		"nxdomain": "the host name nxdomain.example. does not exist or has no address",
		"nodata":   "the host name nodata.example. does not exist or has no address",
		"servfail": "the host name servfail.example. could not be looked up: its name servers fail",
		"refused":  "the host name refused.example. could not be looked up: its name servers fail",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, patience, nil, nameServer(t))
			checkVerdict(t, l.attempt(t, "http://"+name+".example.:8080/hook").verdict, KindDNS, message)
		})
	}
}
