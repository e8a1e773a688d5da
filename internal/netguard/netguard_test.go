package netguard

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestControl_RefusesEveryAddressOffThePublicInternet(t *testing.T) {
	t.Parallel()
	guard := NewGuard(Policy{})
	for _, addr := range []string{
		"127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1",
		"100.64.0.1", "100.127.255.255", "169.254.169.254", "168.63.129.16", "192.0.0.1", "192.0.2.1", "192.88.99.1",
		"198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:8.8.8.8",
		"64:ff9b::7f00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::1", "3fff::1", "5f00::1",
		"fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%lo", "2606:4700::1111%lo", "fec0::1", "ff02::1",
	} {
		err := guard.Control(networkOf(addr), net.JoinHostPort(addr, "443"), nil)
		if !errors.Is(err, ErrBlocked) || !strings.Contains(err.Error(), addr) {
			t.Errorf("%s: %v; want a refusal that names it", addr, err)
		}
	}
}

func TestControl_AllowsThePublicInternet(t *testing.T) {
	t.Parallel()
	guard := NewGuard(Policy{})
	for _, addr := range []string{"8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.32.0.1", "168.63.129.15",
		"198.17.255.255", "223.255.255.255", "2606:4700::1111", "2a00:1450:4001::1"} {
		if err := guard.Control(networkOf(addr), net.JoinHostPort(addr, "443"), nil); err != nil {
			t.Error(err)
		}
	}
}

func TestControl_RefusesPortsOfOtherProtocols(t *testing.T) {
	t.Parallel()
	guard := NewGuard(Policy{})
	for port, open := range map[string]bool{
		"80": true, "443": true, "8080": true, "8443": true, "1024": true, "65535": true,
		"0": false, "22": false, "25": false, "81": false, "1023": false, "5432": false, "6379": false, "9200": false, "11211": false,
	} {
		if err := guard.Control("tcp4", "8.8.8.8:"+port, nil); (err == nil) != open || err != nil && !errors.Is(err, ErrBlocked) {
			t.Errorf("port %s: %v", port, err)
		}
	}
}

func TestControl_RefusesWhatIsNoTCPAddress(t *testing.T) {
	t.Parallel()
	guard := NewGuard(developer)
	for address, network := range map[string]string{
		"/var/run/docker.sock": "unix", "": "tcp4", "8.8.8.8": "tcp4", "example.com:443": "tcp4",
		"8.8.8.8:443": "udp4", "127.0.0.1:443": "udp4", "8.8.4.4:443": "ip4",
	} {
		if err := guard.Control(network, address, nil); !errors.Is(err, ErrBlocked) {
			t.Errorf("%s %q: %v", network, address, err)
		}
	}
}

func TestControl_AllowsTheNetworksOfThePolicyAndNoOther(t *testing.T) {
	t.Parallel()
	guard := NewGuard(developer)
	for addr, allowed := range map[string]bool{
		"127.0.0.1": true, "127.9.9.9": true, "fd00::1": true, "8.8.8.8": true,
		"10.0.0.1": false, "::1": false, "fc00::1": false, "169.254.169.254": false, "168.63.129.16": false,
	} {
		if err := guard.Control(networkOf(addr), net.JoinHostPort(addr, "8080"), nil); (err == nil) != allowed {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func networkOf(addr string) string {
	if strings.Contains(addr, ":") {
		return "tcp6"
	}
	return "tcp4"
}

// special are the ranges of the IANA special-purpose registries that no webhook
// goes to, written down here independently of what the guard uses.
var special = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
	"192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
	"224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32",
	"::/8", "64:ff9b::/96", "64:ff9b:1::/48", "100::/8", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
	"4000::/2", "8000::/1", // with fc00::/7, fe80::/10, fec0::/10, ff00::/8
)

func prefixes(all ...string) (list []netip.Prefix) {
	for _, s := range all {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}

// public is the oracle: the standard library's predicates and the list.
func public(addr netip.Addr) bool {
	if !addr.IsGlobalUnicast() || addr.IsPrivate() || addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.Is4In6() || addr.Zone() != "" {
		return false
	}
	for _, p := range special {
		if p.Contains(addr) {
			return false
		}
	}
	return true
}

// addresses draws from all of IPv4, all of IPv6, and each special range.
func addresses() *rapid.Generator[netip.Addr] {
	v4 := prefixes("0.0.0.0/0", "::ffff:0.0.0.0/96", "::/96", "2002::/16")
	ranges := append(append(prefixes("::/0", "2000::/3", "2001::/16"), v4...), special...)
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		in := rapid.SampledFrom(ranges).Draw(t, "range")
		bytes := in.Addr().AsSlice()
		for i, b := range rapid.SliceOfN(rapid.Byte(), len(bytes), len(bytes)).Draw(t, "bytes") {
			keep := max(0, min(8, in.Bits()-8*i)) // bits of this byte that belong to the prefix
			mask := byte(0xff) >> keep
			bytes[i] = bytes[i]&^mask | b&mask
		}
		addr, _ := netip.AddrFromSlice(bytes)
		return addr
	})
}

func TestControl_AllowsNoAddressThatIsNotPublic(t *testing.T) {
	t.Parallel()
	guard := NewGuard(Policy{})
	rapid.Check(t, func(t *rapid.T) {
		addr := addresses().Draw(t, "address")
		port := rapid.SampledFrom([]uint16{80, 443, 8443}).Draw(t, "port")
		at := netip.AddrPortFrom(addr, port).String()
		err := guard.Control(networkOf(addr.String()), at, nil)
		if err == nil && !public(addr) {
			t.Fatalf("%s is allowed", at)
		}
		if err != nil && !errors.Is(err, ErrBlocked) {
			t.Fatalf("%s: %v does not wrap ErrBlocked", at, err)
		}
	})
}
