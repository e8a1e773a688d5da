package subscriptions

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/internal/typeid"
)

func (b *bundle) pause(t testing.TB, id EndpointID) Endpoint {
	t.Helper()
	e, err := b.store.Pause(t.Context(), Scope{}, id)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (b *bundle) resume(t testing.TB, id EndpointID) Endpoint {
	t.Helper()
	e, err := b.store.Resume(t.Context(), Scope{}, id)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// disable disables the endpoint as the dispatcher does, and says whether it did.
func (b *bundle) disable(t testing.TB, id EndpointID, epoch int, reason string) (e Endpoint, done bool) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), b.Pool, func(tx pgx.Tx) (err error) {
		e, done, err = DisableTx(t.Context(), tx, id, epoch, reason)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return e, done
}

// statuses are what endpoint_versions has recorded, in order.
func (b *bundle) statuses(t testing.TB, id EndpointID) []string {
	t.Helper()
	return values[string](t, b.Pool, `SELECT status FROM posthorn.endpoint_versions WHERE endpoint_id = $1 ORDER BY version`, id)
}

func TestPauseAndResume_AreChangesLikeOthers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, secret := b.create(t, "shop_1", "*")
	d := b.directory(t)
	want := e
	for i, step := range []struct {
		change func(testing.TB, EndpointID) Endpoint
		status Status
		epoch  int
	}{{b.pause, Paused, 1}, {b.resume, Enabled, 2}, {b.pause, Paused, 2}, {b.resume, Enabled, 3}} {
		before := b.revision(t)
		got := step.change(t, e.ID)
		if !got.UpdatedAt.After(want.UpdatedAt) || b.revision(t) != before+1 {
			t.Errorf("step %d: updated at %s, revision from %d to %d", i, got.UpdatedAt, before, b.revision(t))
		}
		want.Status, want.HealthEpoch, want.Version, want.UpdatedAt = step.status, step.epoch, want.Version+1, got.UpdatedAt
		if diff := cmp.Diff(want, got, sameID); diff != "" {
			t.Errorf("step %d: %s", i, diff)
		}
		refresh(t, d, b.Pool)
		if diff := cmp.Diff(want, d.Get(e.ID).Endpoint, sameID); diff != "" {
			t.Errorf("step %d, in the directory: %s", i, diff)
		}
		wantMatch(t, d, "shop_1", "a", e.ID)
		wantSignatures(t, d.Get(e.ID), got.UpdatedAt, secret)
	}
	if got := b.statuses(t, e.ID); !slices.Equal(got, []string{"enabled", "paused", "enabled", "paused", "enabled"}) {
		t.Errorf("recorded %v", got)
	}
}

func TestPauseAndResume_OfWhatIsSoAlreadyChangeNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	enabled, _ := b.create(t, "shop_1", "*")
	paused, _ := b.create(t, "shop_1", "*")
	disabled, _ := b.create(t, "shop_1", "*")
	b.pause(t, paused.ID)
	b.disable(t, disabled.ID, 1, "answered 410")
	before := b.revision(t)
	for name, c := range map[string]struct {
		change func(testing.TB, EndpointID) Endpoint
		id     EndpointID
	}{
		"resume of an enabled one": {b.resume, enabled.ID},
		"pause of a paused one":    {b.pause, paused.ID},
		"pause of a disabled one":  {b.pause, disabled.ID},
	} {
		was, err := b.store.Get(t.Context(), Scope{}, c.id)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(was, c.change(t, c.id), sameID); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if got := b.revision(t); got != before {
		t.Errorf("the revision went from %d to %d", before, got)
	}
}

func TestResume_OfADisabledOneForgetsWhy(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.create(t, "shop_1", "*")
	b.disable(t, e.ID, 1, "answered 410")
	if got := b.pause(t, e.ID); got.Status != Disabled || got.DisabledReason != "answered 410" {
		t.Errorf("paused while disabled: %+v", got)
	}
	got := b.resume(t, e.ID)
	if got.Status != Enabled || got.DisabledReason != "" || got.HealthEpoch != 2 || got.Version != 3 {
		t.Errorf("resumed: %+v", got)
	}
	if n := value[int](t, b.Pool, `SELECT count(*)::int FROM posthorn.endpoints WHERE disabled_reason IS NOT NULL`); n != 0 {
		t.Error("the reason is kept in the table")
	}
}

func TestPauseAndResume_KeepToTheScope(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.create(t, "shop_1", "*")
	mine := Scope{TenantID: "shop_1"}
	if got, err := b.store.Pause(t.Context(), mine, e.ID); err != nil || got.Status != Paused {
		t.Errorf("the tenant's own: %+v, %v", got, err)
	}
	if got, err := b.store.Resume(t.Context(), mine, e.ID); err != nil || got.Status != Enabled {
		t.Errorf("the tenant's own: %+v, %v", got, err)
	}
	// Another tenant's: TestStore_ShowsNothingOfAnotherTenant.
	b.delete(t, e.ID)
	for _, id := range []EndpointID{e.ID, typeid.New[endpointKind](), {}} {
		_, pause := b.store.Pause(t.Context(), Scope{}, id)
		_, resume := b.store.Resume(t.Context(), Scope{}, id)
		if !errors.Is(pause, ErrNotFound) || !errors.Is(resume, ErrNotFound) {
			t.Errorf("%s: %v, %v; want ErrNotFound", id, pause, resume)
		}
	}
}

func TestDisableTx_DisablesAnEnabledOneAtItsEpoch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.create(t, AllTenants, "*") // whosever it is
	d := b.directory(t)
	before := b.revision(t)
	got, done := b.disable(t, e.ID, 1, "answered 410")
	want := e
	want.Status, want.DisabledReason, want.Version, want.UpdatedAt = Disabled, "answered 410", 2, got.UpdatedAt
	if diff := cmp.Diff(want, got, sameID); diff != "" || !done {
		t.Errorf("%t: %s", done, diff)
	}
	if b.revision(t) != before+1 || !slices.Equal(b.statuses(t, e.ID), []string{"enabled", "disabled"}) {
		t.Errorf("revision %d after %d, versions %v", b.revision(t), before, b.statuses(t, e.ID))
	}
	refresh(t, d, b.Pool)
	if s := d.Get(e.ID); s.Status != Disabled || s.DisabledReason != "answered 410" {
		t.Errorf("in the directory: %+v", s.Endpoint)
	}
}

func TestDisableTx_LeavesWhatHasChangedInBetween(t *testing.T) {
	t.Parallel()
	b := setup(t)
	paused, _ := b.create(t, "shop_1", "*")
	b.pause(t, paused.ID)
	resumed, _ := b.create(t, "shop_1", "*")
	b.pause(t, resumed.ID)
	b.resume(t, resumed.ID)
	moved, _ := b.create(t, "shop_1", "*")
	url := "https://example.com/new"
	b.update(t, moved.ID, Update{URL: &url})
	disabled, _ := b.create(t, "shop_1", "*")
	b.disable(t, disabled.ID, 1, "the first reason")
	deleted, _ := b.create(t, "shop_1", "*")
	b.delete(t, deleted.ID)
	before := b.revision(t)
	for name, id := range map[string]EndpointID{"paused": paused.ID, "resumed": resumed.ID, "moved": moved.ID,
		"disabled": disabled.ID, "deleted": deleted.ID, "none": typeid.New[endpointKind]()} {
		if got, done := b.disable(t, id, 1, "another reason"); done || got.DisabledReason == "another reason" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := b.revision(t); got != before {
		t.Errorf("the revision went from %d to %d", before, got)
	}
	if n := value[int](t, b.Pool, `SELECT count(*)::int FROM posthorn.endpoints WHERE disabled_reason = 'another reason'`); n != 0 {
		t.Error("one is disabled for another reason")
	}
}

// A pause that waits for the lock of the revision must win over what was read
// before it.
func TestDisableTx_LooksAgainUnderTheLock(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.create(t, "shop_1", "*")
	pause := b.begin(t)
	revision := value[int64](t, pause, nextRevisionSQL)
	if _, err := writeStatus(t.Context(), pause, e.ID, Paused, "", revision); err != nil {
		t.Fatal(err)
	}
	disabling := b.begin(t)
	pid := value[int](t, disabling, `SELECT pg_backend_pid()`)
	result := make(chan bool, 1)
	go func() {
		_, done, err := DisableTx(t.Context(), disabling, e.ID, 1, "answered 410")
		result <- done || err != nil
	}()
	for !value[bool](t, b.Pool, `SELECT coalesce(bool_or(wait_event_type = 'Lock'), false) FROM pg_stat_activity WHERE pid = $1`, pid) {
		if t.Context().Err() != nil {
			t.Fatal("it never waits")
		}
	}
	if err := pause.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if <-result {
		t.Error("an endpoint that was paused in between is disabled, or an error came")
	}
}

func TestDisableTx_CommitsWithTheCallersTransaction(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.create(t, "shop_1", "*")
	before := b.revision(t)
	tx := b.begin(t)
	if _, done, err := DisableTx(t.Context(), tx, e.ID, 1, "answered 410"); err != nil || !done {
		t.Fatalf("%t, %v", done, err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := b.store.Get(t.Context(), Scope{}, e.ID); err != nil || got.Status != Enabled || b.revision(t) != before {
		t.Errorf("%+v, %v at revision %d", got, err, b.revision(t))
	}
	if _, _, err := DisableTx(t.Context(), tx, e.ID, 1, ""); err == nil {
		t.Error("a finished transaction gives no error")
	}
}
