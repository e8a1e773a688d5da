// Package migrations holds the database's history: numbered SQL files of our
// own, applied by goose, and River's, applied by its own migrator. Everything
// of ours lives in the schema posthorn, River's tables in the schema river.
//
// Up, Down and Check may run in any number of processes at once: a session
// advisory lock makes them queue, and whoever comes second finds nothing to do.
package migrations

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// RiverSchema is the schema that River's tables live in.
const RiverSchema = "river"

//go:embed *.sql
var files embed.FS

// lockKey is the advisory lock that migrations queue for; any constant would
// do, as long as every version of the program uses the same.
const lockKey = 0x706f7374686f726e // "posthorn"

// minConns is what one run needs at once: one connection holds the lock, goose
// keeps one and River's migrator takes another. A URL may ask for a smaller pool.
const minConns = 4

// Status is one migration and whether it has been applied.
type Status struct {
	// Name is the file's name without its path, or "river 006" for River's.
	Name string `json:"name"`
	// Applied reports whether the database has it.
	Applied bool `json:"applied"`
}

// ErrPending is returned by Check while migrations wait to be applied.
var ErrPending = errors.New("the database lacks migrations: run posthorn migrate up")

// Up applies every migration that is missing and makes the days' partitions.
// It is a no-op on a current database. An error leaves the migrations before
// the failed one applied.
func Up(ctx context.Context, databaseURL string) error {
	return locked(ctx, databaseURL, func(m *migrator) error {
		if err := m.createSchemas(ctx); err != nil {
			return err
		}
		ours, err := m.ours()
		if err != nil {
			return err
		}
		defer ours.Close()
		if _, err := ours.Up(ctx); err != nil {
			return fmt.Errorf("migrate up: %w", err)
		}
		rivers, err := m.rivers()
		if err != nil {
			return err
		}
		if _, err := rivers.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
			return fmt.Errorf("migrate River up: %w", err)
		}
		if _, err := m.pool.Exec(ctx, `SELECT posthorn.create_partitions()`); err != nil {
			return fmt.Errorf("create partitions: %w", err)
		}
		return nil
	})
}

// Down takes everything back: events, deliveries, endpoints, both schemas, and
// the producers' role unless another database of the cluster uses it.
func Down(ctx context.Context, databaseURL string) error {
	return locked(ctx, databaseURL, func(m *migrator) error {
		rivers, err := m.rivers()
		if err != nil {
			return err
		}
		if err := m.createSchemas(ctx); err != nil {
			return err
		}
		if _, err := rivers.Migrate(ctx, rivermigrate.DirectionDown, &rivermigrate.MigrateOpts{TargetVersion: -1}); err != nil {
			return fmt.Errorf("migrate River down: %w", err)
		}
		ours, err := m.ours()
		if err != nil {
			return err
		}
		defer ours.Close()
		if _, err := ours.DownTo(ctx, 0); err != nil {
			return fmt.Errorf("migrate down: %w", err)
		}
		// Only goose's own table is left; CASCADE would hide anything else.
		_, err = m.pool.Exec(ctx, `DROP TABLE posthorn.migrations; DROP SCHEMA posthorn; DROP SCHEMA river`)
		if err != nil {
			return fmt.Errorf("drop schemas: %w", err)
		}
		return nil
	})
}

// List gives every migration in order with its state. It changes nothing.
func List(ctx context.Context, pool *pgxpool.Pool) ([]Status, error) {
	m := &migrator{pool: pool}
	applied, err := m.appliedVersions(ctx)
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, err
	}
	var list []Status
	for _, name := range names { // Glob sorts
		version, err := goose.NumericComponent(name)
		if err != nil {
			return nil, err
		}
		list = append(list, Status{Name: name, Applied: applied[version]})
	}
	rivers, err := m.rivers()
	if err != nil {
		return nil, err
	}
	existing, err := m.riverVersions(ctx, rivers)
	if err != nil {
		return nil, err
	}
	for _, v := range rivers.AllVersions() {
		list = append(list, Status{Name: fmt.Sprintf("river %03d", v.Version), Applied: existing[v.Version]})
	}
	return list, nil
}

// Check returns an error for which errors.Is(err, ErrPending) is true while a
// migration is missing, and another error when the database can't be asked.
func Check(ctx context.Context, pool *pgxpool.Pool) error {
	list, err := List(ctx, pool)
	if err != nil {
		return err
	}
	for _, s := range list {
		if !s.Applied {
			return ErrPending
		}
	}
	return nil
}

// migrator holds what both directions need.
type migrator struct {
	pool *pgxpool.Pool
}

// locked runs f while this process alone migrates the database.
func locked(ctx context.Context, databaseURL string, f func(*migrator) error) error {
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	config.MaxConns = max(config.MaxConns, minConns)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer pool.Close()
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, int64(lockKey)); err != nil {
		return fmt.Errorf("wait for other migrations: %w", err)
	}
	// Closing the connection lets go of the lock too; this is for a reused one.
	defer conn.Exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, int64(lockKey))
	return f(&migrator{pool: pool})
}

// createSchemas makes the schemas that the migrators keep their own records in.
func (m *migrator) createSchemas(ctx context.Context) error {
	_, err := m.pool.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS posthorn; CREATE SCHEMA IF NOT EXISTS `+RiverSchema)
	if err != nil {
		return fmt.Errorf("create schemas: %w", err)
	}
	return nil
}

// ours must be closed: its database/sql handle keeps a goroutine.
func (m *migrator) ours() (*goose.Provider, error) {
	db := stdlib.OpenDBFromPool(m.pool)
	p, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName("posthorn.migrations"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return p, nil
}

func (m *migrator) rivers() (*rivermigrate.Migrator[riverTx], error) {
	r, err := rivermigrate.New(riverpgxv5.New(m.pool), &rivermigrate.Config{Schema: RiverSchema, Logger: quiet})
	if err != nil {
		return nil, fmt.Errorf("read River's migrations: %w", err)
	}
	return r, nil
}

// appliedVersions reads goose's record without creating it.
func (m *migrator) appliedVersions(ctx context.Context) (map[int64]bool, error) {
	applied := map[int64]bool{}
	var exists bool
	if err := m.pool.QueryRow(ctx, `SELECT to_regclass('posthorn.migrations') IS NOT NULL`).Scan(&exists); err != nil {
		return nil, fmt.Errorf("read migrations' state: %w", err)
	}
	if !exists {
		return applied, nil
	}
	rows, err := m.pool.Query(ctx, `SELECT version_id, is_applied FROM posthorn.migrations ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("read migrations' state: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var version int64
		var is bool
		if err := rows.Scan(&version, &is); err != nil {
			return nil, fmt.Errorf("read migrations' state: %w", err)
		}
		applied[version] = is
	}
	return applied, rows.Err()
}

func (m *migrator) riverVersions(ctx context.Context, r *rivermigrate.Migrator[riverTx]) (map[int]bool, error) {
	existing := map[int]bool{}
	versions, err := r.ExistingVersions(ctx)
	if err != nil {
		return nil, fmt.Errorf("read River's migrations' state: %w", err)
	}
	for _, v := range versions {
		existing[v.Version] = true
	}
	return existing, nil
}
