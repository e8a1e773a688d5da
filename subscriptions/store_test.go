package subscriptions

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/posthorn/posthorn/internal/typeid"
)

// sameID lets cmp compare endpoints without looking into their ids.
var sameID = cmp.Comparer(func(a, b EndpointID) bool { return a == b })

func TestCreate_GivesTheEndpointAsItIsStored(t *testing.T) {
	t.Parallel()
	b := setup(t)
	before := value[time.Time](t, b.Pool, `SELECT clock_timestamp()`)
	e, secret, err := b.store.Create(t.Context(), Draft{TenantID: "shop_1", URL: "https://example.com/hook", EventTypes: []string{"order.*", "refund.made"},
		Description: "orders <b>", PayloadFormat: Raw, Metadata: json.RawMessage(` {"b":1,"a":2} `), MaxInFlight: 40, RateLimitPerSecond: 2.5, Ordering: ByKey})
	if err != nil {
		t.Fatal(err)
	}
	if e.CreatedAt.Before(before) || !e.CreatedAt.Equal(e.UpdatedAt) || e.ID.IsZero() || secret.IsZero() || len(secret.Bytes()) != 32 {
		t.Errorf("%+v", e)
	}
	want := Endpoint{ID: e.ID, TenantID: "shop_1", URL: "https://example.com/hook", EventTypes: []Pattern{"order.*", "refund.made"}, Description: "orders <b>",
		PayloadFormat: Raw, Metadata: json.RawMessage(` {"b":1,"a":2} `), MaxInFlight: 40, RateLimitPerSecond: 2.5, Ordering: ByKey,
		Status: Enabled, Version: 1, HealthEpoch: 1, CreatedAt: e.CreatedAt, UpdatedAt: e.UpdatedAt}
	if diff := cmp.Diff(want, e, sameID); diff != "" {
		t.Error(diff)
	}
	for _, scope := range []Scope{{}, {TenantID: "shop_1"}} {
		got, err := b.store.Get(t.Context(), scope, e.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, sameID); diff != "" {
			t.Error(diff)
		}
	}
}

func TestCreate_FillsInTheDefaults(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, one := b.create(t, "shop_1", "*")
	if e.PayloadFormat != Standard || string(e.Metadata) != "{}" || e.Description != "" || e.Status != Enabled || e.DisabledReason != "" ||
		e.MaxInFlight != DefaultMaxInFlight || DefaultMaxInFlight != 16 || e.RateLimitPerSecond != 0 || e.Ordering != Unordered || e.HealthEpoch != 1 {
		t.Errorf("%+v", e)
	}
	if _, two := b.create(t, "shop_1", "*"); one.Equal(two) {
		t.Error("two endpoints have one secret")
	}
}

func TestStore_ShowsNothingOfAnotherTenant(t *testing.T) {
	t.Parallel()
	b := setup(t)
	theirs, _ := b.create(t, "shop_2", "*")
	everybodys, _ := b.create(t, AllTenants, "*")
	deleted, _ := b.create(t, "shop_1", "*")
	b.delete(t, deleted.ID)
	revision := b.revision(t)
	mine := Scope{TenantID: "shop_1"}
	url := "https://example.com/stolen"
	for name, id := range map[string]EndpointID{"another tenant's": theirs.ID, "the operators'": everybodys.ID,
		"deleted": deleted.ID, "no": typeid.New[endpointKind](), "the zero": {}} {
		_, get := b.store.Get(t.Context(), mine, id)
		_, update := b.store.Update(t.Context(), mine, id, Update{URL: &url})
		_, invalid := b.store.Update(t.Context(), mine, id, Update{EventTypes: []string{"?"}})
		_, pause := b.store.Pause(t.Context(), mine, id)
		_, resume := b.store.Resume(t.Context(), mine, id)
		remove := b.store.Delete(t.Context(), mine, id)
		for i, err := range []error{get, update, invalid, pause, resume, remove} {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("%s endpoint, call %d: %v, want ErrNotFound", name, i, err)
			}
		}
	}
	if got, err := b.store.ByID(t.Context(), mine, []EndpointID{theirs.ID, everybodys.ID, deleted.ID, {}}); len(got) != 0 || err != nil {
		t.Errorf("by their ids come %v, %v", got, err)
	}
	if list, err := b.store.List(t.Context(), mine, EndpointID{}, 10); len(list) != 0 || err != nil {
		t.Errorf("the list has %v, %v", list, err)
	}
	for _, e := range []Endpoint{theirs, everybodys} {
		if got, err := b.store.Get(t.Context(), Scope{}, e.ID); err != nil || got.Version != 1 || got.URL != e.URL {
			t.Errorf("%+v, %v; it has been changed", got, err)
		}
	}
	if b.revision(t) != revision {
		t.Error("what failed has counted the revision up")
	}
}

func TestList_IsNewestFirstAndPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var ofOne, all []EndpointID
	for i := range 7 {
		tenant := []string{"shop_1", "shop_2"}[i%2]
		e, _ := b.create(t, tenant, "*")
		if i == 2 {
			b.delete(t, e.ID)
			continue
		}
		all = append(all, e.ID)
		if tenant == "shop_1" {
			ofOne = append(ofOne, e.ID)
		}
	}
	for scope, want := range map[Scope][]EndpointID{{}: all, {TenantID: "shop_1"}: ofOne, {TenantID: "shop_3"}: nil} {
		want = slices.Clone(want)
		// Ids of one millisecond are in no order of their own.
		slices.SortFunc(want, func(a, b EndpointID) int { return b.Compare(a) })
		var got []EndpointID
		var before EndpointID
		for range 10 {
			page, err := b.store.List(t.Context(), scope, before, 2)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) > 2 {
				t.Fatalf("a page of %d", len(page))
			}
			for _, e := range page {
				got, before = append(got, e.ID), e.ID
			}
			if len(page) < 2 {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%+v: %v, want %v", scope, got, want)
		}
	}
}

func TestByID_GivesThoseThatThereAre(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, _ := b.create(t, "shop_1", "a")
	two, _ := b.create(t, "shop_2", "b")
	b.create(t, "shop_1", "c")
	got, err := b.store.ByID(t.Context(), Scope{}, []EndpointID{two.ID, one.ID, one.ID, typeid.New[endpointKind]()})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[EndpointID]Endpoint{one.ID: one, two.ID: two}, got, sameID); diff != "" {
		t.Error(diff)
	}
	if got, err := b.store.ByID(t.Context(), Scope{}, nil); len(got) != 0 || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

func TestUpdate_ChangesWhatItNames(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.create(t, "shop_1", "order.*")
	url, words, format := "https://example.com/new", "new", Raw
	inFlight, rate, byKey := 256, 0.01, ByKey
	want := e
	for i, c := range []struct {
		update Update
		apply  func()
	}{
		{Update{}, func() {}},
		{Update{URL: &url}, func() { want.URL, want.HealthEpoch = url, 2 }}, // another receiver
		{Update{URL: &url}, func() {}},
		{Update{EventTypes: []string{"a", "b.*"}}, func() { want.EventTypes = []Pattern{"a", "b.*"} }},
		{Update{Description: &words}, func() { want.Description = words }},
		{Update{PayloadFormat: &format}, func() { want.PayloadFormat = Raw }},
		{Update{Metadata: json.RawMessage(`{"a": 1}`)}, func() { want.Metadata = json.RawMessage(`{"a": 1}`) }},
		{Update{MaxInFlight: &inFlight}, func() { want.MaxInFlight = 256 }},
		{Update{RateLimitPerSecond: &rate}, func() { want.RateLimitPerSecond = 0.01 }},
		{Update{Ordering: &byKey}, func() { want.Ordering = ByKey }},
		{Update{RateLimitPerSecond: new(float64)}, func() { want.RateLimitPerSecond = 0 }},
		{Update{Description: new(string), IfVersion: 12}, func() { want.Description = "" }},
	} {
		got, err := b.store.Update(t.Context(), Scope{TenantID: "shop_1"}, e.ID, c.update)
		if err != nil {
			t.Fatalf("update %d: %v", i, err)
		}
		c.apply()
		if !got.UpdatedAt.After(want.UpdatedAt) {
			t.Errorf("update %d: updated at %s, before at %s", i, got.UpdatedAt, want.UpdatedAt)
		}
		want.Version, want.UpdatedAt = want.Version+1, got.UpdatedAt
		if diff := cmp.Diff(want, got, sameID); diff != "" {
			t.Errorf("update %d: %s", i, diff)
		}
	}
}

func TestUpdate_RefusesWhatCreateRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.create(t, "shop_1", "*")
	internal, format, rate, ordering := "https://10.0.0.1/", PayloadFormat("xml"), -1.0, Ordering("")
	_, err := b.store.Update(t.Context(), Scope{}, e.ID, Update{URL: &internal, EventTypes: []string{}, PayloadFormat: &format,
		Metadata: json.RawMessage(`[]`), MaxInFlight: new(int), RateLimitPerSecond: &rate, Ordering: &ordering})
	if got, want := pointers(t, err), []string{"/url", "/event_types", "/payload_format", "/max_in_flight",
		"/rate_limit_per_second", "/ordering", "/metadata"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got, err := b.store.Get(t.Context(), Scope{}, e.ID); err != nil || got.Version != 1 || b.revision(t) != 2 {
		t.Errorf("%+v, %v at revision %d; want nothing changed", got, err, b.revision(t))
	}
}

func TestUpdate_OfAnotherVersionIsAMismatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.create(t, "shop_1", "*")
	b.update(t, e.ID, Update{IfVersion: 1})
	for _, version := range []int{1, 3, -1} {
		if _, err := b.store.Update(t.Context(), Scope{}, e.ID, Update{IfVersion: version}); !errors.Is(err, ErrVersionMismatch) {
			t.Errorf("version %d: %v, want ErrVersionMismatch", version, err)
		}
	}
	if _, err := b.store.Update(t.Context(), Scope{TenantID: "shop_2"}, e.ID, Update{IfVersion: 1}); !errors.Is(err, ErrNotFound) {
		t.Errorf("out of scope: %v, want ErrNotFound", err)
	}
}

func TestDelete_KeepsTheRowAndStopsTheSecrets(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.create(t, "shop_1", "*")
	b.delete(t, e.ID)
	if err := b.store.Delete(t.Context(), Scope{}, e.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("a second time: %v, want ErrNotFound", err)
	}
	if n := value[int](t, b.Pool, `SELECT count(*)::int FROM posthorn.endpoints WHERE id = $1 AND deleted_at IS NOT NULL`, e.ID); n != 1 {
		t.Errorf("%d rows are kept", n)
	}
	if n := value[int](t, b.Pool, `SELECT count(*)::int FROM posthorn.endpoint_secrets WHERE expires_at IS NULL OR expires_at > now()`); n != 0 {
		t.Errorf("%d secrets still sign", n)
	}
}
