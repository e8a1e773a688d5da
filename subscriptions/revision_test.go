package subscriptions

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// version is a row of endpoint_versions.
type version struct {
	Version    int
	Revision   int64
	TenantID   string
	URL        string
	EventTypes []string
	Format     string
	Status     string
	Deleted    bool
}

func TestVersions_RecordEveryChange(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.create(t, "shop_1", "order.*")
	other, _ := b.create(t, "shop_1", "*") // takes revision 3
	url, format := "https://example.com/new", CloudEvents
	b.update(t, e.ID, Update{URL: &url, PayloadFormat: &format})
	b.update(t, e.ID, Update{EventTypes: []string{"a", "b"}})
	b.delete(t, e.ID)
	rows, err := b.Pool.Query(t.Context(), `SELECT version, revision, tenant_id, url, event_types, payload_format, status, deleted
		FROM posthorn.endpoint_versions WHERE endpoint_id = $1 ORDER BY version`, e.ID)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[version])
	if err != nil {
		t.Fatal(err)
	}
	want := []version{
		{1, 2, "shop_1", e.URL, []string{"order.*"}, "standard", "enabled", false},
		{2, 4, "shop_1", url, []string{"order.*"}, "cloudevents", "enabled", false},
		{3, 5, "shop_1", url, []string{"a", "b"}, "cloudevents", "enabled", false},
		{4, 6, "shop_1", url, []string{"a", "b"}, "cloudevents", "enabled", true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := value[int](t, b.Pool, `SELECT count(*)::int FROM posthorn.endpoint_versions WHERE endpoint_id = $1`, other.ID); n != 1 {
		t.Errorf("the other endpoint has %d versions", n)
	}
}

func TestConsideredAt_IsWhatWasInForce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	mine, _ := b.create(t, "shop_1", "order.*")
	everybodys, _ := b.create(t, AllTenants, "*")
	b.create(t, "shop_2", "*")
	second, _ := b.create(t, "shop_1", "a")
	b.update(t, mine.ID, Update{EventTypes: []string{"refund.*"}})
	b.delete(t, mine.ID)
	at := func(id EndpointID, version int, patterns ...Pattern) string {
		return fmt.Sprint(id, version, patterns, Enabled)
	}
	operator, tenant := Scope{}, Scope{TenantID: "shop_1"}
	for _, c := range []struct {
		scope    Scope
		revision int64
		want     []string
	}{
		{operator, 1, nil},
		{operator, 2, []string{at(mine.ID, 1, "order.*")}},
		{operator, 3, []string{at(mine.ID, 1, "order.*"), at(everybodys.ID, 1, "*")}},
		{operator, 4, []string{at(mine.ID, 1, "order.*"), at(everybodys.ID, 1, "*")}},
		{operator, 5, []string{at(mine.ID, 1, "order.*"), at(everybodys.ID, 1, "*"), at(second.ID, 1, "a")}},
		{operator, 6, []string{at(mine.ID, 2, "refund.*"), at(everybodys.ID, 1, "*"), at(second.ID, 1, "a")}},
		{operator, 7, []string{at(everybodys.ID, 1, "*"), at(second.ID, 1, "a")}},
		{operator, 99, []string{at(everybodys.ID, 1, "*"), at(second.ID, 1, "a")}},
		{tenant, 6, []string{at(mine.ID, 2, "refund.*"), at(second.ID, 1, "a")}},
		{tenant, 7, []string{at(second.ID, 1, "a")}},
		{Scope{TenantID: "shop_2"}, 6, nil},
	} {
		list, err := b.store.ConsideredAt(t.Context(), c.scope, "shop_1", c.revision, 10)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range list {
			got = append(got, fmt.Sprint(e.EndpointID, e.Version, e.EventTypes, e.Status))
			if time.Since(e.CreatedAt).Abs() > time.Hour {
				t.Errorf("%s is of %s", e.EndpointID, e.CreatedAt)
			}
		}
		slices.Sort(got)
		slices.Sort(c.want)
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v at %d: %v, want %v", c.scope, c.revision, got, c.want)
		}
	}
	if list, err := b.store.ConsideredAt(t.Context(), operator, "shop_1", 6, 2); err != nil || len(list) != 2 {
		t.Errorf("limited to 2: %v, %v", list, err)
	}
}

// changesUpTo counts the changes with a revision up to the one given. Every
// change writes one version, so it is the revision less the one of the start.
const changesUpTo = `SELECT count(*) FROM posthorn.endpoint_versions WHERE revision <= $1`

func TestRevision_NIsVisibleOnlyWithEveryChangeUpToN(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const writers, rounds = 8, 12
	var group errgroup.Group
	for w := range writers {
		group.Go(func() error { return changeAtRandom(t, b, fmt.Sprintf("shop_%d", w), rounds) })
	}
	done := make(chan error, 1)
	go func() { done <- group.Wait() }()

	// One reader asks the tables, in statements of their own; a directory's copy
	// must keep the same promise.
	directory := NewDirectory(b.keyring)
	reader, err := pgx.Connect(t.Context(), b.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close(t.Context())
	var last int64
	for finished := false; !finished; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			finished = true // and look once more
		default:
		}
		revision := value[int64](t, reader, revisionSQL)
		if n := value[int64](t, reader, changesUpTo, revision); n != revision-1 {
			t.Fatalf("revision %d is visible with %d changes", revision, n)
		}
		at := refresh(t, directory, reader)
		if at < revision || revision < last {
			t.Fatalf("the revision went from %d to %d, the directory stands at %d", last, revision, at)
		}
		last = at
		wantCopy(t, reader, directory, at)
	}
	if want := int64(1 + writers*rounds*3); last != want {
		t.Errorf("the last revision is %d, want %d", last, want)
	}
}

// changeAtRandom makes, updates and now and then deletes endpoints: three
// changes a round.
func changeAtRandom(t *testing.T, b *bundle, tenant string, rounds int) error {
	draft := Draft{TenantID: tenant, URL: "https://example.com/", EventTypes: []string{"*"}}
	for range rounds {
		e, _, err := b.store.Create(t.Context(), draft)
		if err != nil {
			return err
		}
		kept, _, err := b.store.Create(t.Context(), draft)
		if err != nil {
			return err
		}
		if kept.Version != 1 {
			return fmt.Errorf("a new endpoint has the version %d", kept.Version)
		}
		if err := b.store.Delete(t.Context(), Scope{TenantID: tenant}, e.ID); err != nil {
			return err
		}
	}
	return nil
}

// wantCopy fails the test unless the directory has every endpoint that was there
// at the revision, as far as it has not been deleted since.
func wantCopy(t *testing.T, q Querier, d *Directory, revision int64) {
	t.Helper()
	const there = `SELECT endpoint_id FROM posthorn.endpoint_versions v WHERE version = 1 AND revision <= $1
		AND NOT EXISTS (SELECT FROM posthorn.endpoint_versions x WHERE x.endpoint_id = v.endpoint_id AND deleted)`
	for _, id := range values[EndpointID](t, q, there, revision) {
		if d.Get(id) == nil {
			t.Fatalf("the directory stands at %d and lacks %s", revision, id)
		}
	}
	const gone = `SELECT endpoint_id FROM posthorn.endpoint_versions WHERE deleted AND revision <= $1`
	for _, id := range values[EndpointID](t, q, gone, revision) {
		if d.Get(id) != nil {
			t.Fatalf("the directory stands at %d and still has %s", revision, id)
		}
	}
}
