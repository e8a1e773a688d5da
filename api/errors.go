package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/labstack/echo/v4"

	"github.com/posthorn/posthorn/dispatcher"
	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// codes are the kinds of error that the API knows: the one place where they
// meet HTTP statuses.
var codes = map[string]struct {
	status int
	title  string
}{
	"bad_request":            {http.StatusBadRequest, "Bad request"},
	"malformed_json":         {http.StatusBadRequest, "The body is not JSON"},
	"invalid_cursor":         {http.StatusBadRequest, "The cursor is not valid"},
	"unauthorized":           {http.StatusUnauthorized, "No valid API key"},
	"operator_only":          {http.StatusForbidden, "For operators only"},
	"tenant_mismatch":        {http.StatusForbidden, "Another tenant's"},
	"not_found":              {http.StatusNotFound, "Not found"},
	"method_not_allowed":     {http.StatusMethodNotAllowed, "Method not allowed"},
	"in_progress":            {http.StatusConflict, "Already under way"},
	"held_back":              {http.StatusConflict, "Held back"},
	"already_resolved":       {http.StatusConflict, "Already resolved"},
	"endpoint_gone":          {http.StatusConflict, "The endpoint is gone"},
	"version_mismatch":       {http.StatusPreconditionFailed, "Changed in between"},
	"too_large":              {http.StatusRequestEntityTooLarge, "Too large"},
	"unsupported_media_type": {http.StatusUnsupportedMediaType, "Unsupported media type"},
	"validation_failed":      {http.StatusUnprocessableEntity, "The request does not fit"},
	"client_closed_request":  {499, "The client went away"},
	"internal":               {http.StatusInternalServerError, "Internal error"},
	"unavailable":            {http.StatusServiceUnavailable, "Unavailable"},
	"not_ready":              {http.StatusServiceUnavailable, "Not ready"},
}

// sentinels give the other packages' errors their code and words. An object of
// another tenant and one that never was are told alike.
var sentinels = []struct {
	err    error
	code   string
	detail string
}{
	{subscriptions.ErrNotFound, "not_found", noSuchID},
	{outbox.ErrNotFound, "not_found", noSuchID},
	{dispatcher.ErrNotFound, "not_found", noSuchID},
	{subscriptions.ErrVersionMismatch, "version_mismatch", "The endpoint has been changed since the version that If-Match names."},
	{dispatcher.ErrInProgress, "in_progress", "An attempt of this delivery is under way; wait for its result."},
	{dispatcher.ErrHeldBack, "held_back", "The receiver has asked to be left alone with Retry-After; health.open_until of the endpoint says until when. A new URL, or pausing and resuming the endpoint, lifts that."},
	{dispatcher.ErrResolved, "already_resolved", "This dead letter has been replayed or discarded already."},
	{dispatcher.ErrEndpointGone, "endpoint_gone", "The endpoint of this delivery has been deleted."},
}

const noSuchID = "There is nothing with this id."

// errNoSuchID is for an id that can't be any.
var errNoSuchID = problem("not_found", noSuchID)

// problemError is an error that the client is told of.
type problemError struct {
	code   string
	detail string
	fields []FieldError
	// cause is for the log alone.
	cause error
}

// Error is for the log.
func (e *problemError) Error() string {
	if e.cause != nil {
		return e.code + ": " + e.cause.Error()
	}
	return e.code + ": " + e.detail
}

func problem(code, detail string) *problemError { return &problemError{code: code, detail: detail} }

// invalid is the error for fields that do not fit.
func invalid(fields ...FieldError) *problemError {
	detail := "One field does not fit."
	if len(fields) > 1 {
		detail = "Several fields do not fit."
	}
	return &problemError{code: "validation_failed", detail: detail, fields: fields}
}

// problemOf translates any error; what it does not know is internal, and none of
// its words reach the client.
func problemOf(err error) *problemError {
	if p, ok := errors.AsType[*problemError](err); ok {
		return p
	}
	if e, ok := errors.AsType[*subscriptions.InvalidError](err); ok {
		var fields []FieldError
		for _, p := range e.Problems {
			fields = append(fields, FieldError{Pointer: p.Pointer, Detail: p.Detail})
		}
		return invalid(fields...)
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return problem(s.code, s.detail)
		}
	}
	if e, ok := errors.AsType[*echo.HTTPError](err); ok {
		return problemOfEcho(e)
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return problem("too_large", "The request body is too large.")
	}
	if errors.Is(err, context.Canceled) {
		return &problemError{code: "client_closed_request", detail: "The client went away.", cause: err}
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok || errors.Is(err, context.DeadlineExceeded) {
		return &problemError{code: "unavailable", detail: "The database can't be reached; try again.", cause: err}
	}
	return &problemError{code: "internal", detail: "Something went wrong here. The log tells more of this request_id.", cause: err}
}

// problemOfEcho translates the errors of echo's own and of the generated code,
// whose words are not made for clients.
func problemOfEcho(e *echo.HTTPError) *problemError {
	switch {
	case e.Code == http.StatusNotFound:
		return problem("not_found", "There is no such route.")
	case e.Code == http.StatusMethodNotAllowed:
		return problem("method_not_allowed", "This route does not know this method; Allow says which it does.")
	case e.Code < http.StatusInternalServerError:
		return problem("bad_request", "The request can't be read.")
	}
	return &problemError{code: "internal", detail: "Something went wrong here. The log tells more of this request_id.", cause: e}
}

// answerError is the one place where failures are answered, and logged.
func (s *Server) answerError(err error, c echo.Context) {
	p := problemOf(err)
	kind := codes[p.code]
	r := c.Request()
	if kind.status >= http.StatusInternalServerError {
		s.config.Logger.LogAttrs(r.Context(), slog.LevelError, "api request failed",
			slog.String("method", r.Method), slog.String("path", r.URL.Path),
			slog.String("request_id", requestID(r.Context())), slog.Any("error", p.cause))
	}
	if c.Response().Committed {
		return // too late to tell the client
	}
	body, _ := json.Marshal(Problem{ // strings and integers always marshal
		Type: "urn:posthorn:problem:" + p.code, Title: kind.title, Status: kind.status,
		Detail: p.detail, Code: p.code, RequestID: requestID(r.Context()), Errors: p.fields,
	})
	h := c.Response().Header()
	if kind.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="posthorn"`)
	}
	if err := c.Blob(kind.status, "application/problem+json", append(body, '\n')); err != nil {
		s.config.Logger.LogAttrs(r.Context(), slog.LevelDebug, "answer not sent", slog.Any("error", err))
	}
}
