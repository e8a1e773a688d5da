package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/internal/devdb"
	"github.com/posthorn/posthorn/migrations"
)

// server is the PostgreSQL that is measured on: a private one, on which each lab has
// a database of its own, or the caller's, whose one database is emptied between labs.
type server struct {
	private    *devdb.Server // nil: the caller's
	url        string        // of a database that can be connected to
	postmaster int           // its process; 0: not known
	databases  int           // made so far
}

// startServer starts a private PostgreSQL, or makes sure that the caller's database
// is nobody's.
func startServer(ctx context.Context, c Config) (*server, error) {
	if c.DatabaseURL != "" {
		s := &server{url: c.DatabaseURL}
		return s, s.once(ctx, checkEmpty)
	}
	private, err := devdb.Start(ctx, devdb.Config{Durable: true, Logger: c.Logger})
	if err != nil {
		return nil, err
	}
	s := &server{private: private, url: private.URL()}
	if err := s.once(ctx, s.findPostmaster); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// errURL takes the place of pgx's error, which may quote the password.
var errURL = errors.New("the database's URL can't be parsed; it must be like postgres://user:password@host:5432/bench")

// once does something on a connection of its own.
func (s *server) once(ctx context.Context, do func(context.Context, *pgx.Conn) error) error {
	config, err := pgx.ParseConfig(s.url)
	if err != nil {
		return errURL
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return do(ctx, conn)
}

// findPostmaster finds the server's process, the parent of every connection's.
func (s *server) findPostmaster(ctx context.Context, conn *pgx.Conn) error {
	var backend int
	if err := conn.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&backend); err != nil {
		return err
	}
	if pid, ok := parentOf(backend); ok {
		s.postmaster = pid
	}
	return nil
}

// ErrInUse is the error of a database that somebody else uses.
var ErrInUse = errors.New("the database is not empty: there are Posthorn's endpoints, events or API keys in it, and a benchmark deletes them; give it a database of its own")

const inUseSQL = `SELECT EXISTS (SELECT FROM posthorn.endpoints) OR EXISTS (SELECT FROM posthorn.outbox)
	OR EXISTS (SELECT FROM posthorn.api_keys)`

// checkEmpty returns ErrInUse for a database that is not the benchmark's to empty.
func checkEmpty(ctx context.Context, conn *pgx.Conn) error {
	var migrated, inUse bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass('posthorn.api_keys') IS NOT NULL`).Scan(&migrated); err != nil || !migrated {
		return err
	}
	if err := conn.QueryRow(ctx, inUseSQL).Scan(&inUse); err != nil {
		return err
	}
	if inUse {
		return ErrInUse
	}
	return nil
}

// newDatabase makes a database with Posthorn's schema and nothing in it.
func (s *server) newDatabase(ctx context.Context) (databaseURL string, drop func() error, err error) {
	if s.private == nil {
		return s.url, func() error { return s.empty(ctx) }, migrations.Up(ctx, s.url)
	}
	s.databases++
	name := fmt.Sprintf("bench_%d", s.databases)
	err = s.once(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		// What the section before has left to write must not be written in this one.
		_, err := conn.Exec(ctx, `CHECKPOINT`)
		if err == nil {
			_, err = conn.Exec(ctx, `CREATE DATABASE `+name)
		}
		return err
	})
	if err != nil {
		return "", nil, fmt.Errorf("make a database: %w", err)
	}
	return s.private.URLFor(name), func() error { return s.dropDatabase(ctx, name) }, migrations.Up(ctx, s.private.URLFor(name))
}

// dropPatience bounds the clean-up, which takes place even when ctx is done.
const dropPatience = time.Minute

func (s *server) dropDatabase(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropPatience)
	defer cancel()
	return s.once(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `DROP DATABASE `+name+` WITH (FORCE)`)
		return err
	})
}

// empty removes everything that a lab may have made.
func (s *server) empty(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropPatience)
	defer cancel()
	err := s.once(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `DROP SCHEMA IF EXISTS `+producerSchema+` CASCADE; DROP SCHEMA IF EXISTS `+naiveSchema+` CASCADE`)
		return err
	})
	return errors.Join(err, migrations.Down(ctx, s.url))
}

// stop ends a private server and removes its files.
func (s *server) stop() error {
	if s.private == nil {
		return nil
	}
	return s.private.Stop()
}
