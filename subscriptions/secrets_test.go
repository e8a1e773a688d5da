package subscriptions

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/posthorn/posthorn/webhook"
)

// wantSignatures fails the test unless the subscription signs with exactly these
// secrets at the time, in this order.
func wantSignatures(t testing.TB, s *Subscription, at time.Time, secrets ...webhook.Secret) {
	t.Helper()
	signer, err := s.Signer(at)
	if err != nil {
		t.Error(err)
		return
	}
	got := string(signer.AppendSignature(nil, "evt_1", at.Unix(), []byte("body")))
	want, err := webhook.Sign("evt_1", at, []byte("body"), secrets...)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("at %s: %d signatures, want %d, or another order: %s", at, 1+strings.Count(got, " "), len(secrets), got)
	}
}

func TestSigner_SignsWithEverySecretThatLives(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, old := b.create(t, "shop_1", "*")
	d := b.directory(t)
	now := value[time.Time](t, b.Pool, `SELECT now()`)
	wantSignatures(t, d.Get(e.ID), now, old)

	expiry := now.Add(time.Hour)
	if _, err := b.Pool.Exec(t.Context(), `UPDATE posthorn.endpoint_secrets SET expires_at = $1`, expiry); err != nil {
		t.Fatal(err)
	}
	newer := b.addSecret(t, e.ID, time.Time{})
	refresh(t, d, b.Pool)
	s := d.Get(e.ID)
	wantSignatures(t, s, now, newer, old) // newest first
	first, err := s.Signer(now)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.Signer(expiry.Add(-time.Nanosecond)); err != nil || again != first {
		t.Errorf("the signer is made anew before a secret expires: %v", err)
	}
	wantSignatures(t, s, expiry.Add(-time.Nanosecond), newer, old)
	wantSignatures(t, s, expiry, newer) // without a Refresh
	wantSignatures(t, s, expiry.Add(24*365*time.Hour), newer)
}

func TestSigner_DropsEachSecretAtItsOwnTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, first := b.create(t, "shop_1", "*")
	now := value[time.Time](t, b.Pool, `SELECT now()`)
	later, soon := b.addSecret(t, e.ID, now.Add(2*time.Hour)), b.addSecret(t, e.ID, now.Add(time.Hour))
	s := b.directory(t).Get(e.ID)
	wantSignatures(t, s, now, soon, later, first)
	wantSignatures(t, s, now.Add(time.Hour), later, first)
	wantSignatures(t, s, now.Add(2*time.Hour), first)
}

func TestSigner_UsesTheNewestFiveSecrets(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.create(t, "shop_1", "*")
	var newest []webhook.Secret
	for range 6 {
		newest = slices.Insert(newest, 0, b.addSecret(t, e.ID, time.Time{}))
	}
	wantSignatures(t, b.directory(t).Get(e.ID), e.CreatedAt, newest[:webhook.MaxSecrets]...)
}

func TestSigner_FailsWhenEverySecretHasExpired(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.create(t, "shop_1", "*")
	expiry := value[time.Time](t, b.Pool, `SELECT now() + interval '1 hour'`)
	if _, err := b.Pool.Exec(t.Context(), `UPDATE posthorn.endpoint_secrets SET expires_at = $1`, expiry); err != nil {
		t.Fatal(err)
	}
	s := b.directory(t).Get(e.ID)
	if _, err := s.Signer(expiry); err == nil || !strings.Contains(err.Error(), e.ID.String()) {
		t.Errorf("%v, want an error that names the endpoint", err)
	}
}

func TestRefresh_RefusesAWrongKeysetAtTheStart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, _ := b.create(t, "shop_1", "*")
	d := NewDirectory(newKeyring(t, newKeyset(t)))
	for range 2 { // it does not get used to it
		if _, err := d.Refresh(t.Context(), b.Pool); err == nil || !strings.Contains(err.Error(), e.ID.String()) {
			t.Errorf("%v, want an error that names the endpoint", err)
		}
		wantMatch(t, d, "shop_1", "a")
	}
}

func TestRefresh_GoesOnWithoutASecretThatCannotBeReadLater(t *testing.T) {
	t.Parallel()
	b := setup(t)
	d := b.directory(t)
	fine, secret := b.create(t, "shop_1", "*")
	foreign := NewStore(b.Pool, newKeyring(t, newKeyset(t)), b.store.policy)
	bad, _, err := foreign.Create(t.Context(), Draft{TenantID: "shop_2", URL: "https://example.com/", EventTypes: []string{"*"}})
	if err != nil {
		t.Fatal(err)
	}
	refresh(t, d, b.Pool)
	wantSignatures(t, d.Get(fine.ID), fine.CreatedAt, secret)
	wantMatch(t, d, "shop_2", "a", bad.ID) // its events are not lost
	if _, err := d.Get(bad.ID).Signer(bad.CreatedAt); err == nil {
		t.Error("it signs with a secret that it can't have read")
	}
}

func TestSecrets_CannotBeMovedToAnotherEndpoint(t *testing.T) {
	t.Parallel()
	b := setup(t)
	victim, _ := b.create(t, "shop_1", "*")
	thief, own := b.create(t, "shop_2", "*")
	d := b.directory(t)
	stolen := value[[]byte](t, b.Pool, `SELECT ciphertext FROM posthorn.endpoint_secrets WHERE endpoint_id = $1`, victim.ID)
	if _, err := b.keyring.open(thief.ID, stolen); err == nil {
		t.Error("another endpoint's ciphertext is opened")
	}
	b.addCiphertext(t, thief.ID, stolen, time.Time{})
	refresh(t, d, b.Pool)
	wantSignatures(t, d.Get(thief.ID), thief.CreatedAt, own)
}

// everything is each row of each table as text, bytea as hexadecimal digits.
func everything(t *testing.T, b *bundle) string {
	t.Helper()
	var all strings.Builder
	for _, table := range values[string](t, b.Pool, `SELECT oid::regclass::text FROM pg_class
		WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace::regnamespace::text IN ('posthorn', 'river')`) {
		for _, row := range values[string](t, b.Pool, `SELECT row::text FROM `+table+` AS row`) {
			fmt.Fprintln(&all, table, row)
		}
	}
	return all.String()
}

func TestSecrets_AreNowhereInTheDatabase(t *testing.T) {
	t.Parallel()
	b := setup(t)
	e, secret := b.create(t, "shop_1", "*")
	second := b.addSecret(t, e.ID, time.Time{})
	if _, err := KeptKeyset(t.Context(), b.Pool); err != nil {
		t.Fatal(err)
	}
	dump := everything(t, b)
	if !strings.Contains(dump, e.URL) || !strings.Contains(dump, "endpoint_secrets") || !strings.Contains(dump, "keysets") {
		t.Fatal("the dump lacks what it must have")
	}
	for _, s := range []webhook.Secret{secret, second} {
		key := s.Bytes()
		for name, text := range map[string]string{
			"the text": s.Reveal(), "base64": strings.TrimPrefix(s.Reveal(), "whsec_"), "the prefix": "whsec_",
			"URL base64": base64.RawURLEncoding.EncodeToString(key), "hex": hex.EncodeToString(key), "raw": string(key), "half": hex.EncodeToString(key[:16]),
		} {
			if strings.Contains(dump, text) {
				t.Errorf("the database has the secret: %s", name)
			}
		}
	}
}

func TestRotateKeyset_KeepsOldSecretsReadable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keyset := newKeyset(t)
	oldest := newKeyring(t, keyset)
	store := NewStore(b.Pool, oldest, b.store.policy)
	draft := Draft{TenantID: "shop_1", URL: "https://example.com/", EventTypes: []string{"*"}}
	before, old, err := store.Create(t.Context(), draft)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if keyset, err = RotateKeyset(keyset); err != nil {
			t.Fatal(err)
		}
	}
	rotated := newKeyring(t, keyset)
	after, young, err := NewStore(b.Pool, rotated, b.store.policy).Create(t.Context(), draft)
	if err != nil {
		t.Fatal(err)
	}
	d := NewDirectory(rotated)
	refresh(t, d, b.Pool)
	wantSignatures(t, d.Get(before.ID), before.CreatedAt, old)
	wantSignatures(t, d.Get(after.ID), after.CreatedAt, young)
	// The new key encrypts, or the rotation would be none.
	fresh := value[[]byte](t, b.Pool, `SELECT ciphertext FROM posthorn.endpoint_secrets WHERE endpoint_id = $1`, after.ID)
	if _, err := oldest.open(after.ID, fresh); err == nil {
		t.Error("the old keyset opens what was encrypted after the rotation")
	}
}

func TestKeyring_ShowsNothingOfItsKeys(t *testing.T) {
	t.Parallel()
	keyset := newKeyset(t)
	keyring := newKeyring(t, keyset)
	var parsed struct {
		Key []struct {
			KeyData struct{ Value string }
		}
	}
	if err := json.Unmarshal([]byte(keyset), &parsed); err != nil || len(parsed.Key) != 1 || parsed.Key[0].KeyData.Value == "" {
		t.Fatalf("the keyset is not as expected: %v", err)
	}
	value, err := base64.StdEncoding.DecodeString(parsed.Key[0].KeyData.Value)
	if err != nil || len(value) < 32 {
		t.Fatal(err)
	}
	key := value[len(value)-32:] // protobuf: the key's bytes come last
	var logged strings.Builder
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("", "keyring", keyring, "value", *keyring)
	//lint:ignore SA9005 that nothing comes out is what is tested
	marshalled, _ := json.Marshal(keyring)
	printed := fmt.Sprintf("%v %+v %#v %s %v %+v %#v", keyring, keyring, keyring, keyring, *keyring, *keyring, *keyring) + logged.String() + string(marshalled)
	for _, form := range []string{parsed.Key[0].KeyData.Value, string(key), hex.EncodeToString(key), fmt.Sprint(key), fmt.Sprintf("%#v", key)} {
		if strings.Contains(printed, form) {
			t.Error("the key is printed")
		}
	}
}

func TestNewKeyring_RefusesWhatIsNoKeysetWithoutQuotingIt(t *testing.T) {
	t.Parallel()
	keyset := newKeyset(t)
	for name, text := range map[string]string{
		"empty": "", "words": "hunter2", "an object": `{"hunter2":1}`, "cut off": keyset[:len(keyset)/2], "no keys": `{"primaryKeyId":1,"key":[]}`,
		"another primary": strings.Replace(keyset, `"primaryKeyId":`, `"primaryKeyId":1`, 1),
	} {
		for function, err := range map[string]error{
			"NewKeyring":   func() error { _, err := NewKeyring(text); return err }(),
			"RotateKeyset": func() error { _, err := RotateKeyset(text); return err }(),
		} {
			switch {
			case err == nil:
				t.Errorf("%s takes a keyset that is %s", function, name)
			case strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "typeUrl"):
				t.Errorf("%s quotes the keyset: %v", function, err)
			}
		}
	}
}

func TestKeptKeyset_IsTheSameForAllCallers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := make([]string, 8)
	var group errgroup.Group
	for i := range got {
		group.Go(func() (err error) {
			got[i], err = KeptKeyset(t.Context(), b.Pool)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	again, err := KeptKeyset(t.Context(), b.Pool)
	if err != nil {
		t.Fatal(err)
	}
	for _, json := range got {
		if json != again {
			t.Error("two callers have two keysets")
		}
	}
	newKeyring(t, again)
	if err := pgx.BeginFunc(t.Context(), b.Pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `INSERT INTO posthorn.keysets (only_row, keyset) VALUES (false, 'second')`)
		return err
	}); err == nil {
		t.Error("the table takes a second keyset")
	}
}
