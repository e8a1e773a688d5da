package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/api"
	"github.com/posthorn/posthorn/internal/netguard"
	"github.com/posthorn/posthorn/internal/volume"
	"github.com/posthorn/posthorn/subscriptions"
)

// deliveriesStored is how many the test of the lists stores; POSTHORN_TEST_VOLUME
// says otherwise.
func deliveriesStored(t *testing.T) int {
	t.Helper()
	text := os.Getenv("POSTHORN_TEST_VOLUME")
	if text == "" {
		return 1_000_000
	}
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}

// rareSQL puts what is rare into the oldest day, where it is hardest to find: dead,
// retrying, held and cancelled deliveries of one tenant; and it makes many resolved
// dead letters beside a few open ones.
var rareSQL = []string{
	`UPDATE posthorn.deliveries SET last_response_status = 503, finished_at = NULL, attempts = 10,
			status = (ARRAY['dead', 'retrying', 'held', 'cancelled'])[1 + get_byte(uuid_send(id), 15) % 4],
			next_attempt_at = CASE get_byte(uuid_send(id), 15) % 4 WHEN 1 THEN now() + interval '1 hour' END
		WHERE id = ANY(ARRAY(SELECT id FROM posthorn.deliveries WHERE endpoint_id = md5('endpoint 11')::uuid ORDER BY id LIMIT 100))`,
	`INSERT INTO posthorn.dead_letters (id, delivery_id, event_id, event_created_at, endpoint_id, tenant_id, event_type, attempts,
			last_error_kind, last_error, fingerprint, dead_at)
		SELECT posthorn.uuid_v7(created_at), id, event_id, event_created_at, endpoint_id, tenant_id, event_type, attempts, 'http_status', 'it answered 503', 'x', created_at
		FROM posthorn.deliveries WHERE aside = 'dead'`,
	`INSERT INTO posthorn.dead_letters (id, delivery_id, event_id, event_created_at, endpoint_id, tenant_id, event_type, attempts,
			last_error_kind, last_error, fingerprint, resolved_at, resolution)
		SELECT posthorn.uuid_v7(now() - n * interval '1 second'), gen_random_uuid(), gen_random_uuid(), now(), md5('endpoint ' || n % 1000)::uuid,
			'tenant-' || n % 1000 / 5, 'order.kind_' || n % 10, 10, 'http_status', 'it answered 503', 'x', now(), 'discarded' FROM generate_series(1, 50000) AS n`,
	`VACUUM ANALYZE posthorn.deliveries, posthorn.dead_letters, posthorn.outbox, posthorn.routings`,
}

// statement is one that the API has made.
type statement struct {
	sql  string
	args []any
}

// recorder keeps the statements of a pool.
type recorder struct {
	mu   sync.Mutex
	made []statement
}

// TraceQueryStart implements pgx.QueryTracer.
func (r *recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.made = append(r.made, statement{q.SQL, q.Args})
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (r *recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TraceBatchStart implements pgx.BatchTracer.
func (r *recorder) TraceBatchStart(ctx context.Context, _ *pgx.Conn, b pgx.TraceBatchStartData) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range b.Batch.QueuedQueries {
		r.made = append(r.made, statement{q.SQL, q.Arguments})
	}
	return ctx
}

// TraceBatchQuery implements pgx.BatchTracer.
func (r *recorder) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements pgx.BatchTracer.
func (r *recorder) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func (r *recorder) take() []statement {
	r.mu.Lock()
	defer r.mu.Unlock()
	made := r.made
	r.made = nil
	return made
}

// node is a node of a plan.
type node struct {
	Type  string  `json:"Node Type"`
	Table string  `json:"Relation Name"`
	Loops float64 `json:"Actual Loops"`
	Hit   int     `json:"Shared Hit Blocks"`
	Read  int     `json:"Shared Read Blocks"`
	Plans []node
}

// wholeReads are the partitions with rows that the plan reads whole.
func (n node) wholeReads(small map[string]bool) (tables []string) {
	if n.Type == "Seq Scan" && n.Loops > 0 && strings.Contains(n.Table, "_20") && !small[n.Table] {
		tables = append(tables, n.Table)
	}
	for _, p := range n.Plans {
		tables = append(tables, p.wholeReads(small)...)
	}
	return tables
}

// cost is what statements cost the database.
type cost struct {
	buffers            int
	planning, executed float64 // milliseconds
	wholeReads         []string
	worst              string
}

// explain has the database make the statements again, in one snapshot as the ledger's.
func explain(t *testing.T, pool *pgxpool.Pool, made []statement, small map[string]bool) (c cost) {
	t.Helper()
	tx, err := pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	must(t, err)
	defer tx.Rollback(t.Context()) //nolint:errcheck // it changes nothing
	for _, s := range made {
		sql := strings.ToLower(strings.TrimSpace(s.sql))
		switch {
		case strings.HasPrefix(sql, "begin"), strings.HasPrefix(sql, "commit"), strings.HasPrefix(sql, "rollback"):
			continue
		case strings.HasPrefix(sql, "select set_config"), strings.HasPrefix(sql, "lock "), strings.HasPrefix(sql, "update posthorn.api_keys"):
			_, err := tx.Exec(t.Context(), s.sql, s.args...)
			must(t, err)
			continue
		}
		var text string
		must(t, tx.QueryRow(t.Context(), `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `+s.sql, s.args...).Scan(&text))
		var plans []struct {
			Plan     node
			Planning float64 `json:"Planning Time"`
			Executed float64 `json:"Execution Time"`
		}
		must(t, json.Unmarshal([]byte(text), &plans))
		p := plans[0]
		buffers := p.Plan.Hit + p.Plan.Read
		if buffers > 500 {
			c.worst += fmt.Sprintf("\n%d buffers, %.1f ms: %s", buffers, p.Executed, s.sql)
		}
		c.buffers, c.planning, c.executed = c.buffers+buffers, c.planning+p.Planning, c.executed+p.Executed
		c.wholeReads = append(c.wholeReads, p.Plan.wholeReads(small)...)
	}
	return c
}

// maxBuffers is how many pages of 8 KiB a request may look at, whatever is stored.
const maxBuffers = 2000

// Every list and every detail, with every filter and the usual combinations, for those
// who see all and those who see one tenant, on the first page and on a deep one.
func TestLists_CostTheSameWhateverIsStored(t *testing.T) {
	t.Parallel()
	made := &recorder{}
	b := setup(t, func(c *api.Config) {
		config, err := pgxpool.ParseConfig(c.Pool.Config().ConnString())
		must(t, err)
		config.ConnConfig.Tracer = made
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		must(t, err)
		t.Cleanup(pool.Close)
		c.Pool = pool
		c.Endpoints = subscriptions.NewStore(pool, nil, netguard.Policy{})
	})
	must(t, volume.Fill(t.Context(), b.Pool, volume.Options{Deliveries: deliveriesStored(t)}))
	for _, sql := range rareSQL {
		_, err := b.Pool.Exec(t.Context(), sql)
		must(t, err)
	}
	v := &walker{t: t, b: b, made: made, small: smallTables(t, b)}
	v.requests()
}

func smallTables(t *testing.T, b *bundle) map[string]bool {
	t.Helper()
	rows, err := b.Pool.Query(t.Context(), `SELECT relname::text FROM pg_class WHERE relnamespace = 'posthorn'::regnamespace AND relkind = 'r' AND pg_relation_size(oid) < 65536`)
	must(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	small := map[string]bool{}
	for _, name := range names {
		small[name] = true
	}
	return small
}

// walker asks for everything and weighs what that costs.
type walker struct {
	t     *testing.T
	b     *bundle
	made  *recorder
	small map[string]bool
}

func (w *walker) id(prefix, sql string) string {
	w.t.Helper()
	var id string
	must(w.t, w.b.Pool.QueryRow(w.t.Context(), `SELECT posthorn.public_id($1, (`+sql+`))`, prefix).Scan(&id))
	return id
}

func (w *walker) requests() {
	endpoint := w.id("ep", `SELECT md5('endpoint 3')::uuid`)
	rare := w.id("ep", `SELECT md5('endpoint 11')::uuid`)
	event := w.id("evt", `SELECT event_id FROM posthorn.deliveries ORDER BY id LIMIT 1`)
	dead := w.id("dlv", `SELECT id FROM posthorn.deliveries WHERE aside = 'dead' LIMIT 1`)
	letter := w.id("dl", `SELECT id FROM posthorn.dead_letters WHERE resolved_at IS NULL LIMIT 1`)
	since := "since=" + url.QueryEscape(w.time(`now() - interval '9 days'`)) + "&until=" + url.QueryEscape(w.time(`now() - interval '4 days'`))

	filters := []string{"", since, "event_type=order.kind_3", "event_type=never.occurs",
		"status=delivered", "status=pending", "status=retrying", "status=held", "status=dead", "status=cancelled",
		"response_status=204", "response_status=503", "response_status=599",
		"status=dead&event_type=order.kind_3", "status=delivered&event_type=never.occurs", "status=dead&response_status=503", since + "&status=dead", since + "&event_type=order.kind_3"}
	for _, of := range []string{"", "endpoint_id=" + endpoint, "endpoint_id=" + rare, "event_id=" + event,
		"tenant_id=" + volume.Big, "tenant_id=" + volume.Small, "tenant_id=tenant-2", "tenant_id=nobody"} {
		for _, filter := range filters {
			w.list(w.b.operator(w.t), "/v1/deliveries?"+of+"&"+filter)
		}
	}
	for _, tenant := range []string{volume.Big, volume.Small, "tenant-2"} {
		for _, filter := range filters {
			w.list(w.b.subscriber(w.t, tenant), "/v1/deliveries?"+filter)
		}
	}
	for _, of := range []string{"", "tenant_id=" + volume.Big, "tenant_id=" + volume.Small} {
		for _, filter := range []string{"", since, "event_type=order.kind_3", "event_type=never.occurs", since + "&event_type=order.kind_3"} {
			w.list(w.b.operator(w.t), "/v1/events?"+of+"&"+filter)
		}
		for _, filter := range []string{"", "resolved=true", "event_type=order.kind_3", "event_type=never.occurs", "resolved=true&event_type=never.occurs", "endpoint_id=" + endpoint, "endpoint_id=" + rare} {
			w.list(w.b.operator(w.t), "/v1/dead-letters?"+of+"&"+filter)
		}
		w.list(w.b.operator(w.t), "/v1/endpoints?"+of)
	}
	for _, one := range []string{"/v1/events/" + event, "/v1/deliveries/" + dead, "/v1/deliveries/" + dead + "/attempts", "/v1/dead-letters/" + letter,
		"/v1/endpoints/" + endpoint, "/v1/endpoints/" + rare, "/v1/ledger"} {
		w.get(w.b.operator(w.t), one)
	}
}

func (w *walker) time(sql string) (text string) {
	must(w.t, w.b.Pool.QueryRow(w.t.Context(), `SELECT to_char((`+sql+`) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')`).Scan(&text))
	return text
}

// list asks for the first page and for three more.
func (w *walker) list(c client, target string) {
	w.t.Helper()
	page := w.get(c, target+"&limit=100").list()
	for n := 0; page.HasMore && n < 3; n++ {
		page = w.get(c, target+"&limit=100&cursor="+*page.NextCursor).list()
	}
}

func (w *walker) get(c client, target string) answer {
	w.t.Helper()
	w.made.take()
	a := c.get(target).want(200)
	cost := explain(w.t, w.b.Pool, w.made.take(), w.small)
	line := fmt.Sprintf("%5d buffers, %5.1f ms planning, %5.1f ms: %s", cost.buffers, cost.planning, cost.executed, strings.ReplaceAll(target, "&&", "&"))
	if cost.buffers > maxBuffers || len(cost.wholeReads) > 0 {
		w.t.Errorf("%s reads too much (whole: %v)%s", line, cost.wholeReads, cost.worst)
	} else {
		w.t.Log(line)
	}
	return a
}
