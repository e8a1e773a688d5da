package dispatcher

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/internal/pgtest"
	"github.com/posthorn/posthorn/internal/typeid"
	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

func TestParseHeaders(t *testing.T) {
	t.Parallel()
	for lines, want := range map[string][]Header{
		"":                          {},
		"a: b":                      {{"a", "b"}},
		"a: b\nc:d\r\n":             {{"a", "b"}, {"c", "d"}},
		"a: b: c\n":                 {{"a", "b: c"}},
		"a:\na: 2\n":                {{"a", ""}, {"a", "2"}},
		"no header\na: b":           {{"a", "b"}},
		"x-odd:  spaces \tinside  ": {{"x-odd", "spaces \tinside"}},
	} {
		if got := parseHeaders(lines); !slices.Equal(got, want) || got == nil {
			t.Errorf("%q gives %v, want %v", lines, got, want)
		}
	}
}

func TestIDFloorHasNoTimesBeforeIds(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{{}, time.Unix(0, 0), time.Unix(-1, 0), time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if got := idFloor(at); !got.IsZero() {
			t.Errorf("the floor of %s is %s", at, got)
		}
	}
	now := time.Now()
	if made := typeid.NewAt[deliveryKind](now); idFloor(now).Compare(made) > 0 || idFloor(now.Add(time.Millisecond)).Compare(made) <= 0 {
		t.Errorf("%s does not lie at %s", made, now)
	}
}

func TestLogFindsNothingInNothing(t *testing.T) {
	t.Parallel()
	log := NewLog(pgtest.New(t).Pool)
	_, deliveryErr := log.Delivery(t.Context(), "", typeid.New[deliveryKind]())
	_, _, attemptsErr := log.Attempts(t.Context(), "", typeid.New[deliveryKind](), 0, 10)
	_, deadLetterErr := log.DeadLetter(t.Context(), "", typeid.New[deadLetterKind]())
	_, routingErr := log.Routing(t.Context(), outbox.Place{})
	for _, err := range []error{deliveryErr, attemptsErr, deadLetterErr, routingErr} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("err = %v", err)
		}
	}
}

func TestEveryCombinationOfFiltersIsAStatement(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := t.Context()
	prepare := func(sql string, args []any) {
		t.Helper()
		conn, err := db.Pool.Acquire(ctx)
		must(t, err)
		defer conn.Release()
		prepared, err := conn.Conn().Prepare(ctx, "", sql)
		if err != nil {
			t.Errorf("%s: %v", sql, err)
		} else if len(prepared.ParamOIDs) != len(args) {
			t.Errorf("%s has %d parameters and %d arguments", sql, len(prepared.ParamOIDs), len(args))
		}
	}
	for bits := range 1 << 9 {
		var f DeliveryFilter
		on := func(bit int) bool { return bits&(1<<bit) != 0 }
		if on(0) {
			f.TenantID = "a"
		}
		if on(1) {
			f.EndpointID, _ = subscriptions.ParseEndpointID("ep_00000000000000000000000001")
		}
		if on(2) {
			f.EventID, _ = outbox.ParseEventID("evt_00000000000000000000000001")
		}
		if on(3) {
			f.EventType = "a"
		}
		if on(4) {
			f.Status = Dead
		}
		if on(5) {
			f.ResponseStatus = 500
		}
		if on(6) {
			f.Since = time.Now()
		}
		if on(7) {
			f.Until = time.Now()
		}
		if on(8) {
			f.Before = typeid.New[deliveryKind]()
		}
		prepare(f.query(10))
	}
	prepare(DeadLetterFilter{}.query(10))
	prepare(DeadLetterFilter{TenantID: "a", EventType: "a", Resolved: true, Before: typeid.New[deadLetterKind]()}.query(10))
}

func TestAPageOfAttemptsIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	_, err := b.Pool.Exec(ctx, `SELECT posthorn.set_max_payload_bytes(4 << 20)`)
	must(t, err)
	e, _ := b.endpoint(t, "https://127.0.0.1/")
	var event outbox.EventID
	must(t, pgx.BeginFunc(ctx, b.Pool, func(tx pgx.Tx) (err error) {
		event, err = outbox.Publish(ctx, tx, outbox.Event{Type: "a", Payload: []byte(`"` + strings.Repeat("x", 3<<20) + `"`)})
		return err
	}))
	var id DeliveryID
	must(t, b.Pool.QueryRow(ctx, `INSERT INTO posthorn.deliveries (id, event_id, event_created_at, endpoint_id, tenant_id, event_type)
		SELECT posthorn.uuid_v7(), id, created_at, $2, tenant_id, event_type FROM posthorn.outbox WHERE id = $1 RETURNING id`, event, e.ID).Scan(&id))
	_, err = b.Pool.Exec(ctx, `INSERT INTO posthorn.attempts (delivery_id, number, started_at, duration_us, endpoint_version, request_headers)
		SELECT $1, n, now(), 1, 1, '' FROM generate_series(1, 5) AS n`, id)
	must(t, err)

	log := NewLog(b.Pool)
	var numbers []int
	var sizes []int
	for before := 0; ; {
		page, more, err := log.Attempts(ctx, "", id, before, 50)
		must(t, err)
		sizes = append(sizes, len(page))
		for _, a := range page {
			numbers = append(numbers, a.Number)
			if len(a.RequestBody) < 3<<20 {
				t.Errorf("attempt %d has a body of %d bytes", a.Number, len(a.RequestBody))
			}
		}
		if !more {
			break
		}
		before = page[len(page)-1].Number
	}
	if !slices.Equal(numbers, []int{5, 4, 3, 2, 1}) || !slices.Equal(sizes, []int{2, 2, 1}) {
		t.Errorf("attempts %v in pages of %v", numbers, sizes)
	}
}

// volumeSQL is as many deliveries as make PostgreSQL prefer an index where there is one.
var volumeSQL = []string{
	`INSERT INTO posthorn.endpoints (id, tenant_id, url, event_types, version, revision)
		SELECT md5('endpoint' || n)::uuid, 'tenant' || n / 2, 'https://a.example', '{*}', 1, 1 FROM generate_series(0, 999) AS n`,
	`INSERT INTO posthorn.endpoint_versions (endpoint_id, version, revision, tenant_id, url, event_types, payload_format, status, deleted)
		SELECT id, 1, 1, tenant_id, url, event_types, payload_format, status, false FROM posthorn.endpoints`,
	`INSERT INTO posthorn.deliveries (id, event_id, event_created_at, endpoint_id, tenant_id, event_type)
		SELECT posthorn.uuid_v7(now() - n * interval '1 millisecond'), md5('event' || n / 2)::uuid, now(),
			md5('endpoint' || n % 1000)::uuid, 'tenant' || n % 1000 / 2, 'order.paid'
		FROM generate_series(1, 100000) AS n`,
	`ANALYZE posthorn.endpoint_versions, posthorn.deliveries`,
}

func TestListsOfDeliveriesUseAnIndexAtVolume(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx := t.Context()
	for _, sql := range volumeSQL {
		_, err := db.Pool.Exec(ctx, sql)
		must(t, err)
	}
	var endpoint subscriptions.EndpointID
	var event outbox.EventID
	must(t, db.Pool.QueryRow(ctx, `SELECT md5('endpoint7')::uuid, md5('event7')::uuid`).Scan(&endpoint, &event))
	for name, c := range map[string]struct {
		filter DeliveryFilter
		index  string
	}{
		"All":      {DeliveryFilter{}, "_pkey"},
		"Tenant":   {DeliveryFilter{TenantID: "tenant7"}, "_endpoint_id_id_idx"},
		"Endpoint": {DeliveryFilter{EndpointID: endpoint}, "_endpoint_id_id_idx"},
		"Event":    {DeliveryFilter{EventID: event}, "_event_id_idx"},
		"Time":     {DeliveryFilter{Since: time.Now().Add(-50 * time.Second), Until: time.Now().Add(-49 * time.Second)}, "_pkey"},
		"TenantAndTime": {DeliveryFilter{TenantID: "tenant7", Since: time.Now().Add(-time.Minute), Before: typeid.New[deliveryKind]()},
			"_endpoint_id_id_idx"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sql, args := c.filter.query(51)
			rows, err := db.Pool.Query(ctx, `EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) `+sql, args...)
			must(t, err)
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			must(t, err)
			plan := strings.Join(lines, "\n")
			today := "deliveries_" + time.Now().UTC().Format("20060102")
			if strings.Contains(plan, "Seq Scan on "+today) || !strings.Contains(plan, c.index) {
				t.Errorf("no index %s in the plan:\n%s", c.index, plan)
			}
		})
	}
}
