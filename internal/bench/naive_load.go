package bench

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// naiveSchema holds the naive design's tables and River's, apart from Posthorn's.
const naiveSchema = "posthorn_bench_naive"

// quiet drops River's log: errors come back as errors.
var quiet = slog.New(slog.DiscardHandler)

const naiveTablesSQL = `
	CREATE TABLE ` + naiveSchema + `.events (
		id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		payload    json        NOT NULL,
		created_at timestamptz NOT NULL DEFAULT now()
	);
	CREATE TABLE ` + naiveSchema + `.deliveries (
		event_id   bigint      NOT NULL,
		url        text        NOT NULL,
		status     text        NOT NULL,
		attempts   integer     NOT NULL,
		updated_at timestamptz NOT NULL DEFAULT now(),
		PRIMARY KEY (event_id, url)
	);
	CREATE TABLE ` + naiveSchema + `.attempts (
		id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		event_id   bigint      NOT NULL,
		url        text        NOT NULL,
		number     integer     NOT NULL,
		started_at timestamptz NOT NULL,
		duration   interval    NOT NULL,
		error      text
	)`

// naive is the naive design on a lab's database.
type naive struct {
	lab    *lab
	client *river.Client[pgx.Tx] // inserts only
}

func newNaive(ctx context.Context, l *lab) (*naive, error) {
	if _, err := l.pool.Exec(ctx, `CREATE SCHEMA `+naiveSchema); err != nil {
		return nil, fmt.Errorf("make the naive design's schema: %w", err)
	}
	driver := riverpgxv5.New(l.pool)
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Schema: naiveSchema, Logger: quiet})
	if err != nil {
		return nil, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, fmt.Errorf("make the naive design's River: %w", err)
	}
	if _, err := l.pool.Exec(ctx, naiveTablesSQL); err != nil {
		return nil, fmt.Errorf("make the naive design's tables: %w", err)
	}
	client, err := river.NewClient(driver, &river.Config{Schema: naiveSchema, Logger: quiet})
	return &naive{lab: l, client: client}, err
}

// drain has a process of its own deliver the events, which it starts and ends: it
// must not disturb the others' turns.
func (n *naive) drain(ctx context.Context, events int, payload string) (drained, error) {
	p, err := startPart(ctx, n.lab.suite.config.Executable, RoleNaive, n.lab.url)
	if err != nil {
		return drained{}, err
	}
	defer p.stop()
	if _, err := p.say(); err != nil {
		return drained{}, err
	}
	m := n.lab.meter()
	m.sender = p.cmd.Process.Pid
	return n.lab.suite.drain(ctx, work{
		name: "naive", deliveries: int64(events), meter: m,
		commit:   func(ctx context.Context) error { return n.commit(ctx, events, payload) },
		recorded: n.recorded,
	})
}

const naiveLoadSQL = `INSERT INTO ` + naiveSchema + `.events (payload)
	SELECT $1::text::json FROM generate_series(1, $2::int) RETURNING id`

// commit makes the events wait, each with its job.
func (n *naive) commit(ctx context.Context, events int, payload string) error {
	return pgx.BeginFunc(ctx, n.lab.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, naiveLoadSQL, payload, events)
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			return err
		}
		jobs := make([]river.InsertManyParams, len(ids))
		for i, id := range ids {
			jobs[i].Args = naiveJob{EventID: id, URL: n.lab.suite.receiver.url}
		}
		_, err = n.client.InsertManyTx(ctx, tx, jobs)
		return err
	})
}

const naiveRecordedSQL = `SELECT count(*) FROM ` + naiveSchema + `.deliveries WHERE status = 'delivered'`

func (n *naive) recorded(ctx context.Context) (count int64, err error) {
	err = n.lab.pool.QueryRow(ctx, naiveRecordedSQL).Scan(&count)
	return count, err
}
