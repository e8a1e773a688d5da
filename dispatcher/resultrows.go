package dispatcher

import "time"

// planByKeySQL has PostgreSQL find the batch's deliveries by their keys, once, and
// join them by hash. Left alone it guesses ten rows for arrays of any length, and
// nothing of partitions that have just begun to fill, and would compare every
// result with every delivery or read a partition whole.
const planByKeySQL = `SELECT set_config('enable_seqscan', 'off', true),
	set_config('enable_nestloop', 'off', true), set_config('enable_mergejoin', 'off', true)`

// recordSQL writes results. A result counts only while its delivery is
// unfinished and stands at the attempt it was made for (fencing); what does not
// count is not logged either, because another's result has taken its number.
//
// That d.id is one of $1 and within bounds follows from the join; said again, the
// one gives the rows by their key and the other opens only their partitions.
const recordSQL = `
	WITH counted AS (
		UPDATE posthorn.deliveries d SET
			status = r.status,
			attempts = r.fence + (r.started_at IS NOT NULL)::int,
			next_attempt_at = r.next_attempt_at,
			job_id = CASE WHEN r.status <> 'held' THEN coalesce(r.job_id, d.job_id) END,
			last_response_status = CASE WHEN r.started_at IS NULL THEN d.last_response_status ELSE nullif(r.response_status, 0) END,
			last_error_kind = CASE WHEN r.started_at IS NULL THEN d.last_error_kind ELSE nullif(r.error_kind, '') END,
			last_error = CASE WHEN r.started_at IS NULL THEN coalesce(nullif(r.error, ''), d.last_error) ELSE nullif(r.error, '') END,
			finished_at = CASE WHEN r.status NOT IN ('retrying', 'held') THEN now() END,
			ordering_position = CASE WHEN r.status IN ('retrying', 'held') THEN d.ordering_position END
		FROM unnest($1::uuid[], $2::int[], $3::text[], $4::timestamptz[], $5::bigint[],
			$6::text[], $7::text[], $8::timestamptz[], $9::bigint[], $10::int[],
			$11::text[], $12::int[], $13::text[], $14::bytea[])
		AS r (delivery_id, fence, status, next_attempt_at, job_id,
			error_kind, error, started_at, duration_us, endpoint_version,
			request_headers, response_status, response_headers, response_body)
		WHERE d.id = r.delivery_id AND d.id = ANY($1) AND d.id BETWEEN $15 AND $16
		  AND d.attempts = r.fence AND d.status IN ('pending', 'retrying')
		RETURNING r.*
	), logged AS (
		INSERT INTO posthorn.attempts (delivery_id, number, started_at, duration_us, endpoint_version, request_headers,
			response_status, response_headers, response_body, error_kind, error)
		SELECT delivery_id, fence + 1, started_at, duration_us, endpoint_version, request_headers,
			nullif(response_status, 0), CASE WHEN response_status <> 0 THEN response_headers END, response_body,
			nullif(error_kind, ''), nullif(error, '')
		FROM counted WHERE started_at IS NOT NULL
	)
	SELECT status, count(*) FROM counted GROUP BY status`

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
	place map[DeliveryID]int

	ids              uuids
	fences           []int32
	statuses         []string
	nextAttempts     []*time.Time
	jobIDs           []*int64
	errorKinds       []string
	errors           []string
	startedAt        []*time.Time
	durations        []int64
	endpointVersions []int32
	requestHeaders   []string
	responseStatuses []int32
	responseHeaders  []string
	responseBodies   [][]byte

	dead struct {
		ids          uuids
		attempts     []int32
		fingerprints []string
	}
}

func newResultRows(batch []result) *resultRows {
	n := len(batch)
	r := &resultRows{
		place: make(map[DeliveryID]int, n),
		ids:   make(uuids, 0, n), fences: make([]int32, 0, n), statuses: make([]string, 0, n),
		nextAttempts: make([]*time.Time, 0, n), jobIDs: make([]*int64, 0, n),
		errorKinds: make([]string, 0, n), errors: make([]string, 0, n),
		startedAt: make([]*time.Time, 0, n), durations: make([]int64, 0, n), endpointVersions: make([]int32, 0, n),
		requestHeaders: make([]string, 0, n), responseStatuses: make([]int32, 0, n),
		responseHeaders: make([]string, 0, n), responseBodies: make([][]byte, 0, n),
	}
	for i := range batch {
		if batch[i].released == "" {
			r.add(&batch[i])
		}
	}
	return r
}

// notSent is the attempt of a delivery that was settled without one.
var notSent = &attempt{}

func (r *resultRows) add(res *result) {
	d, a := res.delivery, res.attempt
	message := res.outcome.reason
	var startedAt *time.Time
	if a == nil {
		a = notSent
	} else {
		message, startedAt = a.verdict.Message, &a.startedAt
	}
	r.place[d.id] = len(r.ids)
	r.ids = append(r.ids, uuidOf(d.id))
	r.fences = append(r.fences, int32(d.attempts))
	r.statuses = append(r.statuses, string(res.outcome.status))
	r.nextAttempts = append(r.nextAttempts, nil)
	r.jobIDs = append(r.jobIDs, nil)
	r.errorKinds = append(r.errorKinds, string(a.verdict.Kind))
	r.errors = append(r.errors, storable(message))
	r.startedAt = append(r.startedAt, startedAt)
	r.durations = append(r.durations, a.duration.Microseconds())
	r.endpointVersions = append(r.endpointVersions, int32(a.endpointVersion))
	r.requestHeaders = append(r.requestHeaders, a.requestHeaders)
	r.responseStatuses = append(r.responseStatuses, int32(a.status))
	r.responseHeaders = append(r.responseHeaders, a.responseHeaders)
	r.responseBodies = append(r.responseBodies, a.responseBody)
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
	return []any{r.ids, r.fences, r.statuses, unlessEmpty(r.nextAttempts), unlessEmpty(r.jobIDs),
		unlessEmpty(r.errorKinds), unlessEmpty(r.errors), r.startedAt, r.durations, r.endpointVersions,
		r.requestHeaders, r.responseStatuses, r.responseHeaders, r.responseBodies, least, greatest}
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
