package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/internal/doctor"
)

// doctorCommand is posthorn doctor.
type doctorCommand struct {
	databaseFlags

	Deep bool `help:"Also read every stored event and delivery and account for it: seconds for each million."`
	JSON bool `name:"json" help:"Print JSON."`
}

// doctorJSON is a diagnosis as --json prints it.
type doctorJSON struct {
	Healthy bool           `json:"healthy"`
	Checks  []doctor.Check `json:"checks"`
}

// Run implements the command. A failed check makes the exit status 1, a warning
// does not.
func (c *doctorCommand) Run(ctx context.Context, s *streams) error {
	checks, err := c.examine(ctx)
	if err != nil {
		return err
	}
	failures := doctor.Failures(checks)
	if c.JSON {
		err = json.NewEncoder(s.out).Encode(doctorJSON{Healthy: failures == 0, Checks: checks})
	} else {
		err = printChecks(s.out, checks)
	}
	if err == nil && failures > 0 {
		err = fmt.Errorf("%d of %d checks failed", failures, len(checks))
	}
	return err
}

// examine makes the checks; that the database can't be reached is the first of them.
func (c *doctorCommand) examine(ctx context.Context) (checks []doctor.Check, err error) {
	if _, err := c.require(); err != nil {
		return nil, err
	}
	err = withPool(ctx, c.databaseFlags, func(pool *pgxpool.Pool) error {
		checks = doctor.Examine(ctx, pool, doctor.Options{Deep: c.Deep})
		return nil
	})
	if err != nil {
		checks = []doctor.Check{{Name: "database", State: doctor.Failure, Message: err.Error()}}
	}
	return checks, nil
}

func printChecks(w io.Writer, checks []doctor.Check) error {
	for _, c := range checks {
		if _, err := fmt.Fprintf(w, "%-4s  %-13s  %s\n", c.State, c.Name, c.Message); err != nil {
			return err
		}
		for _, d := range c.Details {
			if _, err := fmt.Fprintf(w, "%21s%s\n", "", d); err != nil {
				return err
			}
		}
	}
	return nil
}
