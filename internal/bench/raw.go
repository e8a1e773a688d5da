package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthorn/posthorn/webhook"
)

// rawGoroutines is how many requests the raw ceiling has under way.
const rawGoroutines = 64

// runRaw is the ceiling: a tuned net/http client with a time limit that signs and
// POSTs n bodies of 1 KB as fast as it can, without a database. It returns
// requests per second.
func runRaw(ctx context.Context, r *receiver, n int) (float64, error) {
	if err := r.reset(ctx); err != nil {
		return 0, err
	}
	client := &http.Client{
		Transport: &http.Transport{MaxIdleConns: 2 * rawGoroutines, MaxIdleConnsPerHost: 2 * rawGoroutines, DisableCompression: true},
		Timeout:   15 * time.Second, // as an attempt's
	}
	defer client.CloseIdleConnections()
	signer, err := webhook.NewSigner(webhook.NewSecret())
	if err != nil {
		return 0, err
	}
	body := bytes.Repeat([]byte("x"), payloadBytes)
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	errs := make(chan error, rawGoroutines)
	begin := time.Now()
	for range rawGoroutines {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := rawPost(ctx, client, signer, r.url, body); err != nil {
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
		return 0, fmt.Errorf("raw: %w", err)
	default:
		return float64(n) / elapsed.Seconds(), nil
	}
}

func rawPost(ctx context.Context, client *http.Client, signer *webhook.Signer, url string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	const id = "evt_01k4x3b8v2e0rr8c9kq7m5n4ts"
	unix := time.Now().Unix()
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(webhook.HeaderID, id)
	request.Header.Set(webhook.HeaderTimestamp, strconv.FormatInt(unix, 10))
	request.Header.Set(webhook.HeaderSignature, string(signer.AppendSignature(nil, id, unix, body)))
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	response.Body.Close()
	return err
}
