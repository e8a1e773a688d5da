package dispatcher

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Node is a process that dispatches.
type Node struct {
	// Name is its NodeName.
	Name string
	// Version is the program's.
	Version string
	// StartedAt is when it began, by the database's clock.
	StartedAt time.Time
}

// A node runs while the session lock of its number is held.
const runningNodesSQL = `
	SELECT n.name, n.version, n.started_at FROM posthorn.nodes n
	WHERE EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
		WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
		  AND l.classid::bigint = $1 AND l.objid::bigint = n.number)
	ORDER BY n.started_at`

// RunningNodes lists the nodes that run on the database.
func RunningNodes(ctx context.Context, pool *pgxpool.Pool) ([]Node, error) {
	rows, err := pool.Query(ctx, runningNodesSQL, lockClass)
	if err != nil {
		return nil, fmt.Errorf("list running nodes: %w", err)
	}
	nodes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Node])
	if err != nil {
		return nil, fmt.Errorf("list running nodes: %w", err)
	}
	return nodes, nil
}
