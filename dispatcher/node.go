package dispatcher

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// node is this process among the others. It holds a session lock on a connection
// of its own for as long as it lives: PostgreSQL lets go of the lock when the
// process ends, however it ends, and the others take its work over.
type node struct {
	pool     *pgxpool.Pool
	name     string
	version  string
	logger   *slog.Logger
	counters *telemetry
	reaching reaching

	lose   func() // called when another may have taken over what this node has
	clock  *clock
	lostAt time.Time // when that was last, by the database's clock

	conn    *pgx.Conn // the session that holds the lock
	number  int64
	failing bool // the last beat failed, and the log says so
}

// lockClass is the first half of the advisory locks of nodes; the second is the
// node's number.
const lockClass = 0x70686f6e // "phon"

func newNodeName() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "node"
	}
	host, _, _ = strings.Cut(host, ".")
	return fmt.Sprintf("%.40s-%s", host, strings.ToLower(rand.Text()[:10]))
}

// The row and the lock become visible together, so that nobody finds the row
// without its lock.
const (
	forgetNodeSQL   = `DELETE FROM posthorn.nodes WHERE name = $1` // of a session that was lost
	registerNodeSQL = `INSERT INTO posthorn.nodes (name, version) VALUES ($1, $2) RETURNING number`
	lockNodeSQL     = `SELECT pg_advisory_lock($1, $2)`
	removeNodeSQL   = `DELETE FROM posthorn.nodes WHERE number = $1`
)

// register enters the node and takes its lock, on a new session.
func (n *node) register(ctx context.Context) error {
	config := n.pool.Config().ConnConfig.Copy()
	// A machine that vanishes says no goodbye; the server is to notice in seconds.
	for name, value := range map[string]string{
		"tcp_keepalives_idle": "2", "tcp_keepalives_interval": "1", "tcp_keepalives_count": "3",
		"tcp_user_timeout": "5000", "application_name": "posthorn node " + n.name,
	} {
		config.RuntimeParams[name] = value
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("register node: %w", err)
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, forgetNodeSQL, n.name); err != nil {
			return err
		}
		// What a lost session left behind, unless a reaper was quicker.
		if _, err := tx.Exec(ctx, releaseLostJobsSQL, n.name, n.lostAt); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, registerNodeSQL, n.name, n.version).Scan(&n.number); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, lockNodeSQL, lockClass, int32(n.number))
		return err
	})
	if err != nil {
		conn.Close(ctx)
		return fmt.Errorf("register node: %w", err)
	}
	n.conn = conn
	return nil
}

func (n *node) registered() bool { return n.conn != nil }

// run keeps the node registered and looks for dead ones until ctx is done.
func (n *node) run(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := n.beat(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil && !n.failing:
			n.logger.Error("the node's session fails; it is tried again", "node", n.name, "error", err)
		case err == nil && n.failing:
			n.logger.Info("the node's session works again", "node", n.name)
		}
		n.failing = err != nil
	}
}

// beat reaps, on the node's own session: that it works shows that the lock is
// held. When the session is lost others take over what the node has, so it sends
// nothing more of that and registers anew; the fence keeps the results apart.
func (n *node) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, keeperTimeout)
	defer cancel()
	if n.conn.IsClosed() {
		n.loseAll()
		return n.register(ctx)
	}
	err := n.reap(ctx)
	if err != nil && n.conn.Ping(ctx) != nil {
		n.loseAll()
		n.conn.Close(ctx)
	}
	return err
}

// loseAll gives everything in hand up. What this process fetches from then on is its
// own again.
func (n *node) loseAll() {
	n.lostAt = n.clock.Now()
	n.lose()
}

const otherNodesSQL = `SELECT number, name FROM posthorn.nodes WHERE number <> $1`

// reap releases the jobs of nodes whose lock is free.
func (n *node) reap(ctx context.Context) error {
	rows, err := n.conn.Query(ctx, otherNodesSQL, n.number)
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	type other struct {
		Number int64
		Name   string
	}
	others, err := pgx.CollectRows(rows, pgx.RowToStructByPos[other])
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	var failed error
	for _, o := range others {
		failed = errors.Join(failed, n.reapOne(ctx, o.Number, o.Name))
	}
	return failed
}

const tryLockNodeSQL = `SELECT pg_try_advisory_xact_lock($1, $2)`

// reapOne takes a node's work away if its lock is free. Holding the lock while
// doing so keeps the other reapers out.
func (n *node) reapOne(ctx context.Context, number int64, name string) error {
	var released int64
	var dead bool
	err := pgx.BeginFunc(ctx, n.conn, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, tryLockNodeSQL, lockClass, int32(number)).Scan(&dead); err != nil || !dead {
			return err
		}
		tag, err := tx.Exec(ctx, removeNodeSQL, number)
		if err != nil {
			return err
		}
		// Since the list was read it may have registered anew, under the same name.
		if dead = tag.RowsAffected() == 1; !dead {
			return nil
		}
		if released, err = releaseWork(ctx, tx, name); err != nil {
			return err
		}
		n.reaching.at(reaperUncommitted)
		return nil
	})
	if err != nil {
		return fmt.Errorf("reap node %s: %w", name, err)
	}
	if dead {
		n.reaching.at(reaperCommitted)
		n.counters.recoveredJobs(ctx, released, "dead_node")
		n.logger.Warn("a node has died; its work is taken over", "dead", name, "jobs", released)
	}
	return nil
}

// releaseWork gives a node's jobs to the others, and River's leadership.
func releaseWork(ctx context.Context, tx pgx.Tx, name string) (int64, error) {
	tag, err := tx.Exec(ctx, releaseJobsSQL, name)
	if err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, deposeLeaderSQL, name)
	return tag.RowsAffected(), err
}

// leave gives everything back at the end of the process.
func (n *node) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, transactionTimeout)
	defer cancel()
	defer n.conn.Close(ctx)
	err := pgx.BeginFunc(ctx, n.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, removeNodeSQL, n.number); err != nil {
			return err
		}
		_, err := releaseWork(ctx, tx, n.name)
		return err
	})
	if err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return nil
}
