package netguard

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxURLLength is generous for a webhook's address and small for a database row.
const maxURLLength = 2048

// CheckURL returns an error that tells the subscriber what is wrong with an
// endpoint's URL, or nil. It resolves no names.
func (p Policy) CheckURL(raw string) error {
	if len(raw) > maxURLLength {
		return fmt.Errorf("the URL has %d characters, the limit is %d", len(raw), maxURLLength)
	}
	for _, r := range raw {
		if r <= ' ' || r == 0x7f || r == '\\' || r > 0x7e {
			return errors.New("the URL has characters that must be percent-encoded or written in punycode")
		}
	}
	u, err := url.Parse(raw)
	if err != nil {
		return errors.New("the URL can't be parsed")
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http", u.Opaque != "":
		return errors.New("the URL must begin with https://")
	case u.Scheme == "http" && !p.AllowHTTP:
		return errors.New("plain http is not allowed here, the URL must begin with https://")
	case u.User != nil:
		return errors.New("the URL must not hold a user name or password; put credentials into custom headers")
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return errors.New("the URL must not have a fragment")
	case hasEncodedControl(raw):
		return errors.New("the URL must not hold control characters, encoded ones neither")
	}
	if err := checkPort(u); err != nil {
		return err
	}
	return p.checkHost(u.Hostname())
}

// hasEncodedControl looks for %00 to %1f and %7f itself: url.QueryUnescape gives
// up on a malformed query, and receivers may not.
func hasEncodedControl(raw string) bool {
	for rest := raw; ; {
		_, after, found := strings.Cut(rest, "%")
		if !found {
			return false
		}
		if len(after) >= 2 {
			if b, err := strconv.ParseUint(after[:2], 16, 8); err == nil && (b < ' ' || b == 0x7f) {
				return true
			}
		}
		rest = after
	}
}

func checkPort(u *url.URL) error {
	text := u.Port()
	if text == "" {
		if strings.HasSuffix(u.Host, ":") {
			return errors.New("the URL ends its host with a colon but no port")
		}
		return nil
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || !portAllowed(uint16(port)) {
		return fmt.Errorf("port %s is not open to webhooks", text)
	}
	return nil
}

func (p Policy) checkHost(host string) error {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	switch {
	case host == "":
		return errors.New("the URL has no host")
	case strings.Contains(host, "%"):
		return errors.New("the URL's host must not hold a zone or percent-encoding")
	}
	guard := NewGuard(p)
	if addr, err := netip.ParseAddr(host); err == nil {
		if !guard.addrAllowed(addr) {
			return fmt.Errorf("%s is not an address on the public internet", host)
		}
		return nil
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		if guard.addrAllowed(netip.AddrFrom4([4]byte{127, 0, 0, 1})) {
			return nil
		}
		return fmt.Errorf("%s is this machine itself, not a host on the public internet", host)
	}
	labels := strings.Split(host, ".")
	if err := checkName(host, labels); err != nil {
		return err
	}
	if len(p.AllowNetworks) > 0 {
		return nil // names of the networks that are allowed: Control tells
	}
	return checkPublic(host, labels)
}

// maxNameLength is DNS's limit.
const maxNameLength = 253

// checkName refuses what is no name. The last label decides what is read as a
// number: 2130706433, 0x7f.1 and 127.1 are addresses to some resolvers.
func checkName(host string, labels []string) error {
	last := labels[len(labels)-1]
	if last == "" || last[0] >= '0' && last[0] <= '9' {
		return fmt.Errorf("%s is neither a host name nor an address in its usual form", host)
	}
	if len(host) > maxNameLength {
		return fmt.Errorf("the URL's host has %d characters, the limit is %d", len(host), maxNameLength)
	}
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, notInLabel) {
			return fmt.Errorf("%s is not a host name", host)
		}
	}
	return nil
}

// privateDomains are not, and will not be, delegated on the public internet.
var privateDomains = []string{"internal", "local", "localdomain", "lan", "home", "corp", "intranet", "arpa", "onion"}

// checkPublic refuses names that no public host has.
func checkPublic(host string, labels []string) error {
	if len(labels) == 1 {
		return fmt.Errorf("%s has no domain, only hosts on the public internet can be called", host)
	}
	if slices.Contains(privateDomains, labels[len(labels)-1]) {
		return fmt.Errorf("%s is a name of a private network", host)
	}
	return nil
}

func notInLabel(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_')
}
