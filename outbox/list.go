package outbox

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Filter selects events; the zero Filter all of them.
type Filter struct {
	// TenantID, unless empty, is the events' tenant.
	TenantID string
	// EventType, unless empty, is exactly the events' type.
	EventType string
	// Since and Until, unless zero, bound CreatedAt: at Since or later, before
	// Until.
	Since, Until time.Time
	// Before, unless its ID is zero, is an event that all of them are older than.
	Before Place
}

// Place is where an event stands in a list.
type Place struct {
	// CreatedAt and ID are the event's.
	CreatedAt time.Time
	ID        EventID
}

// Place says where the event stands in a list.
func (e Stored) Place() Place { return Place{e.CreatedAt, e.ID} }

// List returns up to limit events, newest first, without their payloads. Those
// of one tenant are ordered by their time of creation; those of all tenants by
// their ids, which is the same except for ids that producers made themselves.
//
// It looks at a bounded number of the events stored: when that was not enough,
// lookedTo is the place of the oldest that it has looked at, older ones may match,
// and a filter with Before at lookedTo goes on.
func (r *Reader) List(ctx context.Context, f Filter, limit int) (list []Stored, lookedTo Place, err error) {
	sql, args := f.query(limit)
	b := &pgx.Batch{} // one round trip, and one transaction
	b.Queue(planListSQL)
	b.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		found, err := pgx.CollectRows(rows, pgx.RowToStructByName[looked])
		for _, e := range found {
			if e.LookedTo {
				lookedTo = e.Place()
				break
			}
			list = append(list, e.Stored)
		}
		return err
	})
	if err := r.pool.SendBatch(ctx, b).Close(); err != nil {
		return nil, Place{}, fmt.Errorf("list events: %w", err)
	}
	return list, lookedTo, nil
}

// looked is a row of a list's statement.
type looked struct {
	Stored
	LookedTo bool
}

// planListSQL has an index walked in its order. Left alone, PostgreSQL reads a whole
// partition where it believes that much of it matches.
const planListSQL = `SELECT set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true),
	set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)`

const (
	// lookAlong is how many events are looked at for a page of all tenants', which lie
	// in the table as they do in the index; lookAcross of a tenant's, which do not.
	lookAlong  = 5000
	lookAcross = 1500
	// ahead is beyond any clock's present: it keeps the future's empty partitions out.
	ahead = 24 * time.Hour
)

// query puts only the conditions in force into the statement, so that each
// combination gets a plan of its own.
func (f Filter) query(limit int) (string, []any) {
	var conditions []string
	var args []any
	where := func(condition string, values ...any) {
		for _, v := range values {
			args = append(args, v)
			condition = strings.Replace(condition, "?", fmt.Sprintf("$%d", len(args)), 1)
		}
		conditions = append(conditions, condition)
	}
	if !f.Since.IsZero() {
		where("created_at >= ?", f.Since)
	}
	until := time.Now().Add(ahead)
	if !f.Until.IsZero() {
		until = f.Until
	}
	where("created_at < ?", until)
	// All tenants' events have no index by time, which every producer would pay
	// for; the primary key has their ids.
	order, most := "id DESC, created_at DESC", lookAlong
	switch before := f.Before; {
	case f.TenantID != "":
		order, most = "created_at DESC, id DESC", lookAcross
		where("tenant_id = ?", f.TenantID)
		if !before.ID.IsZero() {
			// The first half alone lets PostgreSQL leave out the younger partitions.
			where("created_at <= ? AND (created_at, id) < (?, ?)", before.CreatedAt, before.CreatedAt, before.ID)
		}
	case !before.ID.IsZero():
		where("(id, created_at) < (?, ?)", before.ID, before.CreatedAt)
	}
	matching := ""
	if f.EventType != "" {
		args = append(args, f.EventType)
		matching = fmt.Sprintf(" WHERE event_type = $%d", len(args))
	} else {
		most = min(most, limit)
	}
	args = append(args, limit)
	return fmt.Sprintf(`WITH looked AS MATERIALIZED (
			SELECT `+storedColumns+`, NULL::text AS payload FROM posthorn.outbox WHERE %[1]s ORDER BY %[2]s LIMIT %[3]d)
		SELECT * FROM (SELECT *, false AS looked_to FROM looked%[4]s ORDER BY %[2]s LIMIT $%[5]d) page
		UNION ALL SELECT * FROM (SELECT *, true AS looked_to FROM looked ORDER BY %[2]s OFFSET %[3]d - 1 LIMIT 1) stopped
		ORDER BY looked_to, %[2]s`, strings.Join(conditions, " AND "), order, most, matching, len(args)), args
}
