package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthorn/posthorn/webhook"
)

// rawGoroutines is how many requests the raw ceiling has under way.
const rawGoroutines = 64

// newTunedClient is net/http as the ceiling and the naive design use it: connections
// are kept, and an attempt has a time limit, as Posthorn's have.
func newTunedClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{MaxIdleConns: 4 * rawGoroutines, MaxIdleConnsPerHost: 4 * rawGoroutines, DisableCompression: true},
		Timeout:   15 * time.Second,
	}
}

// rawRun is what the ceiling was.
type rawRun struct {
	perSecond float64
	cpu       CPU
}

// runRaw is the ceiling: a tuned net/http client that signs and POSTs the body n
// times, as fast as it can, without a database.
func (s *suite) runRaw(ctx context.Context, n int, body []byte) (rawRun, error) {
	if err := s.receiver.reset(ctx); err != nil {
		return rawRun{}, err
	}
	client := newTunedClient()
	defer client.CloseIdleConnections()
	signer, err := webhook.NewSigner(webhook.NewSecret())
	if err != nil {
		return rawRun{}, err
	}
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	errs := make(chan error, rawGoroutines)
	m := meter{sender: os.Getpid(), receiver: s.receiver.cmd.Process.Pid}
	before := m.read()
	begin := time.Now()
	for range rawGoroutines {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := signedPost(ctx, client, signer, s.receiver.url, "evt_01k4x3b8v2e0rr8c9kq7m5n4ts", body); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(begin)
	select {
	case err := <-errs:
		return rawRun{}, fmt.Errorf("raw: %w", err)
	default:
		return rawRun{float64(n) / elapsed.Seconds(), m.read().per(int64(n), before)}, nil
	}
}

// signedPost sends one webhook as a plain client would.
func signedPost(ctx context.Context, client *http.Client, signer *webhook.Signer, url, id string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	unix := time.Now().Unix()
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(webhook.HeaderID, id)
	request.Header.Set(webhook.HeaderTimestamp, strconv.FormatInt(unix, 10))
	request.Header.Set(webhook.HeaderSignature, string(signer.AppendSignature(nil, id, unix, body)))
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err = io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s answers %s", url, response.Status)
	}
	return nil
}
