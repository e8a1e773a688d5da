package volume

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/posthorn/posthorn/dispatcher"
	"github.com/posthorn/posthorn/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestFill_IsWorkThatBalances(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	begin := time.Now()
	n := 2000
	if os.Getenv("VOLUME") != "" {
		n, _ = strconv.Atoi(os.Getenv("VOLUME"))
	}
	if err := Fill(t.Context(), db.Pool, Options{Deliveries: n, Days: 4}); err != nil {
		t.Fatal(err)
	}
	t.Logf("it took %s", time.Since(begin))
	for name, read := range map[string]func() (dispatcher.Ledger, error){
		"cheap": func() (dispatcher.Ledger, error) { return dispatcher.ReadLedger(t.Context(), db.Pool) },
		"deep":  func() (dispatcher.Ledger, error) { return dispatcher.ReadLedgerDeep(t.Context(), db.Pool) },
	} {
		l, err := read()
		if err != nil || l.Unaccounted != 0 || l.Events != int64(n) || l.Deliveries[dispatcher.Delivered] != int64(n) {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
	var small int
	if err := db.Pool.QueryRow(t.Context(), `SELECT count(*) FROM posthorn.deliveries WHERE tenant_id = $1`, Small).Scan(&small); err != nil || small == 0 {
		t.Errorf("%d of the small tenant, %v", small, err)
	}
}
