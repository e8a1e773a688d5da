package migrations_test

import (
	"testing"
	"time"

	"github.com/posthorn/posthorn/internal/pgtest"
	"github.com/posthorn/posthorn/internal/typeid"
)

// A fresh database has nothing to account for; its producers may have begun already.
func TestLedger_BeginsAnHourBeforeAFreshDatabase(t *testing.T) {
	t.Parallel()
	db := pgtest.NewEmpty(t)
	up(t, db.URL)
	tx := begin(t, db.Pool)
	age := time.Since(value[time.Time](t, tx, `SELECT audited_to FROM posthorn.ledger_state`))
	if age < time.Hour-time.Minute || age > time.Hour+10*time.Minute {
		t.Errorf("accounted for up to %s ago", age)
	}
}

func TestUUIDAt_IsTheLeastOfItsMillisecond(t *testing.T) {
	t.Parallel()
	tx := begin(t, pgtest.New(t).Pool)
	for _, at := range []time.Time{
		time.Date(2026, 3, 1, 23, 59, 59, 999_999_000, time.UTC), time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC),
	} {
		if got := value[typeid.ID[anyKind]](t, tx, `SELECT posthorn.uuid_at($1)`, at); got != typeid.Floor[anyKind](at) {
			t.Errorf("at %s: %s, want %s", at, got, typeid.Floor[anyKind](at))
		}
	}
	if !value[bool](t, tx, `SELECT posthorn.uuid_at('2026-03-02 00:00:00+00') = posthorn.uuid_floor('2026-03-02')`) {
		t.Error("a day's bound is not that of its first moment")
	}
}
