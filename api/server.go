package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"net/http"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/posthorn/posthorn/api/keys"
	"github.com/posthorn/posthorn/dispatcher"
	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// Config is what a Server needs. Pool, Endpoints, Keys and Redeliverer must be set.
type Config struct {
	// Pool is the database, where events are published, and whence events and the
	// log are read.
	Pool *pgxpool.Pool

	// Endpoints keeps the endpoints.
	Endpoints *subscriptions.Store

	// Keys keeps the API keys.
	Keys *keys.Store

	// Redeliverer sends deliveries again.
	Redeliverer Redeliverer

	// Ledger reads the books. Nil means dispatcher.ReadLedger on Pool.
	Ledger func(context.Context) (dispatcher.Ledger, error)

	// OperatorKey is an operator's key accepted as given, to begin with. Empty
	// means none.
	OperatorKey string

	// MaxPayloadBytes is the outbox's limit on payloads, in bytes; request bodies
	// may be 1 MiB larger. Zero means 262,144.
	MaxPayloadBytes int64

	// Metrics answers GET /metrics. Nil means 404.
	Metrics http.Handler

	// Ready returns nil when the service can do its work; otherwise an error for
	// the log. Nil means a ping of Pool.
	Ready func(context.Context) error

	// Logger takes one line for each request, and the failures. Nil discards them.
	Logger *slog.Logger

	// TracerProvider, MeterProvider and Propagators are OpenTelemetry's; nil
	// means the global ones.
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider
	Propagators    propagation.TextMapPropagator
}

// Redeliverer sends deliveries again; *dispatcher.Redeliverer is one. An empty
// tenantID stands for all tenants. The errors are dispatcher's ErrNotFound,
// ErrInProgress, ErrResolved and ErrEndpointGone.
type Redeliverer interface {
	// Retry sends a delivery now, on a new schedule.
	Retry(ctx context.Context, tenantID string, id dispatcher.DeliveryID) error
	// Replay resolves a dead letter and sends its delivery again, which it names.
	Replay(ctx context.Context, tenantID string, id dispatcher.DeadLetterID) (dispatcher.DeliveryID, error)
}

// Server answers the API's requests. It is safe for concurrent use. Timeouts and
// TLS are the http.Server's that it is given to.
type Server struct {
	config Config
	spec   *spec
	events *outbox.Reader
	log    *dispatcher.Log
	// operatorHash is of the configured operator key; nil without one.
	operatorHash []byte

	echo    *echo.Echo
	handler http.Handler
}

// New makes a Server.
func New(c Config) (*Server, error) {
	if c.Pool == nil || c.Endpoints == nil || c.Keys == nil || c.Redeliverer == nil {
		return nil, errors.New("api: Config needs a Pool, Endpoints, Keys and a Redeliverer")
	}
	spec, err := loadSpec()
	if err != nil {
		return nil, err
	}
	s := &Server{config: c.withDefaults(), spec: spec, events: outbox.NewReader(c.Pool), log: dispatcher.NewLog(c.Pool)}
	if c.OperatorKey != "" {
		sum := sha256.Sum256([]byte(c.OperatorKey))
		s.operatorHash = sum[:]
	}
	s.echo = s.newEcho()
	s.handler = otelhttp.NewHandler(s.echo, "api",
		otelhttp.WithTracerProvider(s.config.TracerProvider),
		otelhttp.WithMeterProvider(s.config.MeterProvider),
		otelhttp.WithPropagators(s.config.Propagators),
		otelhttp.WithFilter(worthTracing))
	return s, nil
}

func (c Config) withDefaults() Config {
	if c.Ledger == nil {
		c.Ledger = func(ctx context.Context) (dispatcher.Ledger, error) { return dispatcher.ReadLedger(ctx, c.Pool) }
	}
	if c.MaxPayloadBytes == 0 {
		c.MaxPayloadBytes = 256 << 10
	}
	if c.Ready == nil {
		c.Ready = c.Pool.Ping
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.TracerProvider == nil {
		c.TracerProvider = otel.GetTracerProvider()
	}
	if c.MeterProvider == nil {
		c.MeterProvider = otel.GetMeterProvider()
	}
	if c.Propagators == nil {
		c.Propagators = otel.GetTextMapPropagator()
	}
	return c
}

// newEcho mounts the routes.
func (s *Server) newEcho() *echo.Echo {
	e := echo.New()
	e.IPExtractor = echo.ExtractIPDirect() // headers that name another address are anybody's to write
	e.Logger.SetOutput(io.Discard)
	e.HTTPErrorHandler = s.answerError
	e.Binder = checkedBinder{}
	e.Use(s.identify, s.observe, s.authenticate, s.validate)
	RegisterHandlers(e, NewStrictHandler(handlers{s}, nil))
	e.GET("/metrics", s.metrics)
	e.GET("/openapi.json", s.openAPI)
	return e
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// handlers implements the generated StrictServerInterface, apart from Server so
// that the operations are no exported methods of it.
type handlers struct{ *Server }
