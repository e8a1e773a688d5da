package dispatcher

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/posthorn/posthorn/internal/exchange"
	"github.com/posthorn/posthorn/internal/netguard"
)

func TestClassify_TakesTheStatusLineAtItsWord(t *testing.T) {
	t.Parallel()
	for code := range 1000 {
		got := Classify(code, nil)
		if want := code >= 200 && code <= 299; got.Delivered != want || (got.Kind == "") != want || (got.Message == "") != want {
			t.Errorf("%d: %+v", code, got)
		}
		if !got.Delivered && (got.Kind != KindHTTPStatus || !strings.Contains(got.Message, fmt.Sprint(code))) {
			t.Errorf("%d: %+v", code, got)
		}
	}
	for code, want := range map[int]string{
		500: "the receiver answered 500 Internal Server Error",
		302: "the receiver answered 302 Found: redirects are not followed, register the URL that answers itself",
		304: "the receiver answered 304 Not Modified: that is no answer to a POST",
		401: "the receiver answered 401 Unauthorized: check the signing secret there, or the credentials it expects",
		410: "the receiver answered 410 Gone: the endpoint is disabled until it is resumed",
		413: "the receiver answered 413 Request Entity Too Large: the body is too large for it",
		599: "the receiver answered 599",
		399: "the receiver answered 399: redirects are not followed, register the URL that answers itself",
	} {
		if got := Classify(code, nil).Message; got != want {
			t.Errorf("%d: %q, want %q", code, got, want)
		}
	}
}

// wire is how an attempt goes wrong on the wire; exchange gives the error that
// net/http makes of it.
type wire struct {
	name    string
	url     string
	roots   *x509.CertPool
	guard   netguard.Policy
	timeout time.Duration
	tweak   func(*exchange.Config)
	kind    ErrorKind
	message string // a part of it
}

func (w wire) exchange(t *testing.T) error {
	t.Helper()
	config := transportConfig(netguard.NewGuard(w.guard), &net.Resolver{PreferGo: true}, &tls.Config{RootCAs: w.roots})
	if w.tweak != nil {
		w.tweak(&config)
	}
	transport := exchange.New(config)
	defer transport.Close()
	if w.timeout == 0 {
		w.timeout = patience
	}
	var p exchange.Progress
	response, err := (&sender{transport: transport}).exchange(w.url, nil, []byte(`{}`), time.Now().Add(w.timeout), &p)
	if err == nil {
		response.Body.Close()
		t.Fatalf("%s: answered %d", w.name, response.StatusCode)
	}
	return err
}

func TestClassify_NamesWhatWentWrongOnTheWire(t *testing.T) {
	t.Parallel()
	listening := func(answer func(net.Conn, int)) string { return newRawReceiver(t, answer).url() }
	closed := newRawReceiver(t, resets)
	closed.Close()
	wrongHost, wrongRoots := tlsReceiver(t, "shop.example", time.Now().Add(time.Hour), nil)
	expired, expiredRoots := tlsReceiver(t, "127.0.0.1", time.Now().Add(-time.Hour), nil)
	unknown, _ := tlsReceiver(t, "127.0.0.1", time.Now().Add(time.Hour), nil)
	old, oldRoots := tlsReceiver(t, "127.0.0.1", time.Now().Add(time.Hour), func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11; c.MinVersion = tls.VersionTLS10 })
	demanding, demandingRoots := tlsReceiver(t, "127.0.0.1", time.Now().Add(time.Hour), func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert })
	overTLS := func(url string) string { return strings.Replace(url, "http:", "https:", 1) }
	silent := "https://" + silentListener(t)
	for _, w := range []wire{
		{name: "refused", url: closed.url(), kind: KindConnect, message: "no connection to " + closed.Addr().String() + ": connection refused"},
		{name: "reset", url: listening(resets), kind: KindReset, message: "the connection was closed before an answer came"},
		{name: "closed", url: listening(says("")), kind: KindReset, message: "the connection was closed before an answer came"},
		{name: "reset in the headers", url: listening(func(c net.Conn, n int) { io.WriteString(c, "HTTP/1.1 200 OK\r\nX: "); resets(c, n) }), kind: KindReset},
		{name: "deadline", url: listening(saysAndHolds("")), timeout: 50 * time.Millisecond, kind: KindTimeout, message: "no answer within the attempt's time limit"},
		{name: "deadline in the headers", url: listening(saysAndHolds("HTTP/1.1 200 OK\r\nX: ")), timeout: 50 * time.Millisecond, kind: KindTimeout},
		{name: "malformed", url: listening(says("220 mail.example ESMTP\r\n")), kind: KindProtocol, message: "malformed HTTP"},
		{name: "malformed header", url: listening(says("HTTP/1.1 200 OK\r\nno colon\r\n\r\n")), kind: KindProtocol, message: "malformed"},
		{name: "10 MB of headers", url: listening(says("HTTP/1.1 200 OK\r\n" + tenMegabytes() + "\r\n")), kind: KindProtocol, message: "headers exceeded"},
		{name: "flood of 1xx", url: listening(keepsSaying("", "HTTP/1.1 100 Continue\r\n\r\n", 0)), kind: KindProtocol},
		{name: "blocked", url: closed.url(), guard: netguard.Policy{}, kind: KindBlockedAddress, message: "the endpoint's address is not allowed: 127.0.0.1 is not on the public internet"},
		{name: "blocked port", url: "http://127.0.0.1:22/", kind: KindBlockedAddress, message: "the endpoint's address is not allowed: port 22 is not open to webhooks"},
		{name: "self-signed", url: unknown, kind: KindTLS, message: "the receiver's TLS certificate is self-signed"},
		{name: "wrong host", url: wrongHost, roots: wrongRoots, kind: KindTLS, message: "is not for 127.0.0.1, it is for shop.example"},
		{name: "expired", url: expired, roots: expiredRoots, kind: KindTLS, message: "expired"},
		{name: "old TLS", url: old, roots: oldRoots, kind: KindTLS, message: "protocol version not supported"},
		{name: "client certificate", url: demanding, roots: demandingRoots, kind: KindTLS, message: "certificate required"},
		{name: "plain HTTP behind https", url: overTLS(plainReceiver(t)), kind: KindTLS, message: "does not speak TLS"},
		{name: "silent in the handshake", url: silent, kind: KindTLS, tweak: func(c *exchange.Config) { c.HandshakeTimeout = 50 * time.Millisecond }, message: "the TLS handshake was not over within "},
		{name: "deadline in the handshake", url: silent, timeout: 50 * time.Millisecond, kind: KindTimeout},
	} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			if w.kind != KindBlockedAddress || strings.Contains(w.url, ":22/") {
				w.guard = loopback
			}
			checkVerdict(t, Classify(0, w.exchange(t)), w.kind, w.message)
		})
	}
}

func TestClassify_NamesWhatTheNetworkSays(t *testing.T) {
	t.Parallel()
	wrapped := func(err error) error { return fmt.Errorf("post: %w", &net.OpError{Op: "dial", Net: "tcp", Err: err}) }
	for name, c := range map[string]struct {
		err     error
		kind    ErrorKind
		message string
	}{
		"NXDOMAIN": {wrapped(&net.DNSError{Err: "no such host", Name: "hook.example", Server: "127.0.0.1:53", IsNotFound: true}), KindDNS,
			"the host name hook.example does not exist or has no address"},
		"SERVFAIL": {wrapped(&net.DNSError{Err: "server misbehaving", Name: "hook.example", IsTemporary: true}), KindDNS,
			"the host name hook.example could not be looked up: its name servers fail"},
		"DNS timeout":      {wrapped(&net.DNSError{Err: "i/o timeout", Name: "hook.example", IsTimeout: true}), KindDNS, "hook.example could not be looked up: no name server answered in time"},
		"no route":         {wrapped(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), KindConnect, "no connection to the receiver: there is no route to it from here"},
		"dial timeout":     {wrapped(os.ErrDeadlineExceeded), KindConnect, "no connection to the receiver: nothing answers there"},
		"GOAWAY":           {errors.New("http2: server sent GOAWAY and closed the connection; LastStreamID=1"), KindReset, "closed before an answer came"},
		"stream reset":     {errors.New("stream error: stream ID 1; INTERNAL_ERROR; received from peer"), KindReset, "closed before an answer came"},
		"our stream error": {errors.New("stream error: stream ID 1; PROTOCOL_ERROR"), KindProtocol, "stream error"},
		"quotes controls":  {errors.New("malformed \x1b[31m\n\u202e"), KindProtocol, "malformed \ufffd[31m\ufffd\ufffd"},
		"quotes at length": {errors.New(strings.Repeat("x", 10_000)), KindProtocol, "xxx…"},
		"other authority":  {x509.UnknownAuthorityError{Cert: &x509.Certificate{RawIssuer: []byte{1}}}, KindTLS, "intermediate certificates"},
		"no names":         {x509.HostnameError{Certificate: &x509.Certificate{}, Host: "hook.example"}, KindTLS, "not for hook.example: it names no host"},
		"deadline":         {context.DeadlineExceeded, KindTimeout, "no answer within the attempt's time limit"},
		"joined":           {errors.Join(context.DeadlineExceeded, io.EOF), KindTimeout, "no answer within the attempt's time limit"},
		"TLS alert":        {&net.OpError{Op: "remote error", Err: tls.AlertError(40)}, KindTLS, "handshake failure"},
		"closed before":    {io.EOF, KindReset, "the connection was closed before an answer came"},
		"blocked and dial": {wrapped(fmt.Errorf("%w: 10.0.0.1 is not on the public internet", netguard.ErrBlocked)), KindBlockedAddress, "10.0.0.1"},
		"something new":    {errors.New("a new error"), KindProtocol, "the answer could not be read: a new error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkVerdict(t, Classify(0, c.err), c.kind, c.message)
		})
	}
}

// checkVerdict looks at the kind, and whether a person is told and Go is not.
func checkVerdict(t *testing.T, got Verdict, kind ErrorKind, message string) {
	t.Helper()
	if got.Delivered || got.Kind != kind || !strings.Contains(got.Message, message) {
		t.Errorf("%+v, want kind %s and %q", got, kind, message)
	}
	for _, internal := range []string{"dial tcp", "read tcp", "write tcp", "->", "net/http", "transport", "0x", "\n", "context deadline", "%!"} {
		if strings.Contains(got.Message, internal) {
			t.Errorf("%q is Go's word (%q), not a person's", got.Message, internal)
		}
	}
	if len(got.Message) < 20 || len(got.Message) > 300 {
		t.Errorf("a message of %d bytes: %.300q", len(got.Message), got.Message)
	}
}

// tlsReceiver serves https with a certificate for the host, and returns its URL
// and the roots that vouch for it.
func tlsReceiver(t *testing.T, host string, until time.Time, change func(*tls.Config)) (string, *x509.CertPool) {
	t.Helper()
	certificate := selfSigned(t, host, until)
	server := httptest.NewUnstartedServer(status(200))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	if change != nil {
		change(server.TLS)
	}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL, trusting(certificate)
}

// selfSigned makes a certificate for the host, a name or an address, that is
// valid for the two days before until.
func selfSigned(t *testing.T, host string, until time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(17), Subject: pkix.Name{CommonName: host},
		NotBefore: until.Add(-48 * time.Hour), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// trusting are the roots of a sender that takes the certificate for an authority.
func trusting(certificate tls.Certificate) *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AddCert(certificate.Leaf)
	return roots
}

// plainReceiver answers whatever comes with plain HTTP.
func plainReceiver(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(status(200))
	t.Cleanup(server.Close)
	return server.URL
}

// silentListener accepts connections, in the kernel, and says nothing.
func silentListener(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}
