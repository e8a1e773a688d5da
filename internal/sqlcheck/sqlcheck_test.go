package sqlcheck

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/posthorn/posthorn/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestConstants_AreEvaluated(t *testing.T) {
	t.Parallel()
	got, err := constants("testdata/statements")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"oneSQL":   "SELECT id, name FROM things",
		"twoSQL":   "SELECT 1 AS one",
		"threeSQL": "SELECT 3",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestConstants_FailRatherThanLeaveOneOut(t *testing.T) {
	t.Parallel()
	for dir, want := range map[string]string{
		"testdata/foreign": "badSQL",
		"testdata/twice":   "sameSQL is declared twice",
	} {
		if got, err := constants(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v; want an error that names %s", dir, got, err, want)
		}
	}
}

func TestPrepare_NamesEveryStatementThatIsRefused(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn, err := db.Pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	err = prepare(t.Context(), conn.Conn(), map[string]string{
		"fineSQL":   `DELETE FROM posthorn.outbox WHERE id = $1`,
		"columnSQL": `SELECT no_such_column FROM posthorn.outbox`,
		"typeSQL":   `SELECT 1 WHERE created_at = 'x' FROM`,
	})
	if err == nil {
		t.Fatal("nothing is refused")
	}
	for name, want := range map[string]bool{"columnSQL": true, "typeSQL": true, "fineSQL": false} {
		if strings.Contains(err.Error(), name) != want {
			t.Errorf("the error names %s: %t; it is %v", name, !want, err)
		}
	}
}

// recorder takes the failure that it watches for; Fatalf must not return.
type recorder struct {
	testing.TB
	fatal bool
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(string, ...any) {
	r.fatal = true
	panic(r)
}

func TestPrepareAll_RefusesADirectoryWithoutStatements(t *testing.T) {
	t.Parallel()
	r := &recorder{TB: t}
	func() {
		defer func() { _ = recover() }()
		PrepareAll(r, nil, "testdata/nothing")
	}()
	if !r.fatal {
		t.Error("a test that checks nothing passes")
	}
}
