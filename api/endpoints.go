package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

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
	})
	if err != nil {
		return nil, err
	}
	shown, text := showEndpoint(e), secret.Reveal()
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
	p := pageOf(found, limit, showEndpoint, func(e subscriptions.Endpoint) *string { return idCursor(l, e.ID) })
	return ListEndpoints200JSONResponse{Data: p.data, NextCursor: p.next, HasMore: p.more}, nil
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
	return GetEndpoint200JSONResponse{Body: showEndpoint(e), Headers: GetEndpoint200ResponseHeaders{ETag: etag(e)}}, nil
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
	})
	if err != nil {
		return nil, err
	}
	return UpdateEndpoint200JSONResponse{Body: showEndpoint(e), Headers: UpdateEndpoint200ResponseHeaders{ETag: etag(e)}}, nil
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

func showEndpoint(e subscriptions.Endpoint) Endpoint {
	patterns := make([]string, len(e.EventTypes))
	for i, p := range e.EventTypes {
		patterns[i] = string(p)
	}
	return Endpoint{
		ID: e.ID.String(), Object: "endpoint", TenantID: e.TenantID, URL: e.URL, EventTypes: patterns,
		Description: e.Description, PayloadFormat: e.PayloadFormat, Metadata: e.Metadata,
		Status: e.Status, DisabledReason: orNull(e.DisabledReason),
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
func orNull[T ~string](s T) *string {
	if s == "" {
		return nil
	}
	text := string(s)
	return &text
}
