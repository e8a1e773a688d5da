package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/internal/devdb"
	"github.com/posthorn/posthorn/migrations"
)

// template is the migrated database that New clones.
const template = "posthorn_template"

// setupTimeout bounds the start of a server and its migration. It allows for a
// PostgreSQL that must be downloaded first.
const setupTimeout = 5 * time.Minute

// serverConfig is that of every test server. The log of changes is kept short
// because it may take up memory.
var serverConfig = devdb.Config{InMemory: true, Settings: map[string]string{"max_wal_size": "512MB"}}

// cluster is the server that the tests of one binary share. It is safe for
// concurrent use.
type cluster struct {
	server *devdb.Server
	admin  *pgxpool.Pool // on the database postgres: creates and drops the others

	migrate func() error // makes the template, once
}

// shared starts the binary's cluster when first asked for one.
var shared = sync.OnceValues(startCluster)

// sharedStarted tells Stop whether there is a cluster to stop.
var sharedStarted struct {
	sync.Mutex
	c *cluster
}

func startCluster() (*cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	server, err := devdb.Start(ctx, serverConfig)
	if err != nil {
		return nil, err
	}
	admin, err := openPool(ctx, server.URLFor("postgres"), adminConns)
	if err != nil {
		return nil, errors.Join(err, server.Stop())
	}
	c := &cluster{server: server, admin: admin}
	c.migrate = sync.OnceValue(c.makeTemplate)

	sharedStarted.Lock()
	defer sharedStarted.Unlock()
	sharedStarted.c = c
	return c, nil
}

// Main runs the package's tests and then stops the shared server. Call it from
// TestMain, last: it does not return if the server cannot be stopped. Without it
// the server ends all the same, with the process, but its directory stays until
// the next run removes it.
func Main(m *testing.M) {
	code := m.Run()
	if err := Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		os.Exit(max(code, 1))
	}
}

// Stop stops the shared server, if any test has started it. It is for a TestMain
// that has more to do than Main; no test may run any more.
func Stop() error {
	sharedStarted.Lock()
	defer sharedStarted.Unlock()
	c := sharedStarted.c
	if c == nil {
		return nil
	}
	sharedStarted.c = nil
	c.admin.Close()
	return c.server.Stop()
}

// makeTemplate migrates a new database and then closes it to sessions, because
// CREATE DATABASE refuses a template that somebody is connected to.
func (c *cluster) makeTemplate() error {
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	name := pgx.Identifier{template}.Sanitize()
	if _, err := c.admin.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		return err
	}
	if err := migrations.Up(ctx, c.server.URLFor(template)); err != nil {
		return fmt.Errorf("migrating the template: %w", err)
	}
	_, err := c.admin.Exec(ctx, "ALTER DATABASE "+name+" ALLOW_CONNECTIONS false IS_TEMPLATE true")
	if err != nil {
		return err
	}
	// The migration's sessions end a moment after their connections are closed, and
	// CREATE DATABASE would look for that only every 100 ms.
	const sessions = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1`
	return retry(ctx, func() (bool, error) {
		var n int
		err := c.admin.QueryRow(ctx, sessions, template).Scan(&n)
		return n == 0, err
	})
}

// create makes a database, a clone of the template if it has a name.
func (c *cluster) create(ctx context.Context, name, template string) error {
	sql := "CREATE DATABASE " + pgx.Identifier{name}.Sanitize()
	if template != "" {
		sql += " TEMPLATE " + pgx.Identifier{template}.Sanitize()
	}
	return retry(ctx, func() (bool, error) {
		_, err := c.admin.Exec(ctx, sql)
		// Autovacuum visits templates too.
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == objectInUse {
			return false, nil
		}
		return err == nil, err
	})
}

// objectInUse is the SQLSTATE of "source database is being accessed by other users".
const objectInUse = "55006"

// drop removes a database, whoever is still connected to it.
func (c *cluster) drop(ctx context.Context, name string) error {
	_, err := c.admin.Exec(ctx, "DROP DATABASE "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
	return err
}

// retry calls do every 10 ms until it is done, fails or the context ends.
func retry(ctx context.Context, do func() (done bool, err error)) error {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		if done, err := do(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
