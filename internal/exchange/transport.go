package exchange

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// byTransport leaves the exchange to net/http; established is a connection that is
// there already, or nil.
func (c *Client) byTransport(r *Request, deadline time.Time, p *Progress, established *tls.Conn) (*http.Response, error) {
	header := make(http.Header, len(r.Header))
	for _, f := range r.Header {
		header.Add(f.Name, f.Value)
	}
	ctx, cancel := context.WithDeadline(p.watch(context.Background()), deadline)
	spare := &spareConn{conn: established}
	// Without GetBody the body can't be rewound: the transport never sends a request a
	// second time on its own.
	request := (&http.Request{
		Method: http.MethodPost, URL: r.URL, Host: r.URL.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(bytes.NewReader(r.Body)), ContentLength: int64(len(r.Body)),
	}).WithContext(context.WithValue(ctx, spareKey{}, spare))
	response, err := c.config.Transport.RoundTrip(request)
	spare.close()
	switch {
	case err != nil && ctx.Err() != nil:
		err = errors.Join(ctx.Err(), err) // the transport has words of its own for the deadline
		fallthrough
	case err != nil:
		cancel()
		return nil, err
	case response.StatusCode == http.StatusSwitchingProtocols:
		response.Body.Close() // it is the connection itself, whose reading no deadline ends
		response.Body = http.NoBody
	}
	if response.Body == http.NoBody {
		cancel()
	} else {
		response.Body = &endingBody{response.Body, cancel}
	}
	return response, nil
}

// endingBody ends its exchange's context when it is closed.
type endingBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Close implements io.Closer.
func (b *endingBody) Close() error {
	b.cancel()
	return b.ReadCloser.Close()
}

// inTime names the deadline as contexts do, whoever has watched it.
func inTime(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
		return errors.Join(context.DeadlineExceeded, err)
	}
	return err
}
