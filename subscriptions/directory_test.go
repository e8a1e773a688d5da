package subscriptions

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/posthorn/posthorn/internal/typeid"
)

func TestMatch_GoesByTenantAndPattern(t *testing.T) {
	t.Parallel()
	b := setup(t)
	orders, _ := b.create(t, "shop_1", "order.*")
	paid, _ := b.create(t, "shop_1", "order.paid", "order.*") // once, although two patterns match
	other, _ := b.create(t, "shop_2", "*")
	everybodys, _ := b.create(t, AllTenants, "order.paid", "refund.*")
	d := b.directory(t)
	mine := []EndpointID{orders.ID, paid.ID}
	slices.SortFunc(mine, EndpointID.Compare)
	wantMatch(t, d, "shop_1", "order.paid", append(mine, everybodys.ID)...)
	wantMatch(t, d, "shop_1", "order.made", mine...)
	wantMatch(t, d, "shop_1", "refund.made", everybodys.ID)
	wantMatch(t, d, "shop_1", "order")
	wantMatch(t, d, "shop_2", "order.paid", other.ID, everybodys.ID)
	wantMatch(t, d, "shop_3", "order.paid", everybodys.ID)
	wantMatch(t, d, "shop_3", "order.made")
}

func TestMatch_AppendsToWhatItIsGiven(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create(t, "shop_1", "*")
	d := b.directory(t)
	first := &Subscription{}
	if got := d.Match([]*Subscription{first}, "shop_1", "a"); len(got) != 2 || got[0] != first {
		t.Errorf("%v", got)
	}
}

func TestMatch_LeavesTheStatusToTheCaller(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, status := range []Status{Paused, Disabled} {
		e, _ := b.create(t, string(status), "*")
		if _, err := b.Pool.Exec(t.Context(), `UPDATE posthorn.endpoints SET status = $1, disabled_reason = 'gone' WHERE id = $2`, status, e.ID); err != nil {
			t.Fatal(err)
		}
		d := b.directory(t)
		wantMatch(t, d, string(status), "a", e.ID)
		if got := d.Get(e.ID); got.Status != status || got.DisabledReason != "gone" {
			t.Errorf("%s: %+v", status, got.Endpoint)
		}
	}
}

func TestDirectory_FollowsUpdatesAndDeletes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.create(t, "shop_1", "a")
	everybodys, _ := b.create(t, AllTenants, "b")
	d := NewDirectory(b.keyring)
	wantMatch(t, d, "shop_1", "a") // nothing is known before the first Refresh
	if at := refresh(t, d, b.Pool); at != b.revision(t) {
		t.Errorf("it stands at %d", at)
	}
	wantMatch(t, d, "shop_1", "a", e.ID)
	before := d.Get(e.ID)
	url := "https://example.com/new"
	b.update(t, e.ID, Update{EventTypes: []string{"b"}, URL: &url})
	wantMatch(t, d, "shop_1", "a", e.ID) // until it is told
	refresh(t, d, b.Pool)
	wantMatch(t, d, "shop_1", "a")
	wantMatch(t, d, "shop_1", "b", e.ID, everybodys.ID)
	if now := d.Get(e.ID); now.URL != url || now.Version != 2 || before.URL == url {
		t.Errorf("now %+v, the copy handed out before %+v", now.Endpoint, before.Endpoint)
	}
	b.delete(t, e.ID)
	b.delete(t, everybodys.ID)
	refresh(t, d, b.Pool)
	wantMatch(t, d, "shop_1", "b")
	if d.Get(e.ID) != nil || d.Get(typeid.New[endpointKind]()) != nil {
		t.Error("a deleted endpoint is still there")
	}
	last := refresh(t, d, b.Pool)
	if again := refresh(t, d, b.Pool); again != last || again != b.revision(t) {
		t.Errorf("nothing has changed, and it goes from %d to %d", last, again)
	}
}

func TestDirectory_ForgetsNothingOfAFailedRefresh(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.create(t, "shop_1", "a")
	d := b.directory(t)
	b.update(t, e.ID, Update{EventTypes: []string{"b"}})
	tx := b.begin(t)
	if _, err := tx.Exec(t.Context(), `SELECT 1/0`); err == nil {
		t.Fatal("the transaction is not aborted")
	}
	if _, err := d.Refresh(t.Context(), tx); err == nil {
		t.Error("an aborted transaction gives no error")
	}
	wantMatch(t, d, "shop_1", "a", e.ID)
	refresh(t, d, b.Pool)
	wantMatch(t, d, "shop_1", "b", e.ID)
}

// takePending is a relay's claim, as far as this package is concerned.
const takePending = `WITH taken AS (DELETE FROM posthorn.outbox_pending RETURNING event_id, created_at)
	SELECT o.tenant_id FROM taken JOIN posthorn.outbox o ON o.id = event_id AND o.created_at = taken.created_at`

const insertEvent = `INSERT INTO posthorn.outbox (event_type, payload, tenant_id) VALUES ('a', '1', $1)`

func TestRefresh_SeesTheEndpointsCommittedBeforeAClaimedEvent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	relay := b.begin(t)
	d := NewDirectory(b.keyring)
	refresh(t, d, relay) // the relay's transaction is older than both
	e, _ := b.create(t, "shop_1", "*")
	if _, err := b.Pool.Exec(t.Context(), insertEvent, "shop_1"); err != nil {
		t.Fatal(err)
	}
	if got := values[string](t, relay, takePending); len(got) != 1 {
		t.Fatalf("claimed %v", got)
	}
	refresh(t, d, relay)
	wantMatch(t, d, "shop_1", "a", e.ID)
}

// The same under load: each tenant makes an endpoint, then an event.
func TestRefresh_SeesThemUnderLoadToo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const producers, rounds = 5, 30
	var group errgroup.Group
	for p := range producers {
		group.Go(func() error {
			for r := range rounds {
				tenant := fmt.Sprintf("shop_%d_%d", p, r)
				if _, _, err := b.store.Create(t.Context(), Draft{TenantID: tenant, URL: "https://example.com/", EventTypes: []string{"*"}}); err != nil {
					return err
				}
				if _, err := b.Pool.Exec(t.Context(), insertEvent, tenant); err != nil {
					return err
				}
			}
			return nil
		})
	}
	done := make(chan error, 1)
	go func() { done <- group.Wait() }()
	d := NewDirectory(b.keyring)
	routed := 0
	for routed < producers*rounds {
		err := pgx.BeginFunc(t.Context(), b.Pool, func(tx pgx.Tx) error {
			tenants := values[string](t, tx, takePending)
			refresh(t, d, tx)
			for _, tenant := range tenants {
				if n := len(d.Match(nil, tenant, "a")); n != 1 {
					return fmt.Errorf("an event of %s goes to %d endpoints", tenant, n)
				}
			}
			routed += len(tenants)
			return nil
		})
		select {
		case failure := <-done:
			done = nil // the producers have ended; the rest is to be claimed
			err = errors.Join(err, failure)
		default:
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestDirectory_IsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	d := NewDirectory(b.keyring)
	kept, _ := b.create(t, "shop_1", "*")
	refresh(t, d, b.Pool)
	var group errgroup.Group
	group.Go(func() error { return changeAtRandom(t, b, "shop_1", 10) })
	for range 3 {
		group.Go(func() error {
			for range 50 {
				if _, err := d.Refresh(t.Context(), b.Pool); err != nil {
					return err
				}
				found := d.Match(nil, "shop_1", "a")
				if !slices.ContainsFunc(found, func(s *Subscription) bool { return s.ID == kept.ID }) {
					return errors.New("an endpoint that nobody touched was missing for a moment")
				}
				if !slices.IsSortedFunc(found, func(a, b *Subscription) int { return a.ID.Compare(b.ID) }) {
					return errors.New("out of order")
				}
				if _, err := d.Get(kept.ID).Signer(kept.CreatedAt); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}
