package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// operatorKey is the key that every process is given.
const operatorKey = "soak-operator-key"

// requestTimeout bounds one request to the API, apiPatience all of its repeats.
const (
	requestTimeout = 3 * time.Second
	apiPatience    = 60 * time.Second
)

// client calls the API of whichever process answers.
type client struct {
	nodes []*node
	http  http.Client
}

func newClient(nodes []*node) *client {
	return &client{nodes: nodes, http: http.Client{Timeout: requestTimeout, Transport: &http.Transport{IdleConnTimeout: time.Second}}}
}

// reply is an answer of the API that is not a failure of the server.
type reply struct {
	status int
	body   []byte
}

// call makes the request until a process answers it with less than 500. The key
// makes repeats of a POST one.
func (c *client) call(ctx context.Context, method, path, key string, body any) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, apiPatience)
	defer cancel()
	var last error
	for turn := 0; ; turn++ {
		r, err := c.once(ctx, c.nodes[turn%len(c.nodes)].url(), method, path, key, body)
		if err == nil && r.status < http.StatusInternalServerError {
			return r, nil
		}
		last = err
		if err == nil {
			last = fmt.Errorf("status %d: %.300s", r.status, r.body)
		}
		select {
		case <-ctx.Done():
			return reply{}, fmt.Errorf("%s %s: %w: %w", method, path, ctx.Err(), last)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// once makes the request once.
func (c *client) once(ctx context.Context, base, method, path, key string, body any) (reply, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return reply{}, err
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, base+path, content)
	if err != nil {
		return reply{}, err
	}
	request.Header.Set("Authorization", "Bearer "+operatorKey)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = response.Body.Close() }() // it was read to its end
	text, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, text}, err
}

// create registers an endpoint. Without support for ordering it is registered
// without.
func (c *client) create(ctx context.Context, e Endpoint, url string) (created Endpoint, secret string, err error) {
	draft := map[string]any{"url": url, "event_types": []string{e.Pattern}, "tenant_id": e.Tenant}
	if e.Ordered {
		draft["ordering"] = "key"
	}
	r, err := c.call(ctx, http.MethodPost, "/v1/endpoints", "", draft)
	if err == nil && e.Ordered && r.status == http.StatusUnprocessableEntity {
		e.Ordered = false
		delete(draft, "ordering")
		r, err = c.call(ctx, http.MethodPost, "/v1/endpoints", "", draft)
	}
	if err != nil {
		return e, "", err
	}
	if r.status != http.StatusCreated {
		return e, "", fmt.Errorf("create endpoint: status %d: %s", r.status, r.body)
	}
	var made struct{ ID, Secret string }
	if err := json.Unmarshal(r.body, &made); err != nil {
		return e, "", fmt.Errorf("create endpoint: %w", err)
	}
	e.ID = made.ID
	return e, made.Secret, nil
}

// turn pauses or resumes an endpoint, and reports whether there is such a route.
func (c *client) turn(ctx context.Context, endpoint, action string) (bool, error) {
	r, err := c.call(ctx, http.MethodPost, "/v1/endpoints/"+endpoint+"/"+action, "", nil)
	switch {
	case err != nil:
		return false, err
	case r.status == http.StatusNotFound || r.status == http.StatusMethodNotAllowed:
		return false, nil
	case r.status/100 != 2:
		return false, fmt.Errorf("%s endpoint %s: status %d: %s", action, endpoint, r.status, r.body)
	}
	return true, nil
}

// ledger asks one process for the books, once.
func (c *client) ledger(ctx context.Context, base string) (Ledger, error) {
	l := Ledger{At: time.Now()}
	r, err := c.once(ctx, base, http.MethodGet, "/v1/ledger", "", nil)
	if err != nil {
		return l, err
	}
	if r.status != http.StatusOK {
		return l, fmt.Errorf("ledger: status %d: %.300s", r.status, r.body)
	}
	var books struct {
		Events      *int64 `json:"events"`
		Expected    *int64 `json:"expected_deliveries"`
		Unaccounted *int64 `json:"unaccounted"`
	}
	if err := json.Unmarshal(r.body, &books); err != nil {
		return l, fmt.Errorf("ledger: %w", err)
	}
	if books.Events == nil || books.Expected == nil || books.Unaccounted == nil {
		return l, fmt.Errorf("ledger: a count is missing: %s", r.body)
	}
	l.Events, l.Expected, l.Unaccounted = *books.Events, *books.Expected, *books.Unaccounted
	return l, nil
}
