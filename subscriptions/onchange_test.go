package subscriptions

import (
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"
)

// told is what a watcher of the directory heard.
type told struct{ before, after *Subscription }

func (c told) String() string {
	version := func(s *Subscription) string {
		if s == nil {
			return "-"
		}
		return fmt.Sprintf("%s/%d", s.ID, s.Version)
	}
	return version(c.before) + " " + version(c.after)
}

// wantTold fails the test unless the watcher heard exactly this, and forgets it.
func wantTold(t *testing.T, heard *[]told, want ...string) {
	t.Helper()
	var got []string
	for _, c := range *heard {
		got = append(got, c.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("heard %q, want %q", got, want)
	}
	*heard = nil
}

func TestOnChange_TellsEachChangeOnceAndInOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, _ := b.create(t, "shop_1", "a")
	two, _ := b.create(t, "shop_2", "a")
	gone, _ := b.create(t, "shop_2", "a")
	b.delete(t, gone.ID)
	d := NewDirectory(b.keyring)
	var heard, second []told
	d.OnChange(func(before, after *Subscription) { heard = append(heard, told{before, after}) })
	refresh(t, d, b.Pool)
	first := d.Get(one.ID)
	wantTold(t, &heard, fmt.Sprintf("- %s/1", one.ID), fmt.Sprintf("- %s/1", two.ID))
	refresh(t, d, b.Pool)
	wantTold(t, &heard)

	d.OnChange(func(before, after *Subscription) { second = append(second, told{before, after}) })
	b.update(t, one.ID, Update{EventTypes: []string{"b"}})
	b.pause(t, two.ID)
	b.update(t, one.ID, Update{EventTypes: []string{"c"}})
	unseen, _ := b.create(t, "shop_1", "a")
	b.delete(t, unseen.ID)
	refresh(t, d, b.Pool)
	if heard[1].before != first || heard[1].after != d.Get(one.ID) || heard[0].after.Status != Paused {
		t.Errorf("heard %v, which are not the directory's own", heard)
	}
	want := []string{fmt.Sprintf("%s/1 %[1]s/2", two.ID), fmt.Sprintf("%s/1 %[1]s/3", one.ID)}
	wantTold(t, &heard, want...)
	wantTold(t, &second, want...)

	b.delete(t, one.ID)
	refresh(t, d, b.Pool)
	wantTold(t, &heard, fmt.Sprintf("%s/3 -", one.ID))
}

func TestOnChange_ComesWhenTheChangesAreVisible(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, _ := b.create(t, "shop_1", "a")
	two, _ := b.create(t, "shop_1", "a")
	d := NewDirectory(b.keyring)
	calls := 0
	d.OnChange(func(_, after *Subscription) {
		calls++
		if d.Get(one.ID) == nil || d.Get(two.ID) == nil || d.Get(after.ID) != after || len(d.Match(nil, "shop_1", "a")) != 2 {
			t.Errorf("told of %s before all is there", after.ID)
		}
		d.OnChange(func(_, _ *Subscription) {}) // nor is registering barred
	})
	if at := refresh(t, d, b.Pool); at != b.revision(t) || calls != 2 {
		t.Errorf("it stands at %d after %d calls", at, calls)
	}
}

func TestOnChange_IsCalledByOneRefreshAtATime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	d := NewDirectory(b.keyring)
	latest := map[EndpointID]*Subscription{} // the race detector watches it
	d.OnChange(func(before, after *Subscription) {
		switch {
		case before != nil && latest[before.ID] != before:
			t.Errorf("%s was told of out of order", before.ID)
		case after == nil:
			delete(latest, before.ID)
		default:
			latest[after.ID] = after
		}
	})
	var group errgroup.Group
	group.Go(func() error { return changeAtRandom(t, b, "shop_1", 10) })
	for range 3 {
		group.Go(func() error {
			for range 50 {
				if _, err := d.Refresh(t.Context(), b.Pool); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	refresh(t, d, b.Pool)
	kept := d.Match(nil, "shop_1", "a")
	if len(kept) != 10 || len(latest) != len(kept) {
		t.Errorf("the watcher knows %d of %d", len(latest), len(kept))
	}
	for _, s := range kept {
		if latest[s.ID] != s {
			t.Errorf("the watcher does not know %s as it is", s.ID)
		}
	}
}
