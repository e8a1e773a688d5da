package dispatcher

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Lists are bounded by what they look at, whatever is stored and whatever matches: a
// look walks an index from its newest entry, and stops after so many rows. Should none
// of them match, the page is empty, and its cursor goes on where the look has stopped.
const (
	// lookAlong is for rows that lie in the table as they do in the index.
	lookAlong = 5000
	// lookAcross is for an index whose every row is on another page; all streams of a
	// list share it, with at least leastLook for each.
	lookAcross = 1000
	leastLook  = 10
)

// look is a statement that lists rows of a table by falling id.
type look struct {
	table, columns string
	streams        []stream
	endpoints      string   // unless empty, a query of endpoint ids: each stream is one for each
	bounds         []string // conditions of every stream
	matching       []string // conditions of the rows that were looked at
	all            bool     // whatever the streams have matches
	args           []any
}

// stream is an index to walk.
type stream struct {
	where []string // what the index serves
	of    string   // unless empty, the endpoint whose rows they are, as an expression
	along bool     // its rows lie in the table as they do in it
	whole bool     // it is short, has no order, and is read to its end
}

// arg puts the argument's number in place of the question mark.
func (l *look) arg(condition string, arg any) string {
	l.args = append(l.args, arg)
	return strings.Replace(condition, "?", fmt.Sprintf("$%d", len(l.args)), 1)
}

func (l *look) match(condition string, arg any) {
	l.matching = append(l.matching, l.arg(condition, arg))
}
func (l *look) within(condition string, arg any) { l.bounds = append(l.bounds, l.arg(condition, arg)) }

// most is how many rows to look at, as an expression: no more than are wanted where all
// of them match.
func (l *look) most(s stream, limit string) string {
	most := lookAcross / len(l.streams)
	switch {
	case s.whole:
		return "NULL::bigint"
	case s.along:
		most = lookAlong
	}
	n := fmt.Sprint(most)
	if l.endpoints != "" {
		n = fmt.Sprintf("greatest(%d / greatest((SELECT count(*) FROM of_tenant), 1), %d)", most, leastLook)
	}
	if l.all {
		n = fmt.Sprintf("least(%s, %s)", n, limit)
	}
	return n
}

// walk is the subquery of a stream.
func (l *look) walk(i int, limit string) string {
	s := l.streams[i]
	from, of, where, order := "", "NULL::uuid", slices.Concat(s.where, l.bounds), " ORDER BY id DESC"
	if l.endpoints != "" {
		from, s.of = "of_tenant CROSS JOIN LATERAL ", "of_tenant.endpoint_id"
		of = s.of
	}
	if s.of != "" {
		// An endpoint that is equal to a value is no part of an order: PostgreSQL would see
		// one by id alone, and walk the primary key past everybody else's rows.
		where = append(where, "endpoint_id >= "+s.of, "endpoint_id <= "+s.of)
		order = " ORDER BY endpoint_id DESC, id DESC"
	}
	if s.whole {
		order = ""
	}
	most := l.most(s, limit)
	return fmt.Sprintf(`SELECT %d AS stream, %s AS of_endpoint, %s AS most, d.* FROM %s(SELECT %s FROM %s%s%s LIMIT %[3]s) d`,
		i, of, most, from, l.columns, l.table, whereAll(where), order)
}

const lookFormat = `
	WITH of_tenant AS MATERIALIZED (%[1]s), looked AS MATERIALIZED (%[2]s), stopped AS MATERIALIZED (
		SELECT * FROM (SELECT DISTINCT ON (stream, of_endpoint) *, count(*) OVER (PARTITION BY stream, of_endpoint) AS n
			FROM looked ORDER BY stream, of_endpoint, id) oldest
		WHERE n >= most ORDER BY id DESC LIMIT 1)
	SELECT * FROM (SELECT %[3]s, false AS looked_to FROM looked%[4]s ORDER BY id DESC LIMIT %[5]s) page
	UNION ALL SELECT %[3]s, true FROM stopped ORDER BY looked_to, id DESC`

// statement completes the look. It gives up to limit rows that match, and behind them,
// with looked_to, the row at which the first of the streams has stopped: what is older
// was not looked at in all of them.
func (l *look) statement(limit int) (string, []any) {
	last := l.arg("?::bigint", limit)
	walks := make([]string, len(l.streams))
	for i := range l.streams {
		walks[i] = l.walk(i, last)
	}
	endpoints := l.endpoints
	if endpoints == "" {
		endpoints = "SELECT"
	}
	matching := whereAll(append(slices.Clone(l.matching), "id >= ALL(SELECT id FROM stopped)"))
	return fmt.Sprintf(lookFormat, endpoints, strings.Join(walks, " UNION ALL "), columnNames(l.columns), matching, last), l.args
}

// columnNames are the names of a list of columns and expressions with names.
func columnNames(columns string) string {
	var list []string
	depth, begin := 0, 0
	for i, c := range columns + "," {
		switch c {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				words := strings.Fields(columns[begin:i])
				list, begin = append(list, words[len(words)-1]), i+1
			}
		}
	}
	return strings.Join(list, ", ")
}

func whereAll(texts []string) string {
	if len(texts) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(texts, " AND ")
}

// planListsSQL has the indexes walked in their order. Left alone, PostgreSQL takes an
// endpoint for an average one, and sorts all that a large one has; and it reads a whole
// table where it believes that most of it matches.
const planListsSQL = `SELECT set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true),
	set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)`

// takeLook makes the statement, in one round trip with its settings, and tells the rows
// that match from the one at which the look has stopped, if it has.
func takeLook[Looked, Row any](ctx context.Context, pool *pgxpool.Pool, sql string, args []any,
	split func(Looked) (row Row, stopped bool)) (list []Row, stopped *Row, err error) {
	b := &pgx.Batch{} // one round trip, and one transaction
	b.Queue(planListsSQL)
	b.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		looked, err := pgx.CollectRows(rows, pgx.RowToStructByName[Looked])
		for _, l := range looked {
			row, last := split(l)
			if last {
				stopped = &row
				break
			}
			list = append(list, row)
		}
		return err
	})
	err = pool.SendBatch(ctx, b).Close()
	return list, stopped, err
}
