package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/internal/telemetry"
)

// The connections of a process, unless the URL has pool_max_conns. The dispatcher
// uses up to twelve at once.
const (
	serviceConns = 20
	toolConns    = 2
)

var errDatabaseURL = errors.New("DATABASE_URL: it can't be parsed; it must be like postgres://user:password@host:5432/posthorn")

// openPool connects to the database and makes sure that it answers. Queries appear
// in traces if t is not nil and traces anything.
func openPool(ctx context.Context, url string, maxConns int32, t *telemetry.Telemetry) (*pgxpool.Pool, error) {
	plain, err := pgconn.ParseConfig(url)
	if err != nil {
		return nil, errDatabaseURL // the error itself may quote the password
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errDatabaseURL
	}
	if _, set := plain.RuntimeParams["pool_max_conns"]; !set {
		config.MaxConns = maxConns
	}
	params := config.ConnConfig.RuntimeParams
	if params["application_name"] == "" {
		params["application_name"] = "posthorn"
	}
	// A transaction that is left open holds back the whole database's clean-up.
	params["idle_in_transaction_session_timeout"] = "5s"
	if t != nil && t.TracingEnabled() {
		config.ConnConfig.Tracer = otelpgx.NewTracer(otelpgx.WithTracerProvider(t.TracerProvider()),
			otelpgx.WithMeterProvider(t.MeterProvider()))
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connect to the database of DATABASE_URL: %w", err)
	}
	return pool, nil
}
