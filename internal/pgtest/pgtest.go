package pgtest

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/internal/devdb"
	"github.com/posthorn/posthorn/migrations"
)

const (
	// maxConns bounds a test's pool, so that some 30 parallel tests stay below the
	// server's max_connections (300).
	maxConns = 8
	// adminConns bounds the pool that creates and drops databases.
	adminConns = 4
	// cleanupTimeout bounds the wait for a test's connections to be given back, and
	// the drop of its database.
	cleanupTimeout = 10 * time.Second
	// maxNameBytes is PostgreSQL's limit for the name of a database.
	maxNameBytes = 63
)

// DB is one test's database. It is safe for concurrent use.
type DB struct {
	// URL is the database's address, for the superuser, with the password.
	URL string
	// Pool has at most 8 connections to it. The test's end closes it.
	Pool *pgxpool.Pool
	// Server is the server, for tests that crash it. It is nil unless the DB comes
	// from OwnServer: nobody may stop a server that other tests share.
	Server *devdb.Server
}

// New returns a migrated database that the test's end drops. It fails the test
// when there is no PostgreSQL.
func New(t testing.TB) *DB {
	t.Helper()
	c := useShared(t)
	if err := c.migrate(); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return c.database(t, template)
}

// NewEmpty is like New but leaves the database without migrations.
func NewEmpty(t testing.TB) *DB {
	t.Helper()
	return useShared(t).database(t, "")
}

// OwnServer returns a migrated database on a server that only this test uses, for
// faults: Server.Kill, Server.Restart. The test's end stops it. It takes about a
// second more than New.
func OwnServer(t testing.TB) *DB {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), setupTimeout)
	defer cancel()
	server, err := devdb.Start(ctx, serverConfig)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	if err := migrations.Up(ctx, server.URL()); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	db := connect(t, server.URL())
	db.Server = server
	return db
}

func useShared(t testing.TB) *cluster {
	t.Helper()
	c, err := shared()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return c
}

// database creates a database for the test and connects to it.
func (c *cluster) database(t testing.TB, template string) *DB {
	t.Helper()
	name := databaseName(t.Name())
	if err := c.create(t.Context(), name, template); err != nil {
		t.Fatalf("pgtest: creating the database %s: %v", name, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		if err := c.drop(ctx, name); err != nil {
			t.Errorf("pgtest: dropping the database %s: %v", name, err)
		}
	})
	return connect(t, c.server.URLFor(name))
}

// connect opens the test's pool. The pool is closed before the database is dropped
// or the server stopped, whose cleanups were registered before.
func connect(t testing.TB, url string) *DB {
	t.Helper()
	pool, err := openPool(t.Context(), url, maxConns)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		closed := make(chan struct{})
		go func() {
			pool.Close()
			close(closed)
		}()
		select {
		case <-closed:
		case <-time.After(cleanupTimeout):
			t.Errorf("pgtest: the test ended without giving back %d of its connections", pool.Stat().AcquiredConns())
		}
	})
	return &DB{URL: url, Pool: pool}
}

// openPool returns a pool of at most conns connections, one of which works.
func openPool(ctx context.Context, url string, conns int32) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = conns
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

// serial tells the databases of tests with similar names apart.
var serial atomic.Int64

// databaseName returns a new name for a test's database that shows whose it is.
func databaseName(test string) string {
	readable := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '_'
	}, strings.TrimPrefix(test, "Test"))
	name := fmt.Sprintf("t%d_%s", serial.Add(1), readable)
	return name[:min(len(name), maxNameBytes)]
}
