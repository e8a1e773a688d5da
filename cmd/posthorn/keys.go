package main

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/api/keys"
)

// keysCommand is posthorn keys.
type keysCommand struct {
	Create keysCreate `cmd:"" help:"Make a key and print it, this once."`
	List   keysList   `cmd:"" help:"List the keys, newest first."`
	Revoke keysRevoke `cmd:"" help:"End a key: requests that begin afterwards are refused."`
}

type keysCreate struct {
	databaseFlags

	Role   keys.Role `required:"" enum:"operator,subscriber" help:"operator sees every tenant, subscriber one."`
	Tenant string    `help:"The subscriber's tenant."`
	Name   string    `help:"A note to tell the key by."`
	JSON   bool      `name:"json" help:"Print JSON."`
}

// keyJSON is a key as the command line prints it.
type keyJSON struct {
	ID         string     `json:"id"`
	Key        string     `json:"key,omitempty"`
	Role       keys.Role  `json:"role"`
	TenantID   *string    `json:"tenant_id"`
	Name       string     `json:"name"`
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at"`
	RevokedAt  *time.Time `json:"revoked_at"`
}

func newKeyJSON(k keys.Key, text string) keyJSON {
	j := keyJSON{ID: k.ID.String(), Key: text, Role: k.Role, Name: k.Name,
		CreatedAt: k.CreatedAt.UTC(), LastUsedAt: k.LastUsedAt, RevokedAt: k.RevokedAt}
	if k.TenantID != "" {
		j.TenantID = &k.TenantID
	}
	return j
}

// Run implements the command. The key alone goes to standard output, so that a
// script can take it.
func (c *keysCreate) Run(ctx context.Context, s *streams) error {
	return withMigrated(ctx, c.databaseFlags, func(pool *pgxpool.Pool) error {
		key, text, err := keys.NewStore(pool).Create(ctx, c.Role, c.Tenant, c.Name)
		if err != nil {
			return err
		}
		if c.JSON {
			return json.NewEncoder(s.out).Encode(newKeyJSON(key, text))
		}
		fmt.Fprintf(s.err, "made the key %s; it can't be shown again:\n", key.ID)
		_, err = fmt.Fprintln(s.out, text)
		return err
	})
}

type keysList struct {
	databaseFlags

	JSON bool `name:"json" help:"Print JSON, one key a line."`
}

// keysPage is how many keys are read at a time.
const keysPage = 500

// Run implements the command.
func (c *keysList) Run(ctx context.Context, s *streams) error {
	return withMigrated(ctx, c.databaseFlags, func(pool *pgxpool.Pool) error {
		table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		if !c.JSON {
			fmt.Fprintln(table, "ID\tROLE\tTENANT\tNAME\tCREATED\tLAST USED\tSTATE")
		}
		store := keys.NewStore(pool)
		var before keys.KeyID
		for {
			page, err := store.List(ctx, before, keysPage)
			if err != nil {
				return err
			}
			for _, k := range page {
				before = k.ID
				if !c.JSON {
					printKey(table, k)
				} else if err := json.NewEncoder(s.out).Encode(newKeyJSON(k, "")); err != nil {
					return err
				}
			}
			if len(page) < keysPage {
				return table.Flush()
			}
		}
	})
}

func printKey(table *tabwriter.Writer, k keys.Key) {
	state := "works"
	if k.RevokedAt != nil {
		state = "revoked " + minute(k.RevokedAt)
	}
	// The names are whatever somebody typed: quoted, they can't steer a terminal.
	fmt.Fprintf(table, "%s\t%s\t%q\t%q\t%s\t%s\t%s\n", k.ID, k.Role, k.TenantID, k.Name,
		minute(&k.CreatedAt), minute(k.LastUsedAt), state)
}

func minute(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04 UTC")
}

type keysRevoke struct {
	databaseFlags

	ID string `arg:"" help:"The key's id, key_…"`
}

// Run implements the command.
func (c *keysRevoke) Run(ctx context.Context, s *streams) error {
	id, err := keys.ParseKeyID(c.ID)
	if err != nil {
		return err
	}
	return withMigrated(ctx, c.databaseFlags, func(pool *pgxpool.Pool) error {
		if err := keys.NewStore(pool).Revoke(ctx, id); err != nil {
			return err
		}
		_, err := fmt.Fprintf(s.out, "revoked %s\n", id)
		return err
	})
}
