package netguard

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
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
	case hasControl(u.Path) || hasControl(u.RawQuery):
		return errors.New("the URL's path must not hold control characters, encoded ones neither")
	}
	if err := checkPort(u); err != nil {
		return err
	}
	return p.checkHost(u.Hostname())
}

func hasControl(s string) bool {
	if unescaped, err := url.QueryUnescape(s); err == nil {
		s += unescaped
	}
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
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
	return checkName(host)
}

// checkName refuses names that no public host has. The last label decides what
// is read as a number: 2130706433, 0x7f.1 and 127.1 are addresses to some
// resolvers.
func checkName(host string) error {
	labels := strings.Split(host, ".")
	last := labels[len(labels)-1]
	if last == "" || last[0] >= '0' && last[0] <= '9' {
		return fmt.Errorf("%s is neither a host name nor an address in its usual form", host)
	}
	if len(labels) == 1 {
		return fmt.Errorf("%s has no domain, only hosts on the public internet can be called", host)
	}
	for _, suffix := range []string{"internal", "local", "localdomain", "lan", "home", "corp", "intranet", "arpa", "onion"} {
		if last == suffix {
			return fmt.Errorf("%s is a name of a private network", host)
		}
	}
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, notInLabel) {
			return fmt.Errorf("%s is not a host name", host)
		}
	}
	return nil
}

func notInLabel(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_')
}
