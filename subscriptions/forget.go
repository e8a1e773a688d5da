package subscriptions

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	forgetSecretsSQL = `DELETE FROM posthorn.endpoint_secrets WHERE expires_at < $1`

	// A version is in force until the next one; what was made by it meanwhile has
	// aged out, but for the endpoints that are still in use.
	forgetVersionsSQL = `DELETE FROM posthorn.endpoint_versions v
		WHERE v.endpoint_id <> ALL($2) AND EXISTS (SELECT FROM posthorn.endpoint_versions n
			WHERE n.endpoint_id = v.endpoint_id AND n.version = v.version + 1 AND n.created_at < $1)`

	deletedBeforeSQL = `SELECT id FROM posthorn.endpoints WHERE deleted_at < $1 AND id <> ALL($2) ORDER BY id`

	forgetLastVersionsSQL = `DELETE FROM posthorn.endpoint_versions WHERE endpoint_id = ANY($1)`
	forgetItsSecretsSQL   = `DELETE FROM posthorn.endpoint_secrets WHERE endpoint_id = ANY($1)`
	forgetEndpointsSQL    = `DELETE FROM posthorn.endpoints WHERE id = ANY($1)`
)

// Forget removes what lies before a time and tells of nothing that is stored any
// longer: expired secrets, versions of endpoints that were superseded before it, and
// endpoints that were deleted before it. Of the endpoints inUse, which are those with
// older deliveries, everything stays.
func Forget(ctx context.Context, pool *pgxpool.Pool, before time.Time, inUse []EndpointID) error {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, forgetSecretsSQL, before); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, forgetVersionsSQL, before, inUse); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, deletedBeforeSQL, before, inUse)
		if err != nil {
			return err
		}
		deleted, err := pgx.CollectRows(rows, pgx.RowTo[EndpointID])
		if err != nil || deleted == nil {
			return err
		}
		for _, sql := range []string{forgetLastVersionsSQL, forgetItsSecretsSQL, forgetEndpointsSQL} {
			if _, err := tx.Exec(ctx, sql, deleted); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget what is past: %w", err)
	}
	return nil
}
