package keys_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/posthorn/posthorn/api/keys"
	"github.com/posthorn/posthorn/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func setup(t *testing.T) (*pgtest.DB, *keys.Store) {
	t.Helper()
	db := pgtest.New(t)
	return db, keys.NewStore(db.Pool)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAKeyIsKnownByItsTextAlone(t *testing.T) {
	t.Parallel()
	db, store := setup(t)
	key, secret, err := store.Create(t.Context(), keys.Subscriber, "shop_1", "laptop")
	must(t, err)
	if !strings.HasPrefix(secret, "phk_") || len(secret) != 4+43 {
		t.Errorf("the key's text is %s", secret)
	}
	who, err := store.Authenticate(t.Context(), secret)
	must(t, err)
	if want := (keys.Identity{Role: keys.Subscriber, TenantID: "shop_1", KeyID: key.ID}); who != want {
		t.Errorf("presented by %+v, want %+v", who, want)
	}
	for _, wrong := range []string{"", "phk_", secret[:10], secret + "x", secret[:len(secret)-1], strings.ToUpper(secret), key.ID.String(), "\x00"} {
		if _, err := store.Authenticate(t.Context(), wrong); !errors.Is(err, keys.ErrUnknown) {
			t.Errorf("%q is answered with %v", wrong, err)
		}
	}
	var row string
	must(t, db.Pool.QueryRow(t.Context(), `SELECT k::text FROM posthorn.api_keys k`).Scan(&row))
	if strings.Contains(row, secret) || strings.Contains(row, secret[4:]) {
		t.Errorf("the database holds the key: %s", row)
	}
}

func TestKeysDiffer(t *testing.T) {
	t.Parallel()
	_, store := setup(t)
	seen := map[string]bool{}
	for range 50 {
		_, secret, err := store.Create(t.Context(), keys.Operator, "", "")
		must(t, err)
		if seen[secret] {
			t.Fatalf("%s was made twice", secret)
		}
		seen[secret] = true
	}
}

func TestARevokedKeyIsUnknownAtOnce(t *testing.T) {
	t.Parallel()
	_, store := setup(t)
	key, secret, err := store.Create(t.Context(), keys.Operator, "", "")
	must(t, err)
	_, err = store.Authenticate(t.Context(), secret)
	must(t, err)
	must(t, store.Revoke(t.Context(), key.ID))
	if _, err := store.Authenticate(t.Context(), secret); !errors.Is(err, keys.ErrUnknown) {
		t.Errorf("after the revocation: %v", err)
	}
	first := list(t, store)[0].RevokedAt
	must(t, store.Revoke(t.Context(), key.ID))
	if again := list(t, store)[0].RevokedAt; first == nil || !again.Equal(*first) {
		t.Errorf("revoked at %v, again at %v", first, again)
	}
	none, err := keys.ParseKeyID("key_00000000000000000000000001")
	must(t, err)
	if err := store.Revoke(t.Context(), none); !errors.Is(err, keys.ErrNotFound) {
		t.Errorf("revoking no key: %v", err)
	}
}

func list(t *testing.T, store *keys.Store) []keys.Key {
	t.Helper()
	all, err := store.List(t.Context(), keys.KeyID{}, 100)
	must(t, err)
	return all
}

func TestListIsNewestFirstInPages(t *testing.T) {
	t.Parallel()
	db, store := setup(t)
	var want []string
	for i := range 5 {
		_, _, err := store.Create(t.Context(), keys.Operator, "", fmt.Sprint(i))
		must(t, err)
	}
	rows, err := db.Pool.Query(t.Context(), `SELECT name FROM posthorn.api_keys ORDER BY id DESC`)
	must(t, err)
	for rows.Next() {
		var name string
		must(t, rows.Scan(&name))
		want = append(want, name)
	}
	must(t, rows.Err())
	var got []string
	var before keys.KeyID
	for {
		page, err := store.List(t.Context(), before, 2)
		must(t, err)
		for _, k := range page {
			got = append(got, k.Name)
			before = k.ID
		}
		if len(page) < 2 {
			break
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("listed %v, want %v", got, want)
	}
}

func TestUseIsMarkedOnceAMinute(t *testing.T) {
	t.Parallel()
	db, store := setup(t)
	_, secret, err := store.Create(t.Context(), keys.Operator, "", "")
	must(t, err)
	if used := list(t, store)[0].LastUsedAt; used != nil {
		t.Errorf("a new key was used at %v", used)
	}
	use := func() time.Time {
		_, err := store.Authenticate(t.Context(), secret)
		must(t, err)
		used := list(t, store)[0].LastUsedAt
		if used == nil {
			t.Fatal("the use is not marked")
		}
		return *used
	}
	first := use()
	if second := use(); !second.Equal(first) {
		t.Errorf("marked at %v and at %v", first, second)
	}
	_, err = db.Pool.Exec(t.Context(), `UPDATE posthorn.api_keys SET last_used_at = now() - interval '61 seconds'`)
	must(t, err)
	if later := use(); time.Since(later) > time.Minute {
		t.Errorf("after a minute the mark is still %v", later)
	}
}

func TestWhatKeysCannotBe(t *testing.T) {
	t.Parallel()
	_, store := setup(t)
	for _, c := range []struct {
		name, role, tenant, label string
	}{
		{"NoRole", "", "", ""},
		{"AnotherRole", "admin", "", ""},
		{"AnOperatorOfATenant", "operator", "shop_1", ""},
		{"ASubscriberOfNone", "subscriber", "", ""},
		{"ASubscriberOfAll", "subscriber", "*", ""},
		{"NULInTheTenant", "subscriber", "a\x00", ""},
		{"ALongTenant", "subscriber", strings.Repeat("é", 256), ""},
		{"NULInTheName", "operator", "", "\x00"},
		{"ANameThatIsNoText", "operator", "", "\xff"},
		{"ALongName", "operator", "", strings.Repeat("a", 256)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if _, _, err := store.Create(t.Context(), keys.Role(c.role), c.tenant, c.label); !errors.Is(err, keys.ErrInvalid) {
				t.Errorf("err = %v", err)
			}
		})
	}
}
