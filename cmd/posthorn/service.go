package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/posthorn/posthorn/api"
	"github.com/posthorn/posthorn/api/keys"
	"github.com/posthorn/posthorn/dispatcher"
	"github.com/posthorn/posthorn/internal/netguard"
	"github.com/posthorn/posthorn/internal/telemetry"
	"github.com/posthorn/posthorn/migrations"
	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// serviceConfig is what a service needs.
type serviceConfig struct {
	databaseURL    string
	listener       net.Listener
	roles          roles
	operatorKey    string // empty: none
	keyset         string // empty: the one kept in the database
	keptIsFine     bool   // no warning that a keyset is kept in the database
	policy         netguard.Policy
	schedule       retrySchedule
	attemptTimeout attemptTimeout
	lease          time.Duration
	retention      retention
	faults         faultConfig
	noHandoff      bool
	telemetry      *telemetry.Telemetry
}

// faultConfig says what is done about endpoints that fail; see dispatcher.Config.
type faultConfig struct {
	breakerFailures int
	disableAfter    time.Duration
	drainRate       int
}

// service is one process of Posthorn: the API, the dispatcher or both.
type service struct {
	config     serviceConfig
	logger     *slog.Logger
	pool       *pgxpool.Pool
	endpoints  *subscriptions.Store
	server     *http.Server
	dispatcher *dispatcher.Dispatcher // nil without the role
}

// newService wires everything and checks what can be wrong: the database, its
// migrations, the keyset. Nothing runs before run, which closes what is open here.
func newService(ctx context.Context, c serviceConfig) (*service, error) {
	relaxCollector()
	pool, err := openPool(ctx, c.databaseURL, serviceConns, c.telemetry)
	if err != nil {
		return nil, err
	}
	s := &service{config: c, logger: c.telemetry.Logger(), pool: pool}
	if err := s.wire(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return s, nil
}

func (s *service) wire(ctx context.Context) error {
	if err := migrations.Check(ctx, s.pool); errors.Is(err, migrations.ErrPending) {
		return fmt.Errorf("%w, or start with posthorn serve --migrate", err)
	} else if err != nil {
		return err
	}
	keyring, err := s.keyring(ctx)
	if err != nil {
		return err
	}
	directory := subscriptions.NewDirectory(keyring)
	if _, err := directory.Refresh(ctx, s.pool); err != nil {
		return fmt.Errorf("load the endpoints with %s: %w", s.keysetName(), err)
	}
	if s.config.roles.dispatch {
		if s.dispatcher, err = s.newDispatcher(directory); err != nil {
			return err
		}
	}
	s.endpoints = subscriptions.NewStore(s.pool, keyring, s.config.policy)
	handler, err := s.newAPI(ctx)
	if err != nil {
		return err
	}
	s.server = newHTTPServer(handler)
	s.server.ErrorLog = slog.NewLogLogger(s.logger.Handler(), slog.LevelWarn)
	return nil
}

// keysetName says in errors which keyset is in use.
func (s *service) keysetName() string {
	if s.config.keyset != "" {
		return "the keyset of POSTHORN_ENCRYPTION_KEYSET"
	}
	return "the keyset kept in the database (POSTHORN_ENCRYPTION_KEYSET is not set)"
}

func (s *service) keyring(ctx context.Context) (*subscriptions.Keyring, error) {
	json := s.config.keyset
	if json == "" {
		var err error
		if json, err = subscriptions.KeptKeyset(ctx, s.pool); err != nil {
			return nil, err
		}
		if !s.config.keptIsFine {
			s.logger.Warn("POSTHORN_ENCRYPTION_KEYSET is not set: the keyset that encrypts the endpoints' secrets " +
				"lies in the same database; make one with posthorn keyset create")
		}
	}
	keyring, err := subscriptions.NewKeyring(json)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.keysetName(), err)
	}
	return keyring, nil
}

// scope names the tracer and the meter of the binary's packages.
const scope = "github.com/posthorn/posthorn"

func (s *service) newDispatcher(directory *subscriptions.Directory) (*dispatcher.Dispatcher, error) {
	c := s.config
	config := dispatcher.Config{
		Pool: s.pool, Directory: directory, Version: versionOf().Version,
		Guard: netguard.NewGuard(c.policy), Retry: dispatcher.RetryPolicy{Schedule: c.schedule},
		AttemptTimeout: time.Duration(c.attemptTimeout), Lease: c.lease, Retention: time.Duration(c.retention), NoHandoff: c.noHandoff,
		Breaker:        dispatcher.BreakerPolicy{Failures: c.faults.breakerFailures},
		Disable:        dispatcher.DisablePolicy{After: c.faults.disableAfter},
		DrainPerSecond: c.faults.drainRate,
		Logger:         s.logger, Meter: c.telemetry.MeterProvider().Meter(scope),
	}
	if c.telemetry.TracingEnabled() {
		config.Tracer = c.telemetry.TracerProvider().Tracer(scope)
	}
	return dispatcher.New(config)
}

func (s *service) newAPI(ctx context.Context) (http.Handler, error) {
	redeliverer, err := dispatcher.NewRedeliverer(s.pool)
	if err != nil {
		return nil, err
	}
	maxPayload, err := outbox.NewReader(s.pool).MaxPayloadBytes(ctx)
	if err != nil {
		return nil, err
	}
	t := s.config.telemetry
	server, err := api.New(api.Config{
		Pool: s.pool, Endpoints: s.endpoints, Keys: keys.NewStore(s.pool), Redeliverer: redeliverer,
		OperatorKey: s.config.operatorKey, MaxPayloadBytes: maxPayload, Metrics: t.MetricsHandler(), Ready: s.ready, Logger: s.logger,
		TracerProvider: t.TracerProvider(), MeterProvider: t.MeterProvider(), Propagators: t.Propagator(),
	})
	if err != nil {
		return nil, err
	}
	if !s.config.roles.api {
		return operationalOnly(server), nil
	}
	return server, nil
}

// operationalOnly leaves of the API what orchestrators and Prometheus ask any
// process for.
func operationalOnly(handler http.Handler) http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		mux.Handle("GET "+path, handler)
	}
	return mux
}

// readyTimeout keeps a hanging database from hanging the probes too.
const readyTimeout = 3 * time.Second

// ready returns nil when the database answers and has every migration.
func (s *service) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return migrations.Check(ctx, s.pool)
}

// run works until ctx is done or a part fails, and returns when everything has
// ended in good order.
func (s *service) run(ctx context.Context) error {
	defer s.pool.Close()
	s.logger.Info("posthorn is running", "version", versionOf().Version,
		"url", baseURL(s.config.listener.Addr()), "roles", s.config.roles.String())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serveHTTP(ctx, s.server, s.config.listener) })
	if s.dispatcher != nil {
		group.Go(func() error {
			err := s.dispatcher.Run(ctx)
			if ctx.Err() != nil && errors.Is(err, context.Canceled) {
				return nil // asked to end while it was starting
			}
			return err
		})
	}
	err := group.Wait()
	s.logger.Info("posthorn has ended")
	return err
}

// telemetryGrace bounds the sending of what telemetry has left at the end.
const telemetryGrace = 5 * time.Second

// startTelemetry starts and installs it; stop flushes.
func startTelemetry(ctx context.Context, s *streams, format string) (t *telemetry.Telemetry, stop func(), err error) {
	t, err = telemetry.Start(ctx, telemetry.Config{
		Version: versionOf().Version, LogOutput: s.err, LogFormat: telemetry.Format(format),
	})
	if err != nil {
		return nil, nil, err
	}
	t.Install()
	return t, func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), telemetryGrace)
		defer cancel()
		if err := t.Shutdown(bounded); err != nil {
			t.Logger().Warn("telemetry could not be flushed", "error", err)
		}
	}, nil
}
