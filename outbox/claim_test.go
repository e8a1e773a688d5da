package outbox_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/internal/pgtest"
	"github.com/posthorn/posthorn/outbox"
)

const anySize = 16 << 20 // the largest payload that there can be

func claim(t testing.TB, tx pgx.Tx, limit, maxPayload int) []outbox.Claimed {
	t.Helper()
	claimed, missing, err := outbox.Claim(t.Context(), tx, outbox.ClaimOptions{Limit: limit, MaxPayload: maxPayload})
	if err != nil || missing != nil {
		t.Fatal(missing, err)
	}
	return claimed
}

// types of events tell the tests' events apart.
func types(claimed []outbox.Claimed) (list []string) {
	for _, c := range claimed {
		list = append(list, c.Type)
	}
	return list
}

func wantTypes(t testing.TB, claimed []outbox.Claimed, want ...string) {
	t.Helper()
	if got := types(claimed); !slices.Equal(got, want) {
		t.Errorf("claimed %v, want %v", got, want)
	}
}

// publishTypes publishes each type in a transaction of its own.
func publishTypes(t testing.TB, db *pgtest.DB, names ...string) {
	t.Helper()
	for _, name := range names {
		execute(t, db.Pool, `SELECT posthorn.publish($1, '1')`, name)
	}
}

func TestClaim_GivesTheWholeEvent(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	e := full()
	e.Payload = []byte(" {\"a\":1e999999,\t\"a\":\"\\u0000\"} ")
	if _, err := publishers(t, db)["Publish"](e); err != nil {
		t.Fatal(err)
	}
	stored := onlyRow(t, db.Pool)
	tx := begin(t, db.Pool)
	got := claim(t, tx, 10, anySize)
	want := []outbox.Claimed{{Seq: got[0].Seq, ID: e.ID, CreatedAt: stored.CreatedAt, TenantID: e.TenantID, Type: e.Type,
		Payload: e.Payload, OrderingKey: e.OrderingKey, Traceparent: e.Traceparent, OccurredAt: stored.OccurredAt}}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b outbox.EventID) bool { return a == b })); diff != "" || got[0].Seq == 0 {
		t.Error(diff, got)
	}
	wantRows(t, tx, 1, 0, 1) // nothing but the pending row is taken away
}

func TestClaim_TakesTheOldestFirst(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publishTypes(t, db, "e1", "e2", "e3")
	// The ids and times of an import say nothing of the order of insertion.
	execute(t, db.Pool, `INSERT INTO posthorn.outbox (id, event_type, payload, created_at) VALUES
		('ffffffff-ffff-ffff-ffff-ffffffffffff', 'e4', '1', now() + interval '1 day'),
		('00000000-0000-0000-0000-000000000001', 'e5', '1', now() - interval '1 day')`)
	publishTypes(t, db, "e6")
	tx := begin(t, db.Pool)
	wantTypes(t, claim(t, tx, 2, anySize), "e1", "e2")
	wantTypes(t, claim(t, tx, 3, anySize), "e3", "e4", "e5")
	wantTypes(t, claim(t, tx, 3, anySize), "e6")
	if rest, _, err := outbox.Claim(t.Context(), tx, outbox.ClaimOptions{Limit: 3, MaxPayload: anySize}); rest != nil || err != nil {
		t.Errorf("an empty table gives %v, %v", rest, err)
	}
}

func TestClaim_SeesCommittedEventsOnly(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	producer, relay := begin(t, db.Pool), begin(t, db.Pool)
	execute(t, producer, `SELECT posthorn.publish('slow', '1')`)
	publishTypes(t, db, "fast") // a later seq, an earlier commit
	wantTypes(t, claim(t, relay, 10, anySize), "fast")
	commitTx(t, relay)
	commitTx(t, producer)
	wantTypes(t, claim(t, begin(t, db.Pool), 10, anySize), "slow")
}

func TestClaim_SideBySideDoesNotWait(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publishTypes(t, db, "e1", "e2", "e3", "e4")
	one, two := begin(t, db.Pool), begin(t, db.Pool)
	execute(t, two, `SET LOCAL lock_timeout = '1s'`)
	wantTypes(t, claim(t, one, 2, anySize), "e1", "e2")
	wantTypes(t, claim(t, two, 10, anySize), "e3", "e4")
	commitTx(t, one)
	wantTypes(t, claim(t, two, 10, anySize))
	commitTx(t, two)
	wantRows(t, db.Pool, 4, 0, 0)
}

func TestClaim_RolledBackGivesTheEventsBack(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publishTypes(t, db, "e1", "e2")
	tx := begin(t, db.Pool)
	first := claim(t, tx, 10, anySize)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := claim(t, begin(t, db.Pool), 10, anySize)
	wantTypes(t, again, "e1", "e2")
	for i := range again {
		if again[i].Seq != first[i].Seq {
			t.Errorf("%s was %d and is %d", again[i].Type, first[i].Seq, again[i].Seq)
		}
	}
}

func TestClaim_LeavesLargePayloadsToTheirSender(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	sizes := []int{100, 101, 2, 100, 5000}
	for _, size := range sizes {
		execute(t, db.Pool, `SELECT posthorn.publish('a', $1::text::json)`, sized(size))
	}
	for _, limit := range []int{0, 2, 99, 100, 101, 4999, 5000, anySize} {
		tx := begin(t, db.Pool)
		for i, c := range claim(t, tx, 10, limit) {
			want := sized(sizes[i])
			if sizes[i] > limit {
				want = ""
			}
			if string(c.Payload) != want || (c.Payload == nil) != (want == "") || c.Type != "a" {
				t.Errorf("limit %d: the payload of %d bytes is %.20q", limit, sizes[i], c.Payload)
			}
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// Producers that bring ids of their own may use one twice; each event is its own.
func TestClaim_TellsEventsOfOneIDApart(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	const insert = `INSERT INTO posthorn.outbox (id, event_type, payload, created_at) VALUES
		('01890a5d-ac96-774b-bcce-b302099a8057', $1, to_json($1::text), now() + $2 * interval '1 microsecond')`
	for i, name := range []string{"later", "sooner", "between"} {
		execute(t, db.Pool, insert, name, []int{5_000_000, 1_000_000, 3_000_000}[i])
	}
	one, two := begin(t, db.Pool), begin(t, db.Pool)
	for _, claimed := range [][]outbox.Claimed{claim(t, one, 2, anySize), claim(t, two, 2, anySize)} {
		for _, c := range claimed {
			if string(c.Payload) != `"`+c.Type+`"` {
				t.Errorf("%s has the payload %s", c.Type, c.Payload)
			}
		}
	}
	if err := one.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := two.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	tx := begin(t, db.Pool)
	wantTypes(t, claim(t, tx, 2, anySize), "later", "sooner")
	wantTypes(t, claim(t, tx, 2, anySize), "between")
}

func TestClaim_PassesOverPendingEventsThatAreGone(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publishTypes(t, db, "e1")
	execute(t, db.Pool, `INSERT INTO posthorn.outbox (event_type, payload, created_at) VALUES ('e2', '1', now() + interval '2 days')`)
	day := value[time.Time](t, db.Pool, `SELECT now() + interval '2 days'`).UTC()
	execute(t, db.Pool, `DROP TABLE posthorn.outbox_`+day.Format("20060102"))
	got, missing, err := outbox.Claim(t.Context(), begin(t, db.Pool), outbox.ClaimOptions{Limit: 10, MaxPayload: anySize})
	if err != nil || len(missing) != 1 {
		t.Errorf("missing %v, %v; want the one that is gone", missing, err)
	}
	wantTypes(t, got, "e1")
}

func TestUnclaim_PutsEventsBackAtTheirPlaces(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	publishTypes(t, db, "e1", "e2", "e3", "e4")
	tx := begin(t, db.Pool)
	claimed := claim(t, tx, 10, anySize)
	if err := outbox.Unclaim(t.Context(), tx, claimed[1:3]); err != nil {
		t.Fatal(err)
	}
	if err := outbox.Unclaim(t.Context(), tx, nil); err != nil {
		t.Fatal(err)
	}
	commitTx(t, tx)
	publishTypes(t, db, "e5") // the sequence goes on
	again := claim(t, begin(t, db.Pool), 10, anySize)
	wantTypes(t, again, "e2", "e3", "e5")
	if again[0].Seq != claimed[1].Seq || again[1].Seq != claimed[2].Seq || !again[0].CreatedAt.Equal(claimed[1].CreatedAt) {
		t.Errorf("claimed %+v, then %+v", claimed[1:3], again[:2])
	}
}
