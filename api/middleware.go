package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/posthorn/posthorn/internal/typeid"
)

type contextKey int

const (
	requestIDKey contextKey = iota
	identityKey
)

type requestKind struct{}

// Prefix makes the kind of id that a request's is.
func (requestKind) Prefix() string { return "req" }

const requestIDHeader = "X-Request-Id"

// maxRequestIDLength bounds a request id of the client's.
const maxRequestIDLength = 64

// identify gives the request its id and its route's name, and the answer the
// headers that every answer has.
func (s *Server) identify(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		if op := s.spec.operation(c); op != nil {
			r.Pattern = op.pattern // otelhttp names the span and the metrics by it
			trace.SpanFromContext(r.Context()).SetAttributes(attribute.String("http.route", c.Path()))
		}
		id := r.Header.Get(requestIDHeader)
		if !harmlessID(id) {
			id = typeid.New[requestKind]().String()
		}
		h := c.Response().Header()
		h.Set(requestIDHeader, id)
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		c.SetRequest(r.WithContext(context.WithValue(r.Context(), requestIDKey, id)))
		return next(c)
	}
}

// harmlessID says whether a client's request id may stand in a log.
func harmlessID(id string) bool {
	return id != "" && len(id) <= maxRequestIDLength && !strings.ContainsFunc(id, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r))
	})
}

func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey).(string)
	return id
}

// observe answers the errors of what follows, panics too, and writes one line
// for the request.
func (s *Server) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		began := time.Now()
		if err := recovered(next, c); err != nil {
			c.Error(err)
		}
		// The request may have become another one on its way: with who sent it.
		r := c.Request()
		who, _ := identity(r.Context())
		level := slog.LevelInfo
		if !worthTracing(r) {
			level = slog.LevelDebug
		}
		s.config.Logger.LogAttrs(r.Context(), level, "api request",
			slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Int("status", c.Response().Status),
			slog.Duration("duration", time.Since(began)), slog.String("request_id", requestID(r.Context())),
			slog.String("remote", c.RealIP()), slog.String("role", string(who.Role)), slog.String("tenant_id", who.TenantID))
		return nil
	}
}

// panicError is a panic on its way to the log.
type panicError struct {
	value any
	stack []byte
}

func (e panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.value, e.stack) }

func recovered(next echo.HandlerFunc, c echo.Context) (err error) {
	defer func() {
		switch v := recover(); {
		case v == nil:
		case isAbort(v):
			panic(v) // net/http's way to break off an answer
		default:
			err = panicError{v, debug.Stack()}
		}
	}()
	return next(c)
}

func isAbort(v any) bool {
	err, ok := v.(error)
	return ok && errors.Is(err, http.ErrAbortHandler)
}

// worthTracing leaves out what machines ask every few seconds.
func worthTracing(r *http.Request) bool {
	switch r.URL.Path {
	case "/healthz", "/readyz", "/metrics":
		return false
	}
	return true
}
