package api_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/posthorn/posthorn/outbox"
)

const manyDeliveriesSQL = `INSERT INTO posthorn.deliveries (id, event_id, event_created_at, endpoint_id, tenant_id, event_type)
	SELECT posthorn.uuid_v7(clock_timestamp() - $3 * interval '1 second' + n * interval '1 microsecond'), gen_random_uuid(), now(), $1, $2, 'order.paid'
	FROM generate_series(1, $4::int) AS n`

func TestAWalkHasNoGapsAndNoRepeatsWhileMoreArrive(t *testing.T) {
	t.Parallel()
	b := setup(t)
	endpoint := b.endpoint(t, "shop_1", "*")
	arrive := func(n int) { b.exec(t, manyDeliveriesSQL, endpoint, "shop_1", 0, n) }
	b.exec(t, manyDeliveriesSQL, endpoint, "shop_1", 60, 250) // many in one millisecond
	b.exec(t, manyDeliveriesSQL, b.endpoint(t, "shop_2", "*"), "shop_2", 60, 250)
	var want []string
	rows, err := b.Pool.Query(t.Context(), `SELECT posthorn.public_id('dlv', id) FROM posthorn.deliveries WHERE tenant_id = 'shop_1' ORDER BY id DESC`)
	must(t, err)
	for rows.Next() {
		var id string
		must(t, rows.Scan(&id))
		want = append(want, id)
	}
	must(t, rows.Err())

	for name, query := range map[string]string{"ByTenant": "tenant_id=shop_1", "ByEndpoint": "tenant_id=shop_1&endpoint_id=" + endpoint.String()} {
		t.Run(name, func(t *testing.T) {
			var got []string
			target := "/v1/deliveries?limit=37&" + query
			for page := target; ; {
				l := client{t, b, bootstrapKey}.get(page).list()
				if l.HasMore != (l.NextCursor != nil) || l.HasMore && len(l.Data) != 37 {
					t.Fatalf("a page of %d, has_more %v, next_cursor %v", len(l.Data), l.HasMore, l.NextCursor)
				}
				got = append(got, l.ids()...)
				if !l.HasMore {
					break
				}
				arrive(5)
				page = target + "&cursor=" + *l.NextCursor
			}
			if got = got[len(got)-min(len(got), len(want)):]; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("walked over %d of %d", len(got), len(want))
			}
		})
	}
}

func TestEventsOfOneTransactionAreWalkedOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, `INSERT INTO posthorn.outbox (id, event_type, payload) SELECT gen_random_uuid(), 'a', '1' FROM generate_series(1, 25)`)
	b.publish(t, outbox.Event{Type: "b", Payload: []byte(`1`)})
	seen := map[string]bool{}
	for page := "/v1/events?limit=10"; ; {
		l := b.operator(t).get(page).list()
		for _, id := range l.ids() {
			if seen[id] {
				t.Errorf("%s comes twice", id)
			}
			seen[id] = true
		}
		if !l.HasMore {
			break
		}
		page = "/v1/events?limit=10&cursor=" + *l.NextCursor
	}
	if len(seen) != 26 {
		t.Errorf("walked over %d of 26 events", len(seen))
	}
}

func TestForeignCursorsAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	endpoint := b.endpoint(t, "shop_1", "*")
	b.endpoint(t, "shop_1", "*")
	b.exec(t, manyDeliveriesSQL, endpoint, "shop_1", 60, 3)
	shop, op := b.subscriber(t, "shop_1"), b.operator(t)
	good := *shop.get("/v1/deliveries?limit=1").list().NextCursor
	shop.get("/v1/deliveries?cursor=" + good).want(200)

	raw, err := base64.RawURLEncoding.DecodeString(good)
	must(t, err)
	changed := func(i int) string {
		c := append([]byte(nil), raw...)
		c[i] ^= 1
		return base64.RawURLEncoding.EncodeToString(c)
	}
	for name, cursor := range map[string]string{
		"Empty": "", "NoBase64": "!!!!", "Cut": good[:len(good)-4], "Longer": good + "AAAA", "AnotherVersion": changed(0),
		"AnotherPlace": changed(9), "AnotherChecksum": changed(len(raw) - 1), "AnId": endpoint.String(),
		"OfAnotherTenant": *op.get("/v1/deliveries?limit=1").list().NextCursor,
		"OfAnotherList":   *shop.get("/v1/endpoints?limit=1").list().NextCursor,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client{t, b, shop.key}.get("/v1/deliveries?cursor="+cursor).refused(400, "invalid_cursor")
		})
	}
	t.Run("OnEveryList", func(t *testing.T) {
		t.Parallel()
		h := b.history(t, "shop_3")
		for _, l := range []string{"endpoints", "events", "deliveries", "dead-letters", "deliveries/" + h.delivery.String() + "/attempts"} {
			client{t, b, bootstrapKey}.get("/v1/"+l+"?cursor="+good).refused(400, "invalid_cursor")
		}
	})
}

func TestRefusedQueriesNameTheParameter(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for query, words := range map[string]string{
		"limit=0":             "at least 1",
		"limit=101":           "at most 100",
		"limit=ten":           "must be a whole number, not text",
		"limit=99999999999":   "must be a whole number",
		"limit=1&limit=2":     "more than once",
		"status=lost":         "must be one of pending, retrying",
		"since=yesterday":     "RFC 3339",
		"until=2026-13-01":    "RFC 3339",
		"endpoint_id=ep_x":    "is not an id",
		"event_id=" + "dlv_x": "is not an id",
		"tenant_id=%00":       "NUL",
		"tenant_id=%ff":       "UTF-8",
		"tenant_id=":          "at least 1 character",
		"response_status=5xx": "whole number",
		"stauts=dead":         "no parameter",
		"event_type=%00":      "NUL",
	} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			p := b.operator(t).get("/v1/deliveries?"+query).refused(422, "validation_failed")
			name, _, _ := strings.Cut(query, "=")
			if len(p.Errors) != 1 || p.Errors[0].Pointer != "/"+name || !strings.Contains(p.Errors[0].Detail, words) {
				t.Errorf("errors %q, want one at /%s with %q", p.Errors, name, words)
			}
		})
	}
	b.operator(t).get("/v1/deliveries?limit=%zz").refused(400, "bad_request")
	b.operator(t).get("/v1/dead-letters?resolved=yes").refused(422, "validation_failed")
}
