package outbox_test

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/internal/pgtest"
	"github.com/posthorn/posthorn/outbox"
)

func claimWith(t *testing.T, tx pgx.Tx, o outbox.ClaimOptions) []string {
	t.Helper()
	o.MaxPayload = anySize
	claimed, missing, err := outbox.Claim(t.Context(), tx, o)
	if err != nil || missing != nil {
		t.Fatalf("claim: %v, missing %v", err, missing)
	}
	var types []string
	for _, c := range claimed {
		types = append(types, c.TenantID+"."+c.Type)
	}
	return types
}

func TestClaim_ByTurnsGivesEachTenantItsFirst(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	execute(t, db.Pool, `INSERT INTO posthorn.outbox (tenant_id, event_type, payload)
		SELECT 'heap', 'e' || n, '1' FROM generate_series(1, 30000) AS n`)
	execute(t, db.Pool, `INSERT INTO posthorn.outbox (tenant_id, event_type, payload) VALUES ('late', 'a', '1'), ('late', 'b', '1')`)
	tx := begin(t, db.Pool)
	got := claimWith(t, tx, outbox.ClaimOptions{Limit: 5, ByTurns: true})
	if want := []string{"heap.e1", "heap.e2", "heap.e3", "late.a", "late.b"}; !slices.Equal(got, want) {
		t.Errorf("claimed %v, want %v", got, want)
	}
	if got := claimWith(t, tx, outbox.ClaimOptions{Limit: 2}); !slices.Equal(got, []string{"heap.e4", "heap.e5"}) {
		t.Errorf("then in their order %v", got)
	}
}

// What is in order is taken from the oldest of its kind: a heap of others is not in
// its way, and of a heap in order nothing is claimed past what is not looked at.
func TestClaim_ByTurnsFindsWhatIsInOrderBehindAHeap(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		heapKey string
		found   bool
	}{"of others": {"NULL", true}, "in order too": {"'h'", false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			execute(t, db.Pool, `INSERT INTO posthorn.outbox (tenant_id, event_type, payload, ordering_key)
				SELECT 'heap', 'e', '1', `+c.heapKey+` FROM generate_series(1, 30000)`)
			execute(t, db.Pool, `INSERT INTO posthorn.outbox (tenant_id, event_type, payload, ordering_key) VALUES ('late', 'ordered', '1', 'k')`)
			execute(t, db.Pool, `INSERT INTO posthorn.outbox (tenant_id, event_type, payload) VALUES ('late', 'free', '1')`)
			got := claimWith(t, begin(t, db.Pool), outbox.ClaimOptions{Limit: 10, ByTurns: true})
			if slices.Contains(got, "late.ordered") != c.found || !slices.Contains(got, "late.free") {
				t.Errorf("claimed %v", got)
			}
		})
	}
}

func TestClaim_OneTransactionAtATimeHasWhatIsInOrder(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	execute(t, db.Pool, `INSERT INTO posthorn.outbox (tenant_id, event_type, payload, ordering_key)
		VALUES ('t', 'o1', '1', 'k'), ('t', 'free', '1', NULL), ('t', 'o2', '1', 'k')`)
	for name, byTurns := range map[string]bool{"oldest first": false, "by turns": true} {
		t.Run(name, func(t *testing.T) {
			first, second := begin(t, db.Pool), begin(t, db.Pool)
			if got := claimWith(t, first, outbox.ClaimOptions{Limit: 1, ByTurns: byTurns}); !slices.Equal(got, []string{"t.o1"}) {
				t.Fatalf("the first claims %v", got)
			}
			if got := claimWith(t, second, outbox.ClaimOptions{Limit: 10, ByTurns: byTurns}); !slices.Equal(got, []string{"t.free"}) {
				t.Errorf("beside it the second claims %v", got)
			}
			if err := first.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := claimWith(t, second, outbox.ClaimOptions{Limit: 10, ByTurns: byTurns}); !slices.Equal(got, []string{"t.o1", "t.o2"}) {
				t.Errorf("after it the second claims %v", got)
			}
			if err := second.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestUnclaim_KeepsWhoseAnEventIsAndItsOrder(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	execute(t, db.Pool, `INSERT INTO posthorn.outbox (tenant_id, event_type, payload, ordering_key) VALUES ('t', 'o', '1', 'k'), ('u', 'free', '1', NULL)`)
	const pendingSQL = `SELECT string_agg(concat_ws(' ', seq, tenant_id, ordered), ', ' ORDER BY seq) FROM posthorn.outbox_pending`
	var before, after string
	if err := db.Pool.QueryRow(t.Context(), pendingSQL).Scan(&before); err != nil {
		t.Fatal(err)
	}
	tx := begin(t, db.Pool)
	if err := outbox.Unclaim(t.Context(), tx, claim(t, tx, 10, anySize)); err != nil {
		t.Fatal(err)
	}
	commitTx(t, tx)
	if err := db.Pool.QueryRow(t.Context(), pendingSQL).Scan(&after); err != nil {
		t.Fatal(err)
	}
	if after != before {
		t.Errorf("%s was %s", after, before)
	}
}
