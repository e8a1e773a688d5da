package netguard

import (
	"cmp"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

// The reasons that refusals give, as far as the tests tell them apart.
const (
	notPublic  = "is not an address on the public internet"
	notUsual   = "is neither a host name nor an address in its usual form"
	itself     = "is this machine itself"
	privateNet = "is a name of a private network"
	noDomain   = "has no domain"
	userinfo   = "must not hold a user name or password"
	encoding   = "must be percent-encoded or written in punycode"
	control    = "must not hold control characters"
	badScheme  = "must begin with https://"
	badPort    = "is not open to webhooks"
	noZone     = "must not hold a zone"
	unparsable = "can't be parsed"
	noName     = "is not a host name"
	noHost     = "has no host"
	fragment   = "must not have a fragment"
)

// refusedURLs and the reason for each.
var refusedURLs = map[string]string{
	"https://127.0.0.1/":                    notPublic,
	"https://2130706433/":                   notUsual,
	"https://0x7f000001/":                   notUsual,
	"https://0x7f.0.0.0x1/":                 notUsual,
	"https://0177.0.0.1/":                   notUsual,
	"https://127.1/":                        notUsual,
	"https://0/":                            notUsual,
	"https://0.0.0.0/":                      notPublic,
	"https://127.0.0.1./":                   notPublic,
	"https://127.0.0.1../":                  notUsual,
	"https://localhost/":                    itself,
	"https://LOCALHOST/":                    itself,
	"https://localhost./":                   itself,
	"https://a.localhost/":                  itself,
	"https://[::1]/":                        notPublic,
	"https://[::]/":                         notPublic,
	"https://[::ffff:127.0.0.1]/":           notPublic,
	"https://[::ffff:a9fe:a9fe]/":           notPublic,
	"https://[::ffff:8.8.8.8]/":             notPublic,
	"https://[64:ff9b::7f00:1]/":            notPublic,
	"https://[2002:7f00:1::1]/":             notPublic,
	"https://[::7f00:1]/":                   notPublic,
	"https://[2001::1]/":                    notPublic,
	"https://[fec0::1]/":                    notPublic,
	"https://[fd00:ec2::254]/":              notPublic,
	"https://[fe80::1]/":                    notPublic,
	"https://[fe80::1%25eth0]/":             noZone,
	"https://[2606:4700::1111%25eth0]/":     noZone,
	"https://100.64.0.1/":                   notPublic,
	"https://169.254.169.254/":              notPublic,
	"https://metadata.google.internal/":     privateNet,
	"https://metadata.google.internal./":    privateNet,
	"https://printer.local/":                privateNet,
	"https://1.0.0.127.in-addr.arpa/":       privateNet,
	"https://postgres/":                     noDomain,
	"https://10.0.0.1/":                     notPublic,
	"https://192.168.0.1/":                  notPublic,
	"https://172.16.0.1/":                   notPublic,
	"https://0.1.2.3/":                      notPublic,
	"https://168.63.129.16/":                notPublic,
	"https://198.18.0.1/":                   notPublic,
	"https://240.0.0.1/":                    notPublic,
	"https://255.255.255.255/":              notPublic,
	"https://224.0.0.1/":                    notPublic,
	"http://ok@127.0.0.1/":                  badScheme,
	"https://ok@127.0.0.1/":                 userinfo,
	"https://ok:pass@example.com/":          userinfo,
	"https://@example.com/":                 userinfo,
	`https://127.0.0.1\@ok/`:                encoding,
	"https://1②7.0.0.1/":                    encoding,
	"https://127。0。0。1/":                    encoding,
	"https://bücher.example/":               encoding,
	"https://example.com/ü":                 encoding,
	"https://example.com/a b":               encoding,
	"https://example.com/\r\nHost: x":       encoding,
	"https://example.com/\x00":              encoding,
	" https://example.com/":                 encoding,
	"https://example.com/\u2028":            encoding,
	"https://exa%6dple.com/":                unparsable,
	"https://example.com/%0d%0aHost:%20x":   control,
	"https://example.com/?a=%0D%0A":         control,
	"https://example.com/?a=%zz&b=%0d%0a":   control,
	"https://example.com/%00":               control,
	"https://example.com/a%7fb":             control,
	"https://example.com/%zz":               unparsable,
	"http://example.com/":                   badScheme,
	"ftp://example.com/":                    badScheme,
	"file:///etc/passwd":                    badScheme,
	"gopher://example.com/":                 badScheme,
	"javascript:alert(1)":                   badScheme,
	"unix:///var/run/docker.sock":           badScheme,
	"https:example.com":                     badScheme,
	"//example.com/":                        badScheme,
	"example.com/hook":                      badScheme,
	"":                                      badScheme,
	"https:///hook":                         noHost,
	"https:/example.com":                    noHost,
	"https://./":                            noHost,
	"https://example.com:0/":                badPort,
	"https://example.com:22/":               badPort,
	"https://example.com:25/":               badPort,
	"https://example.com:5432/":             badPort,
	"https://example.com:00022/":            badPort,
	"https://example.com:65536/":            badPort,
	"https://example.com:-1/":               unparsable,
	"https://example.com:0x50/":             unparsable,
	"https://example.com:/":                 "ends its host with a colon",
	"https://[127.0.0.1]/":                  unparsable,
	"https://[example.com]/":                unparsable,
	"https://example..com/":                 noName,
	"https://.example.com/":                 noName,
	"https://exa!mple.com/":                 noName,
	"https://example.com../":                notUsual,
	"https://example.com/#a":                fragment,
	"https://example.com/#":                 fragment,
	"https://" + label64 + ".com/":          noName,
	"https://" + longName + "/":             "the limit is 253",
	"https://example.com/" + longPath + "x": "the limit is 2048",
}

var (
	label64  = strings.Repeat("a", 64)
	longName = strings.Repeat("aaaaaaa.", 31) + "abcdef" // 254 characters
	longPath = strings.Repeat("a", maxURLLength-len("https://example.com/"))
)

// acceptedURLs look unusual and are fine.
var acceptedURLs = []string{
	"https://example.com",
	"https://example.com/hooks/posthorn?tenant=1&a=%20b",
	"HTTPS://Example.COM./hook",
	"https://example.com:443/",
	"https://example.com:8443/",
	"https://xn--bcher-kva.example/",
	"https://1and1.com/",
	"https://127.0.0.1.nip.io/", // a name: Control refuses where it leads
	"https://my_shop.example.com/",
	"https://internal.example.com/",
	"https://localhost.example.com/",
	"https://8.8.8.8/",
	"https://[2606:4700::1111]/",
	"https://[2606:4700::1111]:8443/",
	"https://example.com/%25%30d", // an encoded percent sign, not an encoded CR
	"https://example.com/?a=%zz",
	"https://" + longName[1:] + "/",
	"https://example.com/" + longPath,
}

func TestCheckURL_RefusesWhatTheTextGivesAway(t *testing.T) {
	t.Parallel()
	for raw, reason := range refusedURLs {
		if err := (Policy{}).CheckURL(raw); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%.80q: %v; want: %s", raw, err, reason)
		}
	}
}

func TestCheckURL_AcceptsPublicEndpoints(t *testing.T) {
	t.Parallel()
	for _, raw := range acceptedURLs {
		if err := (Policy{}).CheckURL(raw); err != nil {
			t.Errorf("%.80q: %v", raw, err)
		}
	}
}

var developer = Policy{AllowHTTP: true, AllowNetworks: []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}

func TestCheckURL_FollowsThePolicy(t *testing.T) {
	t.Parallel()
	for raw, reason := range map[string]string{
		"http://example.com/":            "",
		"http://127.0.0.1:8080/":         "",
		"http://localhost:8080/":         "",
		"https://a.localhost/":           "",
		"http://[fd00::1]:8080/":         "",
		"http://subscriber:8080/":        "", // a container's name
		"https://hooks.shop.internal/":   "",
		"http://10.0.0.1/":               notPublic,
		"http://[::1]/":                  notPublic,
		"http://169.254.169.254/":        notPublic,
		"http://2130706433/":             notUsual,
		"http://127.1/":                  notUsual,
		"http://127.0.0.1:5432/":         badPort,
		"http://127.0.0.1:22/":           badPort,
		"http://user@127.0.0.1/":         userinfo,
		"ftp://127.0.0.1/":               badScheme,
		"http://[::ffff:127.0.0.1]:80/":  notPublic, // one way to write an address is enough
		"http://subscriber:8080/%0d%0aa": control,
	} {
		err := developer.CheckURL(raw)
		if reason == "" && err != nil || reason != "" && (err == nil || !strings.Contains(err.Error(), reason)) {
			t.Errorf("%q: %v; want: %q", raw, err, reason)
		}
	}
	if err := (Policy{AllowHTTP: true}).CheckURL("http://localhost/"); err == nil {
		t.Error("AllowHTTP alone lets loopback through")
	}
}

func FuzzCheckURL(f *testing.F) {
	for raw := range refusedURLs {
		f.Add(raw)
	}
	for _, raw := range acceptedURLs {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		for _, p := range []Policy{{}, developer} {
			if p.CheckURL(raw) == nil {
				holdToPromise(t, p, raw)
			}
		}
	})
}

// holdToPromise fails the test unless an accepted URL is all that CheckURL says.
func holdToPromise(t *testing.T, p Policy, raw string) {
	if len(raw) > maxURLLength || strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r > '~' }) {
		t.Errorf("%q is accepted as a URL", raw)
	}
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !p.AllowHTTP) {
		t.Errorf("%q has the scheme %s", raw, u.Scheme)
	}
	if u.User != nil || u.Opaque != "" || u.Fragment != "" || u.Hostname() == "" {
		t.Errorf("%q is accepted: %#v", raw, u)
	}
	if strings.ContainsFunc(u.Path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		t.Errorf("%q has a control character in its path", raw)
	}
	if _, err := http.NewRequest(http.MethodPost, raw, nil); err != nil {
		t.Errorf("%q can't be requested: %v", raw, err)
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil {
		at := net.JoinHostPort(u.Hostname(), cmp.Or(strings.TrimLeft(u.Port(), "0"), "443"))
		if err := NewGuard(p).Control(networkOf(addr.String()), at, nil); err != nil {
			t.Errorf("%q is accepted, and its address refused: %v", raw, err)
		}
	}
}
