package doctor

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/dispatcher"
	"github.com/posthorn/posthorn/migrations"
)

const versionSQL = `SELECT current_setting('server_version'), current_setting('server_version_num')::int`

// oldestPostgres is the oldest version that Posthorn supports.
const oldestPostgres = 140000

func database(ctx context.Context, p *patient, c *Check) error {
	begin := time.Now()
	var version string
	var number int
	if err := p.pool.QueryRow(ctx, versionSQL).Scan(&version, &number); err != nil {
		return err
	}
	c.is(OK, "PostgreSQL %s answers in %s.", version, show(time.Since(begin)))
	if number < oldestPostgres {
		c.is(Failure, "PostgreSQL %s is too old: Posthorn needs 14 or newer.", version)
	}
	return nil
}

func migrated(ctx context.Context, p *patient, c *Check) error {
	list, err := migrations.List(ctx, p.pool)
	if err != nil {
		return err
	}
	for _, m := range list {
		if !m.Applied {
			c.detail("%s is missing", m.Name)
		}
	}
	if c.Details != nil {
		c.is(Failure, "%s missing: run posthorn migrate up.", several(int64(len(c.Details)), "migration"))
		return nil
	}
	c.is(OK, "All %d migrations are applied.", len(list))
	return nil
}

const keysetSQL = `SELECT EXISTS (SELECT FROM posthorn.keysets)`

func keyset(ctx context.Context, p *patient, c *Check) error {
	var kept bool
	if err := p.pool.QueryRow(ctx, keysetSQL).Scan(&kept); err != nil {
		return err
	}
	c.is(OK, "No keyset lies in the database beside what it encrypts.")
	if kept {
		c.is(Warning, "The keyset that encrypts the endpoints' secrets lies in the same database: "+
			"begin with one of posthorn keyset create in POSTHORN_ENCRYPTION_KEYSET (docs/security.md).")
	}
	return nil
}

const partitionsSQL = `
	SELECT t.name, t.days_ahead,
		coalesce(max(to_date(right(c.relname, 8), 'YYYYMMDD')) - (now() AT TIME ZONE 'UTC')::date, -1) AS ahead
	FROM posthorn.partitioned_tables t
	LEFT JOIN pg_inherits i ON i.inhparent = ('posthorn.' || t.name)::regclass
	LEFT JOIN pg_class c ON c.oid = i.inhrelid
	GROUP BY t.name, t.days_ahead ORDER BY t.name`

func partitions(ctx context.Context, p *patient, c *Check) error {
	rows, err := p.pool.Query(ctx, partitionsSQL)
	if err != nil {
		return err
	}
	var table string
	var wanted, ahead, least int
	first := true
	_, err = pgx.ForEachRow(rows, []any{&table, &wanted, &ahead}, func() error {
		if first || ahead < least {
			least, first = ahead, false
		}
		if ahead < wanted-1 { // the job comes once an hour
			c.detail("%s has partitions for %s ahead, not %d", table, several(int64(ahead), "day"), wanted)
		}
		return nil
	})
	const remedy = "a dispatcher makes them once an hour; SELECT posthorn.create_partitions() does it now"
	switch {
	case err != nil:
		return err
	case least < 1:
		c.is(Failure, "There are no partitions for tomorrow, or for today, and without them nothing can be inserted: %s.", remedy)
	case c.Details != nil:
		c.is(Warning, "Partitions run out: %s.", remedy)
	default:
		c.is(OK, "Every table has its partitions, for %s ahead and more.", several(int64(least), "day"))
	}
	return nil
}

func nodes(ctx context.Context, p *patient, c *Check) error {
	running, err := dispatcher.RunningNodes(ctx, p.pool)
	if err != nil {
		return err
	}
	for _, n := range running {
		c.detail("%s, version %s, since %s", n.Name, n.Version, n.StartedAt.UTC().Format("2006-01-02 15:04 UTC"))
	}
	c.is(OK, "%s at work.", several(int64(len(running)), "dispatcher"))
	if len(running) == 0 {
		c.is(Failure, "No dispatcher runs, so nothing is sent: start posthorn serve.")
	}
	return nil
}
