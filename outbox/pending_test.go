package outbox_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/posthorn/posthorn/internal/pgtest"
	"github.com/posthorn/posthorn/internal/typeid"
	"github.com/posthorn/posthorn/outbox"
)

// unpaired counts events that the outbox and the pending table do not share.
const unpaired = `SELECT count(*)::int FROM posthorn.outbox o FULL JOIN posthorn.outbox_pending p
	ON p.event_id = o.id AND p.created_at = o.created_at WHERE o.id IS NULL OR p.event_id IS NULL`

func TestPending_HoldsEveryEventHoweverItIsInserted(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for name, c := range map[string]struct {
		insert func(tx pgx.Tx) error
		rows   int
	}{
		"many rows": {func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `INSERT INTO posthorn.outbox (event_type, payload) VALUES ('a', '1'), ('b', '2'), ('c', '3')`)
			return err
		}, 3},
		"no row": {func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `INSERT INTO posthorn.outbox (event_type, payload) SELECT 'a', '1' WHERE false`)
			return err
		}, 0},
		"INSERT SELECT": {func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `INSERT INTO posthorn.outbox (event_type, payload) SELECT 'a', to_json(n) FROM generate_series(1, 1000) AS n`)
			return err
		}, 1000},
		"several days": {func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `INSERT INTO posthorn.outbox (event_type, payload, created_at)
				SELECT 'a', '1', now() + n * interval '1 day' FROM generate_series(-1, 3) AS n`)
			return err
		}, 5},
		"COPY text": {func(tx pgx.Tx) error {
			_, err := tx.Conn().PgConn().CopyFrom(t.Context(), strings.NewReader("a\t {\"x\":1} \nb\t\"\\\\u0000\"\n"),
				`COPY posthorn.outbox (event_type, payload) FROM STDIN`)
			return err
		}, 2},
		"COPY binary": {func(tx pgx.Tx) error {
			_, err := tx.CopyFrom(t.Context(), pgx.Identifier{"posthorn", "outbox"}, []string{"event_type", "payload"},
				pgx.CopyFromRows([][]any{{"a", []byte(`1`)}, {"b", []byte(`{"x": 2}`)}}))
			return err
		}, 2},
		"publish per row": {func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `SELECT posthorn.publish('a', to_json(n)) FROM generate_series(1, 10) AS n`)
			return err
		}, 10},
		"data-modifying WITH": {func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `WITH i AS (INSERT INTO posthorn.outbox (event_type, payload) VALUES ('a', '1') RETURNING 1)
				INSERT INTO posthorn.outbox (event_type, payload) SELECT 'b', '2' FROM i`)
			return err
		}, 2},
	} {
		tx := begin(t, db.Pool)
		if err := c.insert(tx); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		wantRows(t, tx, c.rows, c.rows, 0)
		if n := value[int](t, tx, unpaired); n != 0 {
			t.Errorf("%s: %d events stand on one side only", name, n)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wantRows(t, db.Pool, 0, 0, 0)
}

func TestPublicID_IsWhatGoShows(t *testing.T) {
	t.Parallel()
	conn := pgtest.New(t).Pool
	rapid.Check(t, func(rt *rapid.T) {
		var uuid [16]byte
		copy(uuid[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(rt, "uuid"))
		uuid[15] |= 1 // the zero ID is NULL
		id := typeid.FromUUID[anyKind](uuid)
		if got := value[string](t, conn, `SELECT posthorn.public_id('any', $1)`, id); got != id.String() {
			rt.Errorf("SQL shows %s, Go %s", got, id)
		}
		if back := value[outbox.EventID](t, conn, `SELECT posthorn.internal_id($1)`, id.String()); back.UUID() != uuid {
			rt.Errorf("%s leads back to %x, not %x", id, back.UUID(), uuid)
		}
	})
}

type anyKind struct{}

func (anyKind) Prefix() string { return "any" }

func TestInternalID_IsNullForWhatIsNoID(t *testing.T) {
	t.Parallel()
	conn := pgtest.New(t).Pool
	const valid = "01h455vb4pex5vsknk084sn02q"
	for _, text := range []string{
		"", "evt_", valid, "evt" + valid, "evt_" + valid[1:], "evt_" + valid + "0", "evt_" + valid + "\n", "evt_" + valid + " ",
		"evt_8" + valid[1:],            // 129 bits
		"evt_" + valid[:25] + "i",      // no such letter
		"evt_" + valid[:25] + "\u00fc", // more bytes than characters
		"evt_" + strings.ToUpper(valid), "01890a5d-ac96-774b-bcce-b302099a8057", "' OR 1=1", strings.Repeat("z", 10_000),
	} {
		if got := value[*string](t, conn, `SELECT posthorn.internal_id($1)::text`, text); got != nil {
			t.Errorf("%q is the id of %s", text, *got)
		}
	}
	if got := value[*string](t, conn, `SELECT posthorn.internal_id(NULL)::text`); got != nil {
		t.Errorf("NULL is the id of %s", *got)
	}
	if got := value[*string](t, conn, `SELECT posthorn.internal_id($1)::text`, "evt_"+valid); got == nil || *got != "01890a5d-ac96-774b-bcce-b302099a8057" {
		t.Errorf("evt_%s is not read", valid)
	}
}
