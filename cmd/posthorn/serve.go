package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/posthorn/posthorn/internal/netguard"
	"github.com/posthorn/posthorn/migrations"
)

// serveCommand is posthorn serve.
type serveCommand struct {
	serviceFlags

	AllowHTTP bool   `name:"allow-http" env:"POSTHORN_ALLOW_HTTP" help:"Let endpoints have plain http URLs. Default: false."`
	Roles     roles  `default:"api,dispatch" help:"What this process does: api, dispatch or both. Any answers /healthz, /readyz and /metrics."`
	Migrate   bool   `help:"Migrate the database first. Default: false; pending migrations stop the start."`
	Lease     lease  `placeholder:"DURATION" help:"How long work stays with a process that gives no sign of life, in s or m; longer than an attempt. Default: 30s, and at least 15s longer than an attempt."`
	Handoff   bool   `default:"true" negatable:"" help:"Give routed events to this process's senders at once; with --no-handoff River fetches them: slower, simpler. Default: true."`
	LogFormat string `enum:"text,json" default:"text" help:"Form of the log on standard error: text or json."`
}

// Run implements the command.
func (c *serveCommand) Run(ctx context.Context, s *streams) error {
	url, err := c.require()
	if err != nil {
		return err
	}
	key, err := c.operatorKey()
	if err != nil {
		return err
	}
	lease, err := c.Lease.orFor(c.AttemptTimeout)
	if err != nil {
		return err
	}
	t, stop, err := startTelemetry(ctx, s, c.LogFormat)
	if err != nil {
		return err
	}
	defer stop()
	if c.Migrate {
		// For its messages: that of an URL that can't be parsed must not quote it.
		pool, err := openPool(ctx, url, toolConns, nil)
		if err != nil {
			return err
		}
		pool.Close()
		if err := migrations.Up(ctx, url); err != nil {
			return err
		}
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.addr())
	if err != nil {
		return fmt.Errorf("POSTHORN_ADDR: %w", err)
	}
	defer listener.Close() // after run it is closed already
	service, err := newService(ctx, serviceConfig{
		databaseURL: url, listener: listener, roles: c.Roles, operatorKey: key, keyset: string(c.EncryptionKeyset),
		policy:   netguard.Policy{AllowHTTP: c.AllowHTTP, AllowNetworks: c.AllowPrivateNetworks},
		schedule: c.RetrySchedule, attemptTimeout: c.AttemptTimeout, lease: lease, retention: c.Retention, faults: c.faults(), noHandoff: !c.Handoff, telemetry: t,
	})
	if err != nil {
		return err
	}
	return service.run(ctx)
}

// serveAddr is where serve listens by default: at every address.
const serveAddr = ":8080"

func (c *serveCommand) addr() string {
	if c.Addr == "" {
		return serveAddr
	}
	return c.Addr
}

// roles say what a process does.
type roles struct {
	api, dispatch bool
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *roles) UnmarshalText(text []byte) error {
	names := strings.Split(string(text), ",")
	for _, name := range names {
		if name != "api" && name != "dispatch" {
			return fmt.Errorf("%q is no role: there are api and dispatch", name)
		}
	}
	*r = roles{api: slices.Contains(names, "api"), dispatch: slices.Contains(names, "dispatch")}
	return nil
}

// String implements fmt.Stringer.
func (r roles) String() string {
	var names []string
	if r.api {
		names = append(names, "api")
	}
	if r.dispatch {
		names = append(names, "dispatch")
	}
	return strings.Join(names, ",")
}
