package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/posthorn/posthorn/dispatcher"
	"github.com/posthorn/posthorn/subscriptions"
)

// CreateEndpoint implements POST /v1/endpoints.
func (h handlers) CreateEndpoint(ctx context.Context, r CreateEndpointRequestObject) (CreateEndpointResponseObject, error) {
	tenant, err := newTenant(ctx, r.Body.TenantID)
	if err != nil {
		return nil, err
	}
	e, secret, err := h.config.Endpoints.Create(ctx, subscriptions.Draft{
		TenantID: tenant, URL: r.Body.URL, EventTypes: r.Body.EventTypes, Metadata: r.Body.Metadata,
		Description: orZero(r.Body.Description), PayloadFormat: orZero(r.Body.PayloadFormat),
		MaxInFlight: orZero(r.Body.MaxInFlight), RateLimitPerSecond: orZero(r.Body.RateLimitPerSecond), Ordering: orZero(r.Body.Ordering),
	})
	if err != nil {
		return nil, err
	}
	// No query for the health of what is new: if it failed, the secret would be lost.
	shown, text := showEndpoint(e, dispatcher.EndpointHealth{Breaker: "closed"}), secret.Reveal()
	shown.Secret = &text
	return CreateEndpoint201JSONResponse{Body: shown, Headers: CreateEndpoint201ResponseHeaders{ETag: etag(e)}}, nil
}

// ListEndpoints implements GET /v1/endpoints.
func (h handlers) ListEndpoints(ctx context.Context, r ListEndpointsRequestObject) (ListEndpointsResponseObject, error) {
	tenant, err := listTenant(ctx, r.Params.TenantID)
	if err != nil {
		return nil, err
	}
	l := list{"endpoints", scope(ctx)}
	var before subscriptions.EndpointID
	if err := readID(l, r.Params.Cursor, &before); err != nil {
		return nil, err
	}
	limit := limitOf(r.Params.Limit)
	found, err := h.config.Endpoints.List(ctx, subscriptions.Scope{TenantID: tenant}, before, limit+1)
	if err != nil {
		return nil, err
	}
	p := pageOf(found, limit, itself, func(e subscriptions.Endpoint) *string { return idCursor(l, e.ID) })
	shown, err := h.showWithHealth(ctx, p.data...)
	if err != nil {
		return nil, err
	}
	return ListEndpoints200JSONResponse{Data: shown, NextCursor: p.next, HasMore: p.more}, nil
}

// GetEndpoint implements GET /v1/endpoints/{id}.
func (h handlers) GetEndpoint(ctx context.Context, r GetEndpointRequestObject) (GetEndpointResponseObject, error) {
	id, err := subscriptions.ParseEndpointID(r.ID)
	if err != nil {
		return nil, errNoSuchID
	}
	e, err := h.config.Endpoints.Get(ctx, endpointScope(ctx), id)
	if err != nil {
		return nil, err
	}
	shown, err := h.showWithWaiting(ctx, e)
	if err != nil {
		return nil, err
	}
	return GetEndpoint200JSONResponse{Body: shown, Headers: GetEndpoint200ResponseHeaders{ETag: etag(e)}}, nil
}

// UpdateEndpoint implements PATCH /v1/endpoints/{id}.
func (h handlers) UpdateEndpoint(ctx context.Context, r UpdateEndpointRequestObject) (UpdateEndpointResponseObject, error) {
	id, err := subscriptions.ParseEndpointID(r.ID)
	if err != nil {
		return nil, errNoSuchID
	}
	version, err := h.wantedVersion(ctx, id, r.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	e, err := h.config.Endpoints.Update(ctx, endpointScope(ctx), id, subscriptions.Update{
		URL: r.Body.URL, EventTypes: r.Body.EventTypes, Description: r.Body.Description,
		PayloadFormat: r.Body.PayloadFormat, Metadata: r.Body.Metadata, IfVersion: version,
		MaxInFlight: r.Body.MaxInFlight, RateLimitPerSecond: r.Body.RateLimitPerSecond.change(), Ordering: r.Body.Ordering,
	})
	if err != nil {
		return nil, err
	}
	shown, err := h.showWithHealth(ctx, e)
	if err != nil {
		return nil, err
	}
	return UpdateEndpoint200JSONResponse{Body: shown[0], Headers: UpdateEndpoint200ResponseHeaders{ETag: etag(e)}}, nil
}

// PauseEndpoint implements POST /v1/endpoints/{id}/pause.
func (h handlers) PauseEndpoint(ctx context.Context, r PauseEndpointRequestObject) (PauseEndpointResponseObject, error) {
	e, shown, err := h.setStatus(ctx, r.ID, h.config.Endpoints.Pause)
	if err != nil {
		return nil, err
	}
	return PauseEndpoint200JSONResponse{Body: shown, Headers: PauseEndpoint200ResponseHeaders{ETag: etag(e)}}, nil
}

// ResumeEndpoint implements POST /v1/endpoints/{id}/resume.
func (h handlers) ResumeEndpoint(ctx context.Context, r ResumeEndpointRequestObject) (ResumeEndpointResponseObject, error) {
	e, shown, err := h.setStatus(ctx, r.ID, h.config.Endpoints.Resume)
	if err != nil {
		return nil, err
	}
	return ResumeEndpoint200JSONResponse{Body: shown, Headers: ResumeEndpoint200ResponseHeaders{ETag: etag(e)}}, nil
}

func (h handlers) setStatus(ctx context.Context, text string,
	set func(context.Context, subscriptions.Scope, subscriptions.EndpointID) (subscriptions.Endpoint, error),
) (subscriptions.Endpoint, Endpoint, error) {
	id, err := subscriptions.ParseEndpointID(text)
	if err != nil {
		return subscriptions.Endpoint{}, Endpoint{}, errNoSuchID
	}
	e, err := set(ctx, endpointScope(ctx), id)
	if err != nil {
		return e, Endpoint{}, err
	}
	shown, err := h.showWithHealth(ctx, e)
	if err != nil {
		return e, Endpoint{}, err
	}
	return e, shown[0], nil
}

// DeleteEndpoint implements DELETE /v1/endpoints/{id}.
func (h handlers) DeleteEndpoint(ctx context.Context, r DeleteEndpointRequestObject) (DeleteEndpointResponseObject, error) {
	id, err := subscriptions.ParseEndpointID(r.ID)
	if err != nil {
		return nil, errNoSuchID
	}
	if err := h.config.Endpoints.Delete(ctx, endpointScope(ctx), id); err != nil {
		return nil, err
	}
	return DeleteEndpoint204Response{}, nil
}

func endpointScope(ctx context.Context) subscriptions.Scope {
	return subscriptions.Scope{TenantID: scope(ctx)}
}

func showEndpoint(e subscriptions.Endpoint, health dispatcher.EndpointHealth) Endpoint {
	patterns := make([]string, len(e.EventTypes))
	for i, p := range e.EventTypes {
		patterns[i] = string(p)
	}
	return Endpoint{
		ID: e.ID.String(), Object: "endpoint", TenantID: e.TenantID, URL: e.URL, EventTypes: patterns,
		Description: e.Description, PayloadFormat: e.PayloadFormat, Metadata: e.Metadata,
		MaxInFlight: e.MaxInFlight, RateLimitPerSecond: nonZero(e.RateLimitPerSecond), Ordering: e.Ordering,
		Status: e.Status, DisabledReason: orNull(e.DisabledReason), Health: showHealth(health),
		CreatedAt: e.CreatedAt.UTC(), UpdatedAt: e.UpdatedAt.UTC(),
	}
}

// etag names the endpoint's version.
func etag(e subscriptions.Endpoint) string { return fmt.Sprintf("%q", strconv.Itoa(e.Version)) }

// wantedVersion reads If-Match; 0 sets no condition. Of several ETags the one
// that the endpoint has now counts, and the update still holds it to that.
func (h handlers) wantedVersion(ctx context.Context, id subscriptions.EndpointID, ifMatch *string) (int, error) {
	if ifMatch == nil || strings.TrimSpace(*ifMatch) == "*" {
		return 0, nil
	}
	var versions []int
	for tag := range strings.SplitSeq(*ifMatch, ",") {
		if v, ok := versionOf(strings.TrimSpace(tag)); ok {
			versions = append(versions, v)
		}
	}
	if len(versions) == 1 {
		return versions[0], nil
	}
	// None is ours, or several are.
	e, err := h.config.Endpoints.Get(ctx, endpointScope(ctx), id)
	switch {
	case errors.Is(err, subscriptions.ErrNotFound):
		return 0, errNoSuchID
	case err != nil:
		return 0, err
	case !slices.Contains(versions, e.Version):
		return 0, subscriptions.ErrVersionMismatch
	}
	return e.Version, nil
}

// versionOf reads a strong ETag; a weak one never matches (RFC 9110, 13.1.1).
func versionOf(tag string) (int, bool) {
	text, quoted := strings.CutPrefix(tag, `"`)
	text, closed := strings.CutSuffix(text, `"`)
	v, err := strconv.Atoi(text)
	return v, quoted && closed && err == nil && v > 0
}

// orZero is the value of a field that may be left out.
func orZero[T any](p *T) T {
	var zero T
	if p == nil {
		return zero
	}
	return *p
}

// orNull shows an empty text as null.
func orNull[T ~string](s T) *string { return nonZero(string(s)) }

// nonZero shows a zero value as null.
func nonZero[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}
