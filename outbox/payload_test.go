package outbox_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/posthorn/posthorn/internal/pgtest"
	"github.com/posthorn/posthorn/outbox"
)

// oddPayloads are valid, and changed by whoever parses and prints them again.
var oddPayloads = []string{
	`{"order_id": 17}`,
	" \t\r\n { \"a\"  :\t1 ,\n\"b\":[ ] } \r\n\t ",
	`{"b":1,"a":2,"b":3,"b":3}`,
	`{"":{"":""}}`,
	`12345678901234567890123456789.123456789012345678901234567890`,
	`1e999999`, `-0`, `1E+2`, `0.10`, `1.0`, `-0.0e-0`,
	`"\u0000"`, `"a\u0000b"`, `{"\u0000":1}`,
	`"\ud800"`, `"\udc00\ud800"`, `"\uD83D\uDE00"`, `"\u00e9 \/ \b\f\n\r\t"`,
	`"😀 ü ﷽ \u0065\u0301 é"`, "\"\u2028\u2029\u202e\ufeff\"", "\"\x7f\"",
	`"<script>alert(1)</script>"`, `"' OR 1=1; --"`, `"$1 %s \\"`,
	`null`, `true`, `[]`, `""`, `0`,
	strings.Repeat("[", 1000) + strings.Repeat("]", 1000),
}

func TestPayload_IsKeptByteForByte(t *testing.T) {
	t.Parallel()
	tx := begin(t, pgtest.New(t).Pool)
	const read = `SELECT payload::text FROM posthorn.outbox WHERE id = $1`
	for _, payload := range oddPayloads {
		literal := "'" + strings.ReplaceAll(payload, "'", "''") + "'" // as psql sends it
		ids := map[string]outbox.EventID{
			"INSERT":  value[outbox.EventID](t, tx, `INSERT INTO posthorn.outbox (event_type, payload) VALUES ('a', `+literal+`) RETURNING id`),
			"publish": value[outbox.EventID](t, tx, `SELECT posthorn.publish('a', `+literal+`)`),
		}
		id, err := outbox.Publish(t.Context(), tx, outbox.Event{Type: "a", Payload: json.RawMessage(payload)})
		if err != nil {
			t.Errorf("%.80q: %v", payload, err)
			continue
		}
		ids["Publish"] = id
		for by, id := range ids {
			if got := value[string](t, tx, read, id); got != payload {
				t.Errorf("%s: %.80q came back as %.80q", by, payload, got)
			}
		}
	}
}

// Whatever the standard library takes for JSON is kept, and comes back the same.
func TestPayload_IsKeptWhateverItIs(t *testing.T) {
	t.Parallel()
	tx := begin(t, pgtest.New(t).Pool)
	text := rapid.StringN(0, 20, -1).Filter(func(s string) bool { return !strings.ContainsRune(s, 0) })
	space := rapid.StringOfN(rapid.SampledFrom([]rune(" \t\r\n")), 0, 5, -1)
	rapid.Check(t, func(rt *rapid.T) {
		key, _ := json.Marshal(text.Draw(rt, "key"))
		inside, _ := json.Marshal(text.Draw(rt, "value"))
		s := func(label string) string { return space.Draw(rt, label) }
		payload := fmt.Sprintf("%s{%s%s%s:%s%s%s}%s", s("1"), s("2"), key, s("3"), s("4"), inside, s("5"), s("6"))
		got := value[string](t, tx, `WITH i AS (INSERT INTO posthorn.outbox (event_type, payload) VALUES ('a', $1::text::json)
			RETURNING payload::text AS p) SELECT p FROM i`, payload)
		if got != payload {
			rt.Fatalf("%q came back as %q", payload, got)
		}
	})
}

func TestPayload_ThatIsNoJSONIsRefused(t *testing.T) {
	t.Parallel()
	tx := begin(t, pgtest.New(t).Pool)
	const insert = `INSERT INTO posthorn.outbox (event_type, payload) VALUES ('a', $1::text::json)`
	for payload, state := range map[string]string{
		"":                 "22P02",
		" ":                "22P02",
		"{":                "22P02",
		"{'a':1}":          "22P02",
		`{"a":1,}`:         "22P02",
		"01":               "22P02",
		"NaN":              "22P02",
		"1 2":              "22P02",
		"\"\n\"":           "22P02",
		`"\x"`:             "22P02",
		`"\u12"`:           "22P02",
		"' OR 1=1":         "22P02",
		"\ufeff{}":         "22P02", // a byte order mark
		"\"\xff\"":         "22021",
		"\"\xed\xa0\x80\"": "22021", // a surrogate encoded as UTF-8
		"\"\xc0\x80\"":     "22021",
		"\"\x00\"":         "22021",
		nested(100_000):    "54001",
	} {
		wantRefusal(t, payload, attempt(t, tx, insert, payload), state, "")
		_, err := publishInSavepoint(t, tx, outbox.Event{Type: "a", Payload: json.RawMessage(payload)})
		if !errors.Is(err, outbox.ErrInvalid) {
			t.Errorf("Publish(%.80q): %v, want ErrInvalid", payload, err)
		}
	}
	wantRows(t, tx, 0, 0, 0)
}

func nested(depth int) string {
	return strings.Repeat("[", depth) + strings.Repeat("]", depth)
}

// sized is JSON of so many bytes.
func sized(bytes int) string { return `"` + strings.Repeat("x", bytes-2) + `"` }

func TestPayload_IsLimitedTo256KiB(t *testing.T) {
	t.Parallel()
	tx := begin(t, pgtest.New(t).Pool)
	const limit = 262144
	for _, insert := range []string{
		`INSERT INTO posthorn.outbox (event_type, payload) VALUES ('a', $1::text::json)`,
		`SELECT posthorn.publish('a', $1::text::json)`,
	} {
		for _, fits := range []string{sized(limit), `"` + strings.Repeat("ü", limit/2-1) + `"`, strings.Repeat(" ", limit-1) + "1"} {
			if err := attempt(t, tx, insert, fits); err != nil {
				t.Errorf("%s: %d bytes: %v", insert, len(fits), err)
			}
		}
		wantRefusal(t, insert, attempt(t, tx, insert, sized(limit+1)), "23514", "posthorn: payload has 262145 bytes, the limit is 262144")
		wantRefusal(t, insert, attempt(t, tx, insert, `"`+strings.Repeat("ü", limit/2)+`"`), "23514", "payload has 262146 bytes")
	}
}

func TestSetMaxPayloadBytes_MovesTheLimit(t *testing.T) {
	t.Parallel()
	tx := begin(t, pgtest.New(t).Pool)
	const insert = `INSERT INTO posthorn.outbox (event_type, payload) VALUES ('a', $1::text::json)`
	execute(t, tx, insert, sized(2000))
	for _, limit := range []int{1024, 1 << 20, 16 << 20, 4096} {
		// What is stored already stays, although it may be larger.
		execute(t, tx, `SELECT posthorn.set_max_payload_bytes($1)`, limit)
		if err := attempt(t, tx, insert, sized(limit)); err != nil {
			t.Errorf("limit %d: %v", limit, err)
		}
		wantRefusal(t, fmt.Sprint("limit ", limit), attempt(t, tx, insert, sized(limit+1)), "23514",
			fmt.Sprintf("payload has %d bytes, the limit is %d", limit+1, limit))
	}
	for _, limit := range []int{-1, 0, 1023, 16<<20 + 1} {
		err := attempt(t, tx, `SELECT posthorn.set_max_payload_bytes($1)`, limit)
		wantRefusal(t, fmt.Sprint("limit ", limit), err, "P0001", "the payload limit must lie between 1024 and 16777216 bytes")
	}
	// Partitions made later have the limit too.
	execute(t, tx, `UPDATE posthorn.partitioned_tables SET days_ahead = 62 WHERE name = 'outbox'`)
	execute(t, tx, `SELECT posthorn.create_partitions()`)
	err := attempt(t, tx, `INSERT INTO posthorn.outbox (event_type, payload, created_at)
		VALUES ('a', $1::text::json, now() + interval '62 days')`, sized(4097))
	wantRefusal(t, "a new partition", err, "23514", "payload has 4097 bytes")
	if n := value[int](t, tx, countEvents); n != 1 {
		t.Errorf("%d events are stored, want the one of before", n)
	}
}

func TestMaxPayloadBytes_IsWhatWasSet(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	reader := outbox.NewReader(db.Pool)
	for _, limit := range []int64{262144, 4 << 20} {
		if limit != 262144 {
			execute(t, db.Pool, `SELECT posthorn.set_max_payload_bytes($1)`, limit)
		}
		if got, err := reader.MaxPayloadBytes(t.Context()); err != nil || got != limit {
			t.Errorf("%d, %v; want %d", got, err, limit)
		}
	}
}
