package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/posthorn/posthorn/internal/devdb"
	"github.com/posthorn/posthorn/internal/netguard"
	"github.com/posthorn/posthorn/internal/telemetry"
	"github.com/posthorn/posthorn/migrations"
	"github.com/posthorn/posthorn/subscriptions"
)

// devCommand is posthorn dev.
type devCommand struct {
	serviceFlags

	Data     string `placeholder:"DIR" help:"Keep the private database in this directory. Default: a temporary one, removed at the end."`
	NoSample bool   `name:"no-sample" help:"Leave the sample shop and the sample subscriber out."`
}

// devAddr is where dev listens by default: it is for this machine only.
const devAddr = "127.0.0.1:8080"

// Run implements the command.
func (c *devCommand) Run(ctx context.Context, s *streams) error {
	key, err := c.operatorKey()
	if err != nil {
		return err
	}
	if key == "" {
		key = "phk_" + rand.Text()
	}
	t, stop, err := startTelemetry(ctx, s, "")
	if err != nil {
		return err
	}
	defer stop()
	listener, err := c.listen(ctx)
	if err != nil {
		return fmt.Errorf("POSTHORN_ADDR: %w", err)
	}
	defer listener.Close() // after the service has run it is closed already
	database, err := c.startDatabase(ctx, t)
	if err != nil {
		return err
	}
	err = c.runOn(ctx, s, t, devRun{
		database: database, listener: listener, key: key, apiURL: baseURL(listener.Addr()),
		schedule: c.RetrySchedule, sample: !c.NoSample,
	})
	return errors.Join(err, database.stop())
}

// listen takes the address that was asked for, or the first free port from 8080.
func (c *devCommand) listen(ctx context.Context) (net.Listener, error) {
	if c.Addr == "" {
		return listenNear(ctx, devAddr)
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", c.Addr)
}

// devDatabase is the database of a dev run.
type devDatabase struct {
	url     string
	private *devdb.Server // nil: somebody else's, named by DATABASE_URL
	kept    bool          // in the directory of --data
}

func (d devDatabase) stop() error {
	if d.private == nil {
		return nil
	}
	return d.private.Stop()
}

func (c *devCommand) startDatabase(ctx context.Context, t *telemetry.Telemetry) (devDatabase, error) {
	if c.DatabaseURL != "" {
		if c.Data != "" {
			return devDatabase{}, errors.New("--data keeps a private database, DATABASE_URL names another one: give one of them")
		}
		return devDatabase{url: c.DatabaseURL}, nil
	}
	server, err := devdb.Start(ctx, devdb.Config{Dir: c.Data, Durable: c.Data != "", Logger: t.Logger()})
	if err != nil {
		return devDatabase{}, err
	}
	return devDatabase{url: server.URL(), private: server, kept: c.Data != ""}, nil
}

// loopback is opened in dev, for receivers on this machine.
var loopback = networks{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// devRun is what a dev run has once it knows where everything is.
type devRun struct {
	database devDatabase
	listener net.Listener
	key      string
	apiURL   string
	schedule retrySchedule
	sample   bool

	endpoints *subscriptions.Store // set once the service is there
}

// runOn migrates, runs the service and, inside its lifetime, the samples: they
// deregister through the API.
func (c *devCommand) runOn(ctx context.Context, s *streams, t *telemetry.Telemetry, r devRun) error {
	pool, err := openPool(ctx, r.database.url, toolConns, nil)
	if err != nil {
		return err
	}
	pool.Close()
	if err := migrations.Up(ctx, r.database.url); err != nil {
		return err
	}
	service, err := newService(ctx, serviceConfig{
		databaseURL: r.database.url, listener: r.listener, roles: roles{api: true, dispatch: true},
		operatorKey: r.key, keyset: string(c.EncryptionKeyset), keptIsFine: r.database.private != nil,
		policy:   netguard.Policy{AllowHTTP: true, AllowNetworks: slices.Concat(loopback, c.AllowPrivateNetworks)},
		schedule: c.RetrySchedule, attemptTimeout: c.AttemptTimeout, lease: c.AttemptTimeout.lease(), retention: c.Retention, faults: c.faults(), telemetry: t,
	})
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	served := make(chan error, 1)
	go func() {
		served <- service.run(serving)
		end() // without the service there is nothing to try
	}()
	r.endpoints = service.endpoints
	err = r.present(ctx, s, t.Logger())
	stopServing()
	return errors.Join(err, <-served)
}
