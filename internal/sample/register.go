package sample

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/posthorn/posthorn/webhook"
)

const (
	// registerTimeout bounds the wait for a Posthorn that starts at the same time.
	registerTimeout = time.Minute
	// registerInterval is the time from one try to the next.
	registerInterval = 500 * time.Millisecond
	// requestTimeout bounds one request to Posthorn's API.
	requestTimeout = 10 * time.Second
	// maxReply bounds what is read of an answer.
	maxReply = 64 << 10
)

// client calls Posthorn's API. It goes through no proxy: Docker hands one to
// containers by environment, and a service's name means nothing to it.
var client = &http.Client{Timeout: requestTimeout, Transport: &http.Transport{
	MaxIdleConns:    2,
	IdleConnTimeout: 30 * time.Second,
}}

// errNotReady marks answers that a starting Posthorn gives.
var errNotReady = errors.New("posthorn is not ready")

// Registration is an endpoint that Register has made.
type Registration struct {
	subscriber *Subscriber
	id         string
}

// EndpointID is the endpoint's id, "ep_…".
func (r *Registration) EndpointID() string { return r.id }

// Register makes a new endpoint for publicURL, which is without a path, through
// Posthorn's API and sets its secret. While Posthorn cannot be reached or is not
// ready it tries again, for at most a minute. The endpoint stays until
// Deregister.
func (s *Subscriber) Register(ctx context.Context, publicURL string) (*Registration, error) {
	if u, err := url.Parse(s.cfg.PosthornURL); err != nil || u.Host == "" {
		return nil, fmt.Errorf("register the sample subscriber: %q is not the URL of Posthorn", s.cfg.PosthornURL)
	}
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	request, err := json.Marshal(map[string]any{
		"url":         strings.TrimSuffix(publicURL, "/") + ReceivePath,
		"event_types": s.cfg.EventTypes,
		"description": "the sample subscriber",
	})
	if err != nil {
		return nil, fmt.Errorf("register the sample subscriber: %w", err)
	}
	// The same key at each try: one whose answer was lost has made the endpoint
	// already, and its secret comes again.
	key := rand.Text()
	ticker := time.NewTicker(registerInterval)
	defer ticker.Stop()
	for {
		registration, err := s.tryRegister(ctx, request, key)
		if err == nil {
			return registration, nil
		}
		if !errors.Is(err, errNotReady) {
			return nil, fmt.Errorf("register the sample subscriber: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("register the sample subscriber: %w: %w", ctx.Err(), err)
		case <-ticker.C:
		}
	}
}

func (s *Subscriber) tryRegister(ctx context.Context, request []byte, key string) (*Registration, error) {
	reply, err := s.call(ctx, http.MethodPost, "/v1/endpoints", request, key)
	if err != nil {
		return nil, err
	}
	var endpoint struct{ ID, Secret string }
	if err := json.Unmarshal(reply, &endpoint); err != nil {
		return nil, fmt.Errorf("read the endpoint: %w", err)
	}
	secret, err := webhook.ParseSecret(endpoint.Secret)
	if err != nil {
		return nil, fmt.Errorf("read the endpoint: %w", err)
	}
	if err := s.SetSecret(secret); err != nil {
		return nil, err
	}
	return &Registration{subscriber: s, id: endpoint.ID}, nil
}

// Deregister deletes the endpoint.
func (r *Registration) Deregister(ctx context.Context) error {
	_, err := r.subscriber.call(ctx, http.MethodDelete, "/v1/endpoints/"+url.PathEscape(r.id), nil, "")
	if err != nil {
		return fmt.Errorf("deregister the sample subscriber: %w", err)
	}
	return nil
}

// call makes one request to Posthorn's API and returns the body of the answer
// if that says that it succeeded.
func (s *Subscriber) call(ctx context.Context, method, path string, body []byte, key string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(s.cfg.PosthornURL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+s.cfg.OperatorKey)
	request.Header.Set("Content-Type", "application/json")
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotReady, err)
	}
	defer func() { _ = response.Body.Close() }()
	reply, err := io.ReadAll(io.LimitReader(response.Body, maxReply))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errNotReady, err)
	case response.StatusCode/100 == 2:
		return reply, nil
	case response.StatusCode >= 500 || response.StatusCode == http.StatusTooManyRequests:
		return nil, fmt.Errorf("%w: %s", errNotReady, response.Status)
	}
	return nil, fmt.Errorf("%s %s: %s: %.500s", method, path, response.Status, reply)
}

// RunSubscriber listens at cfg.Addr, registers a new endpoint with Posthorn and
// receives until ctx ends; then it deletes the endpoint. It is posthorn
// sample-subscriber.
func RunSubscriber(ctx context.Context, cfg SubscriberConfig) error {
	s := NewSubscriber(cfg)
	return serve(ctx, cfg.Addr, s, func(ctx context.Context, at string) error {
		publicURL := cfg.PublicURL
		if publicURL == "" {
			_, port, err := net.SplitHostPort(at)
			if err != nil {
				return err
			}
			publicURL = "http://localhost:" + port
		}
		registration, err := s.Register(ctx, publicURL)
		if err != nil {
			if ctx.Err() != nil {
				return nil // asked to end before Posthorn was there
			}
			return err
		}
		s.log.InfoContext(ctx, "the sample subscriber listens", "url", publicURL, "endpoint", registration.EndpointID())
		<-ctx.Done()
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		return registration.Deregister(bounded)
	})
}
