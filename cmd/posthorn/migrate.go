package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/migrations"
)

// migrateCommand is posthorn migrate.
type migrateCommand struct {
	Up     migrateUp     `cmd:"" help:"Apply what is missing. Safe when several processes do it at once."`
	Down   migrateDown   `cmd:"" help:"Take everything back: every event, delivery, endpoint and key is lost."`
	Status migrateStatus `cmd:"" help:"List the migrations."`
}

type migrateUp struct {
	databaseFlags
}

// Run implements the command.
func (c *migrateUp) Run(ctx context.Context, s *streams) error {
	before, err := c.pending(ctx)
	if err != nil {
		return err
	}
	if err := migrations.Up(ctx, c.DatabaseURL); err != nil {
		return err
	}
	if before == 0 {
		fmt.Fprintln(s.out, "nothing to do: the database is current")
		return nil
	}
	fmt.Fprintf(s.out, "applied %d migrations\n", before)
	return nil
}

// pending counts the migrations that are missing.
func (c *migrateUp) pending(ctx context.Context) (n int, err error) {
	err = withPool(ctx, c.databaseFlags, func(pool *pgxpool.Pool) error {
		list, err := migrations.List(ctx, pool)
		for _, m := range list {
			if !m.Applied {
				n++
			}
		}
		return err
	})
	return n, err
}

type migrateDown struct {
	databaseFlags
}

// Run implements the command.
func (c *migrateDown) Run(ctx context.Context, s *streams) error {
	if err := withPool(ctx, c.databaseFlags, func(*pgxpool.Pool) error { return nil }); err != nil {
		return err
	}
	if err := migrations.Down(ctx, c.DatabaseURL); err != nil {
		return err
	}
	fmt.Fprintln(s.out, "the schemas posthorn and river are gone")
	return nil
}

type migrateStatus struct {
	databaseFlags

	JSON bool `name:"json" help:"Print JSON."`
}

// Run implements the command.
func (c *migrateStatus) Run(ctx context.Context, s *streams) error {
	return withPool(ctx, c.databaseFlags, func(pool *pgxpool.Pool) error {
		list, err := migrations.List(ctx, pool)
		if err != nil {
			return err
		}
		if c.JSON {
			return json.NewEncoder(s.out).Encode(list)
		}
		for _, m := range list {
			state := "pending"
			if m.Applied {
				state = "applied"
			}
			fmt.Fprintf(s.out, "%s  %s\n", state, m.Name)
		}
		return nil
	})
}

// withPool runs f with connections to the database, for a command that uses few.
func withPool(ctx context.Context, flags databaseFlags, f func(*pgxpool.Pool) error) error {
	url, err := flags.require()
	if err != nil {
		return err
	}
	pool, err := openPool(ctx, url, toolConns, nil)
	if err != nil {
		return err
	}
	defer pool.Close()
	return f(pool)
}

// withMigrated is withPool for a command that needs Posthorn's tables.
func withMigrated(ctx context.Context, flags databaseFlags, f func(*pgxpool.Pool) error) error {
	return withPool(ctx, flags, func(pool *pgxpool.Pool) error {
		if err := migrations.Check(ctx, pool); err != nil {
			return err
		}
		return f(pool)
	})
}
