package dispatcher

import (
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// planByKeySQL has PostgreSQL find the batch's deliveries by their keys, once, and
// join them by hash. Left alone it guesses ten rows for arrays of any length, and
// nothing of partitions that have just begun to fill, and would compare every
// result with every delivery or read a partition whole.
const planByKeySQL = `SELECT set_config('enable_seqscan', 'off', true),
	set_config('enable_nestloop', 'off', true), set_config('enable_mergejoin', 'off', true)`

// recordSQL writes results and returns the places of those that count: only while the
// delivery is unfinished and stands at the attempt that the result was made for
// (fencing). Should a batch have two results of one delivery, one of them counts.
//
// That d.id is one of $1 and within bounds follows from the join; said again, the
// one gives the rows by their key and the other opens only their partitions.
const recordSQL = `
	UPDATE posthorn.deliveries d SET
		status = r.status,
		attempts = r.fence + r.sent::int,
		next_attempt_at = r.next_attempt_at,
		job_id = CASE WHEN r.status <> 'held' THEN coalesce(r.job_id, d.job_id) END,
		last_response_status = CASE WHEN r.sent THEN nullif(r.response_status, 0) ELSE d.last_response_status END,
		last_error_kind = CASE WHEN r.sent THEN nullif(r.error_kind, '') ELSE d.last_error_kind END,
		last_error = CASE WHEN r.sent THEN nullif(r.error, '') ELSE coalesce(nullif(r.error, ''), d.last_error) END,
		finished_at = CASE WHEN r.status NOT IN ('retrying', 'held') THEN now() END,
		ordering_position = CASE WHEN r.status IN ('retrying', 'held') THEN d.ordering_position END
	FROM unnest($1::uuid[], $2::int[], $3::text[], $4::bool[], $5::int[], $6::timestamptz[], $7::bigint[], $8::text[], $9::text[])
	WITH ORDINALITY AS r (delivery_id, fence, status, sent, response_status, next_attempt_at, job_id, error_kind, error, place)
	WHERE d.id = r.delivery_id AND d.id = ANY($1) AND d.id BETWEEN $10 AND $11
	  AND d.attempts = r.fence AND d.status IN ('pending', 'retrying')
	RETURNING r.place`

// copyAttemptsSQL logs the attempts whose results count. Another's result has taken
// the number of one that does not.
const copyAttemptsSQL = `COPY posthorn.attempts (delivery_id, number, started_at, duration_us, endpoint_version,
	request_headers, response_status, response_headers, response_body, error_kind, error) FROM STDIN (FORMAT binary)`

// buryDeadSQL writes the dead letters of the deliveries that have just died.
const buryDeadSQL = `
	INSERT INTO posthorn.dead_letters (id, delivery_id, event_id, event_created_at, endpoint_id, tenant_id, event_type,
		attempts, last_response_status, last_error_kind, last_error, fingerprint)
	SELECT posthorn.uuid_v7(), d.id, d.event_id, d.event_created_at, d.endpoint_id, d.tenant_id, d.event_type,
		d.attempts, d.last_response_status, d.last_error_kind, d.last_error, r.fingerprint
	FROM posthorn.deliveries d
	JOIN unnest($1::uuid[], $2::int[], $3::text[]) AS r (id, attempts, fingerprint) ON r.id = d.id AND r.attempts = d.attempts
	WHERE d.id = ANY($1) AND d.id BETWEEN $4 AND $5 AND d.status = 'dead'
	ON CONFLICT DO NOTHING
	RETURNING id, delivery_id, event_id, endpoint_id, tenant_id, event_type, attempts, last_response_status, last_error_kind, last_error`

// resultRows are the results that change something, as recordSQL's columns, in
// types that the driver encodes without reflection.
type resultRows struct {
	place   map[DeliveryID]int
	results []*result
	counted []bool // what recordSQL has found

	ids              uuids
	fences           []int32
	statuses         []string
	sent             []bool
	responseStatuses []int32
	nextAttempts     []*time.Time
	jobIDs           []*int64
	errorKinds       []string
	errors           []string

	dead struct {
		ids          uuids
		attempts     []int32
		fingerprints []string
	}
}

func newResultRows(batch []result) *resultRows {
	n := len(batch)
	r := &resultRows{
		place: make(map[DeliveryID]int, n), results: make([]*result, 0, n),
		ids: make(uuids, 0, n), fences: make([]int32, 0, n), statuses: make([]string, 0, n),
		sent: make([]bool, 0, n), responseStatuses: make([]int32, 0, n),
		nextAttempts: make([]*time.Time, 0, n), jobIDs: make([]*int64, 0, n),
		errorKinds: make([]string, 0, n), errors: make([]string, 0, n),
	}
	for i := range batch {
		if batch[i].released == "" {
			r.add(&batch[i])
		}
	}
	r.counted = make([]bool, len(r.ids))
	return r
}

// notSent is the attempt of a delivery that was settled without one.
var notSent = &attempt{}

func (r *resultRows) add(res *result) {
	d, a := res.delivery, res.attempt
	message := res.outcome.reason
	if a == nil {
		a = notSent
	} else {
		message = a.verdict.Message
	}
	r.place[d.id] = len(r.ids)
	r.results = append(r.results, res)
	r.ids = append(r.ids, uuidOf(d.id))
	r.fences = append(r.fences, int32(d.attempts))
	r.statuses = append(r.statuses, string(res.outcome.status))
	r.sent = append(r.sent, a != notSent)
	r.responseStatuses = append(r.responseStatuses, int32(a.status))
	r.nextAttempts = append(r.nextAttempts, nil)
	r.jobIDs = append(r.jobIDs, nil)
	r.errorKinds = append(r.errorKinds, string(a.verdict.Kind))
	r.errors = append(r.errors, storable(message))
	if res.outcome.status == Dead {
		r.dead.ids = append(r.dead.ids, r.ids[len(r.ids)-1])
		r.dead.attempts = append(r.dead.attempts, int32(d.attempts+1))
		r.dead.fingerprints = append(r.dead.fingerprints, fingerprint(a.verdict.Kind, a.status))
	}
}

// retryAt sets when a retrying delivery is due and which job owns it.
func (r *resultRows) retryAt(id DeliveryID, at time.Time, jobID int64) {
	i := r.place[id]
	r.nextAttempts[i], r.jobIDs[i] = &at, &jobID
}

// arguments leaves out the columns that say nothing of any result, as those on
// failures do when all is well: unnest gives NULLs for them.
func (r *resultRows) arguments() []any {
	least, greatest := bounds(r.ids)
	return []any{r.ids, r.fences, r.statuses, r.sent, r.responseStatuses, unlessEmpty(r.nextAttempts), unlessEmpty(r.jobIDs),
		unlessEmpty(r.errorKinds), unlessEmpty(r.errors), least, greatest}
}

// scanCounted reads which results counted; the places begin with one.
func (r *resultRows) scanCounted(rows pgx.Rows) error {
	var place int64
	_, err := pgx.ForEachRow(rows, []any{&place}, func() error {
		r.counted[place-1] = true
		return nil
	})
	return err
}

// counts are how many results counted, by the deliveries' new states.
func (r *resultRows) counts() map[Status]int64 {
	counts := map[Status]int64{}
	for i, counted := range r.counted {
		if counted {
			counts[r.results[i].outcome.status]++
		}
	}
	return counts
}

// addAttempts adds those whose results counted, as copyAttemptsSQL's rows, and returns
// how many.
func (r *resultRows) addAttempts(rows *copyRows) (n int) {
	for i, res := range r.results {
		if r.counted[i] && res.attempt != nil {
			res.attempt.addTo(rows, r.ids[i], r.fences[i]+1)
			n++
		}
	}
	return n
}

// addTo adds the attempt as a row of copyAttemptsSQL.
func (a *attempt) addTo(rows *copyRows, delivery pgtype.UUID, number int32) {
	rows.row(11)
	rows.uuid(delivery)
	rows.int4(number)
	rows.timestamptz(a.startedAt)
	rows.int8(a.duration.Microseconds())
	rows.int4(int32(a.endpointVersion))
	rows.text(a.requestHeaders)
	if a.status == 0 {
		rows.null()
		rows.null()
	} else {
		rows.int4(int32(a.status))
		rows.text(a.responseHeaders)
	}
	rows.bytea(a.responseBody)
	rows.textOrNull(string(a.verdict.Kind))
	rows.textOrNull(storable(a.verdict.Message))
}

// unlessEmpty is the column, or nil when every value is the zero one.
func unlessEmpty[T comparable](column []T) []T {
	var zero T
	for _, v := range column {
		if v != zero {
			return column
		}
	}
	return nil
}

func (r *resultRows) deadArguments() []any {
	least, greatest := bounds(r.dead.ids)
	return []any{r.dead.ids, r.dead.attempts, r.dead.fingerprints, least, greatest}
}
