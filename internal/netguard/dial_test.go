package netguard

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"
)

func TestDial_LoopbackOnlyWhereThePolicyAllowsIt(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dial := func(p Policy) error {
		dialer := net.Dialer{Control: NewGuard(p).Control}
		conn, err := dialer.DialContext(t.Context(), "tcp", listener.Addr().String())
		if err == nil {
			conn.Close()
		}
		return err
	}
	if err := dial(Policy{}); !errors.Is(err, ErrBlocked) {
		t.Errorf("the zero policy gives %v, want ErrBlocked through net.OpError", err)
	}
	if err := dial(developer); err != nil {
		t.Errorf("the developer's policy gives %v", err)
	}
}

// answer is a DNS server's to one question about an A record.
type answer struct {
	alias     string // a CNAME, if any, that has the addresses
	addresses []string
}

// startDNS serves UDP on loopback: the n-th question for an address of a name
// gets its n-th answer, and later ones the last. It knows no IPv6 addresses.
func startDNS(t *testing.T, zone map[string][]answer) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		asked := map[string]int{}
		buf := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return // closed
			}
			var m dnsmessage.Message
			if err := m.Unpack(buf[:n]); err != nil || len(m.Questions) != 1 {
				continue
			}
			question := m.Questions[0]
			name := question.Name.String()
			reply := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true}, Questions: m.Questions}
			if answers := zone[name]; question.Type == dnsmessage.TypeA && len(answers) > 0 {
				reply.Answers = answers[min(asked[name], len(answers)-1)].resources(question.Name)
				asked[name]++
			}
			packed, err := reply.Pack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = server.WriteTo(packed, from) // a lost answer fails the look-up
		}
	})
	t.Cleanup(func() {
		server.Close()
		done.Wait()
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

func (a answer) resources(name dnsmessage.Name) (list []dnsmessage.Resource) {
	header := dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET}
	if a.alias != "" {
		alias := dnsmessage.MustNewName(a.alias)
		list = append(list, dnsmessage.Resource{Header: header, Body: &dnsmessage.CNAMEResource{CNAME: alias}})
		header.Name = alias
	}
	for _, addr := range a.addresses {
		list = append(list, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: netip.MustParseAddr(addr).As4()}})
	}
	return list
}

// errNoPacket stands for a connection: no test may reach the public internet.
var errNoPacket = errors.New("allowed, but not connected by the test")

// verdicts dials the name once and gives what Control said to each address.
func verdicts(t *testing.T, resolver *net.Resolver, name string) map[string]bool {
	t.Helper()
	guard := NewGuard(Policy{})
	allowed := map[string]bool{}
	var mu sync.Mutex
	dialer := net.Dialer{Resolver: resolver, Control: func(network, address string, conn syscall.RawConn) error {
		err := guard.Control(network, address, conn)
		mu.Lock()
		defer mu.Unlock()
		allowed[address] = err == nil
		if err == nil {
			return errNoPacket
		}
		return err
	}}
	conn, err := dialer.DialContext(t.Context(), "tcp", net.JoinHostPort(name, "443"))
	if err == nil {
		conn.Close()
		t.Fatalf("%s is connected", name)
	}
	if !errors.Is(err, ErrBlocked) && !errors.Is(err, errNoPacket) {
		t.Fatalf("%s: %v", name, err)
	}
	return allowed
}

func TestDial_JudgesEveryAddressOfAName(t *testing.T) {
	t.Parallel()
	resolver := startDNS(t, map[string][]answer{
		"both.example.":   {{addresses: []string{"8.8.8.8", "10.0.0.1", "169.254.169.254"}}},
		"alias.example.":  {{alias: "db.internal.", addresses: []string{"10.0.0.7"}}},
		"public.example.": {{alias: "edge.example.", addresses: []string{"1.1.1.1"}}},
	})
	for name, want := range map[string]map[string]bool{
		"both.example.":   {"8.8.8.8:443": true, "10.0.0.1:443": false, "169.254.169.254:443": false},
		"alias.example.":  {"10.0.0.7:443": false},
		"public.example.": {"1.1.1.1:443": true},
	} {
		if diff := cmp.Diff(want, verdicts(t, resolver, name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestDial_JudgesAnewWhenTheNameChanges(t *testing.T) {
	t.Parallel()
	resolver := startDNS(t, map[string][]answer{
		"rebind.example.": {{addresses: []string{"8.8.8.8"}}, {addresses: []string{"127.0.0.1"}}},
	})
	for i, want := range []map[string]bool{{"8.8.8.8:443": true}, {"127.0.0.1:443": false}} {
		if diff := cmp.Diff(want, verdicts(t, resolver, "rebind.example.")); diff != "" {
			t.Errorf("dial %d: %s", i+1, diff)
		}
	}
}
