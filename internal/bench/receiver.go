package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// receiver is the receiver's process as the benchmark sees it.
type receiver struct {
	*part
	url string
}

func startReceiver(ctx context.Context, executable string) (*receiver, error) {
	p, err := startPart(ctx, executable, RoleReceiver, "")
	if err != nil {
		return nil, err
	}
	url, err := p.say()
	return &receiver{part: p, url: url}, err
}

func (r *receiver) ask(ctx context.Context, method, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, r.url+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask the receiver: %w", err)
	}
	return response, nil
}

// reset has it count from zero.
func (r *receiver) reset(ctx context.Context) error {
	response, err := r.ask(ctx, http.MethodDelete, "/")
	if err != nil {
		return err
	}
	return response.Body.Close()
}

func (r *receiver) tally(ctx context.Context) (tally, error) {
	var t tally
	response, err := r.ask(ctx, http.MethodGet, "/")
	if err != nil {
		return t, err
	}
	defer response.Body.Close()
	return t, json.NewDecoder(response.Body).Decode(&t)
}

// latencies are those of all timed requests, in milliseconds.
func (r *receiver) latencies(ctx context.Context) ([]float64, error) {
	response, err := r.ask(ctx, http.MethodGet, pathTimed)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var all []float64
	err = json.NewDecoder(response.Body).Decode(&all)
	return all, err
}

// The receiver is asked often enough that the wait for the last request is short,
// and seldom enough to cost nothing.
const (
	askEvery  = 10 * time.Millisecond
	tellEvery = 5 * time.Second
)

// await waits until there are n of what is counted, and tells now and then how many
// there are.
func (r *receiver) await(ctx context.Context, n int64, counted func(tally) int64, tell func(count int64)) (tally, error) {
	ask, told := time.NewTicker(askEvery), time.NewTicker(tellEvery)
	defer ask.Stop()
	defer told.Stop()
	for {
		t, err := r.tally(ctx)
		if err != nil || counted(t) >= n {
			return t, err
		}
		select {
		case <-ctx.Done():
			return t, fmt.Errorf("%d of %d received: %w", counted(t), n, ctx.Err())
		case <-told.C:
			tell(counted(t))
		case <-ask.C:
		}
	}
}

// What await counts.
func countReceived(t tally) int64 { return t.Received }
func countTimed(t tally) int64    { return t.Timed }
