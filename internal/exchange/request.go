package exchange

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"golang.org/x/net/http/httpguts"
)

// Field is a header field, as it is written.
type Field struct{ Name, Value string }

// Request is a POST. Body is not changed, and may be shared.
type Request struct {
	URL    *url.URL
	Header []Field
	Body   []byte
}

// check refuses what would break out of its line, or say where the request ends.
func (r *Request) check() error {
	for _, f := range r.Header {
		if !httpguts.ValidHeaderFieldName(f.Name) {
			return fmt.Errorf("invalid header field name %q", f.Name)
		}
		switch http.CanonicalHeaderKey(f.Name) {
		case "Host", "Content-Length", "Transfer-Encoding", "Connection":
			return fmt.Errorf("the header field %q is the exchange's own", f.Name)
		}
		if !httpguts.ValidHeaderFieldValue(f.Value) {
			return fmt.Errorf("invalid value of the header field %q", f.Name) // it may be a secret
		}
	}
	return nil
}

// plain reports whether the URL's host can be written as it is. Others, with a user or
// in other scripts, are net/http's business.
func (r *Request) plain() bool {
	if r.URL.User != nil || r.URL.Host == "" {
		return false
	}
	for i := range len(r.URL.Host) {
		if c := r.URL.Host[i]; c <= ' ' || c >= 0x7f || c == '%' {
			return false
		}
	}
	return true
}

// address is the host and port to connect to.
func address(to *url.URL) string {
	port := to.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[to.Scheme]
	}
	return net.JoinHostPort(to.Hostname(), port)
}

// append adds the request as it goes over the wire.
func (r *Request) append(b []byte) []byte {
	b = append(b, "POST "...)
	b = append(b, r.URL.RequestURI()...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, r.URL.Host...)
	for _, f := range r.Header {
		b = append(b, "\r\n"...)
		b = append(b, f.Name...)
		b = append(b, ": "...)
		b = append(b, f.Value...)
	}
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(r.Body)), 10)
	b = append(b, "\r\n\r\n"...)
	return append(b, r.Body...)
}
