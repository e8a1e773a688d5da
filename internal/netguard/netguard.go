// Package netguard decides where Posthorn may connect on a subscriber's word.
// A subscriber names a URL and the service calls it from inside the operator's
// network: without a guard that is a way to every internal address (SSRF).
//
// There are two lines. CheckURL refuses at registration what the text alone
// gives away, so that the subscriber gets an error it can read. Control refuses
// at every dial, on the address the name has resolved to at that moment; it
// alone is the protection, because names change.
package netguard

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"code.dny.dev/ssrf"
)

// ErrBlocked is wrapped by every refusal to connect.
var ErrBlocked = errors.New("blocked address")

// Policy says which endpoints are allowed. The zero Policy allows https to the
// public internet and nothing else. A Policy is not to be changed once in use.
type Policy struct {
	// AllowHTTP permits plain http URLs. Default false.
	AllowHTTP bool

	// AllowNetworks are address ranges that are permitted although they are not
	// on the public internet, such as 127.0.0.0/8 on a developer's machine.
	// Default none.
	AllowNetworks []netip.Prefix
}

// deniedPorts speak protocols that a POST could confuse or reveal; below 1024
// only the web's own ports are open.
var deniedPorts = []uint16{
	1433, 1521, 2049, 2375, 2376, 2379, 2380, 3306, 5432, 5672, 6379, 6380,
	6443, 9042, 9092, 9200, 9300, 10250, 11211, 27017,
}

func portAllowed(port uint16) bool {
	if port < 1024 {
		return port == 80 || port == 443
	}
	return !slices.Contains(deniedPorts, port)
}

// deniedV4 are addresses of the public range that lead inside: the metadata
// service of one large cloud.
var deniedV4 = []netip.Prefix{netip.MustParsePrefix("168.63.129.16/32")}

// Guard enforces a Policy at dial time. It is safe for concurrent use.
type Guard struct {
	guardian *ssrf.Guardian
}

// NewGuard makes a Guard of the policy.
func NewGuard(p Policy) *Guard {
	var v4, v6 []netip.Prefix
	for _, prefix := range p.AllowNetworks {
		if prefix.Addr().Is4() {
			v4 = append(v4, prefix)
		} else {
			v6 = append(v6, prefix)
		}
	}
	return &Guard{guardian: ssrf.New(
		ssrf.WithAnyPort(), // ports are ours to judge: portAllowed
		ssrf.WithAllowedV4Prefixes(v4...),
		ssrf.WithAllowedV6Prefixes(v6...),
		ssrf.WithDeniedV4Prefixes(deniedV4...),
	)}
}

// Control is for net.Dialer.Control: it is called with the resolved address of
// every dial, before a packet is sent. A refusal wraps ErrBlocked and names the
// address.
func (g *Guard) Control(network, address string, conn syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s is no address", ErrBlocked, address)
	}
	if !portAllowed(at.Port()) {
		return fmt.Errorf("%w: port %d is not open to webhooks", ErrBlocked, at.Port())
	}
	if err := g.guardian.Safe(network, address, conn); err != nil {
		return fmt.Errorf("%w: %s is not on the public internet", ErrBlocked, at.Addr())
	}
	return nil
}

// addrAllowed is Control's judgement on an address that stands in a URL.
func (g *Guard) addrAllowed(addr netip.Addr) bool {
	network := "tcp4"
	if addr.Is6() {
		network = "tcp6"
	}
	return g.guardian.Safe(network, netip.AddrPortFrom(addr, 443).String(), nil) == nil
}
