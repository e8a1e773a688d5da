package dispatcher

import "time"

// recordSQL writes results. A result counts only while its delivery is
// unfinished and stands at the attempt it was made for (fencing); what does not
// count is not logged either, because another's result has taken its number.
//
// The bounds on id let PostgreSQL open the one or two partitions it needs.
const recordSQL = `
	WITH result AS (
		SELECT * FROM unnest($1::uuid[], $2::int[], $3::text[], $4::timestamptz[], $5::bigint[],
			$6::text[], $7::text[], $8::text[], $9::timestamptz[], $10::bigint[], $11::int[],
			$12::text[], $13::int[], $14::text[], $15::bytea[])
		AS r (delivery_id, fence, status, next_attempt_at, job_id,
			error_kind, error, fingerprint, started_at, duration_us, endpoint_version,
			request_headers, response_status, response_headers, response_body)
	), counted AS (
		UPDATE posthorn.deliveries d SET
			status = r.status,
			attempts = r.fence + (r.started_at IS NOT NULL)::int,
			next_attempt_at = r.next_attempt_at,
			job_id = coalesce(r.job_id, d.job_id),
			last_response_status = CASE WHEN r.started_at IS NULL THEN d.last_response_status ELSE nullif(r.response_status, 0) END,
			last_error_kind = nullif(r.error_kind, ''),
			last_error = nullif(r.error, ''),
			finished_at = CASE WHEN r.status <> 'retrying' THEN now() END
		FROM result r
		WHERE d.id = r.delivery_id AND d.id BETWEEN $16 AND $17
		  AND d.attempts = r.fence AND d.status IN ('pending', 'retrying')
		RETURNING d.id, d.event_id, d.event_created_at, d.endpoint_id, d.tenant_id, d.event_type, d.attempts, d.status,
			d.last_response_status, d.last_error_kind, d.last_error
	), logged AS (
		INSERT INTO posthorn.attempts (delivery_id, number, started_at, duration_us, endpoint_version, request_headers,
			response_status, response_headers, response_body, error_kind, error)
		SELECT r.delivery_id, r.fence + 1, r.started_at, r.duration_us, r.endpoint_version, r.request_headers,
			nullif(r.response_status, 0), CASE WHEN r.response_status <> 0 THEN r.response_headers END, r.response_body,
			nullif(r.error_kind, ''), nullif(r.error, '')
		FROM result r WHERE r.started_at IS NOT NULL AND r.delivery_id IN (SELECT id FROM counted)
	), dead AS (
		INSERT INTO posthorn.dead_letters (id, delivery_id, event_id, event_created_at, endpoint_id, tenant_id, event_type,
			attempts, last_response_status, last_error_kind, last_error, fingerprint)
		SELECT posthorn.uuid_v7(), c.id, c.event_id, c.event_created_at, c.endpoint_id, c.tenant_id, c.event_type,
			c.attempts, c.last_response_status, c.last_error_kind, c.last_error, r.fingerprint
		FROM counted c JOIN result r ON r.delivery_id = c.id WHERE c.status = 'dead'
	)
	SELECT count(*) FROM counted`

// resultRows are the results that change something, as recordSQL's columns.
type resultRows struct {
	place map[DeliveryID]int

	ids              []DeliveryID
	fences           []int32
	statuses         []Status
	nextAttempts     []*time.Time
	jobIDs           []*int64
	errorKinds       []ErrorKind
	errors           []string
	fingerprints     []string
	startedAt        []*time.Time
	durations        []int64
	endpointVersions []int32
	requestHeaders   []string
	responseStatuses []int32
	responseHeaders  []string
	responseBodies   [][]byte

	least, greatest DeliveryID
}

func newResultRows(batch []result) *resultRows {
	r := &resultRows{place: make(map[DeliveryID]int, len(batch))}
	for i := range batch {
		if !batch[i].letGo {
			r.add(&batch[i])
		}
	}
	return r
}

func (r *resultRows) add(res *result) {
	d, a := res.delivery, res.attempt
	if len(r.ids) == 0 || d.id.Compare(r.least) < 0 {
		r.least = d.id
	}
	if len(r.ids) == 0 || d.id.Compare(r.greatest) > 0 {
		r.greatest = d.id
	}
	r.place[d.id] = len(r.ids)
	r.ids = append(r.ids, d.id)
	r.fences = append(r.fences, int32(d.attempts))
	r.statuses = append(r.statuses, res.outcome.status)
	r.nextAttempts = append(r.nextAttempts, nil)
	r.jobIDs = append(r.jobIDs, nil)
	if a == nil {
		a = &attempt{verdict: Verdict{Message: res.outcome.reason}}
		r.startedAt = append(r.startedAt, nil)
	} else {
		r.startedAt = append(r.startedAt, &a.startedAt)
	}
	r.errorKinds = append(r.errorKinds, a.verdict.Kind)
	r.errors = append(r.errors, storable(a.verdict.Message))
	r.fingerprints = append(r.fingerprints, fingerprint(a.verdict.Kind, a.status))
	r.durations = append(r.durations, a.duration.Microseconds())
	r.endpointVersions = append(r.endpointVersions, int32(a.endpointVersion))
	r.requestHeaders = append(r.requestHeaders, a.requestHeaders)
	r.responseStatuses = append(r.responseStatuses, int32(a.status))
	r.responseHeaders = append(r.responseHeaders, a.responseHeaders)
	r.responseBodies = append(r.responseBodies, a.responseBody)
}

// retryAt sets when a retrying delivery is due and which job owns it.
func (r *resultRows) retryAt(id DeliveryID, at time.Time, jobID int64) {
	i := r.place[id]
	r.nextAttempts[i], r.jobIDs[i] = &at, &jobID
}

func (r *resultRows) arguments() []any {
	return []any{r.ids, r.fences, r.statuses, r.nextAttempts, r.jobIDs,
		r.errorKinds, r.errors, r.fingerprints, r.startedAt, r.durations, r.endpointVersions,
		r.requestHeaders, r.responseStatuses, r.responseHeaders, r.responseBodies, r.least, r.greatest}
}
