package sample

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// patience bounds every wait for something that is about to happen.
const patience = 20 * time.Second

// output keeps what is written to it and tells of each line.
type output struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	lines chan string
}

func newOutput() *output { return &output{lines: make(chan string, 1000)} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lines <- string(p)
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// await returns the next line that contains text.
func (o *output) await(t *testing.T, text string) string {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case line := <-o.lines:
			if strings.Contains(line, text) {
				return line
			}
		case <-deadline:
			t.Fatalf("no line has %q; all: %s", text, o)
		}
	}
}

func (o *output) logger() *slog.Logger { return slog.New(slog.NewTextHandler(o, nil)) }

// next returns what comes next from a channel.
func next[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(patience):
		t.Fatal("nothing comes")
		panic("unreachable")
	}
}

// post makes a POST and decodes the JSON of the answer into a map.
func post(t *testing.T, url, body string) (int, map[string]any) {
	t.Helper()
	response, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, decode(t, response)
}

func get(t *testing.T, url string) map[string]any {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, response)
}

func decode(t *testing.T, response *http.Response) map[string]any {
	t.Helper()
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var value map[string]any
	if len(text) > 0 {
		if err := json.Unmarshal(text, &value); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return value
}

// published is what the outbox holds of an event.
type published struct {
	EventType   string
	TenantID    string
	OrderingKey string
	OrderID     int64
	Status      string
}

const publishedSQL = `
	SELECT event_type, tenant_id, ordering_key,
	       (payload->>'order_id')::bigint AS order_id, payload->>'status' AS status
	FROM posthorn.outbox ORDER BY (payload->>'order_id')::bigint, event_type`

func outboxRows(t *testing.T, db *pgtest.DB) []published {
	t.Helper()
	rows, err := db.Pool.Query(t.Context(), publishedSQL)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByName[published])
	if err != nil {
		t.Fatal(err)
	}
	return all
}
