package subscriptions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/internal/netguard"
	"github.com/posthorn/posthorn/internal/pgtest"
	"github.com/posthorn/posthorn/internal/sqlcheck"
	"github.com/posthorn/posthorn/internal/typeid"
	"github.com/posthorn/posthorn/webhook"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestSQL_FitsTheSchema(t *testing.T) {
	t.Parallel()
	sqlcheck.PrepareAll(t, pgtest.New(t).Pool, ".")
}

// bundle is what a test of the store needs.
type bundle struct {
	*pgtest.DB
	keyring *Keyring
	store   *Store
}

func setup(t testing.TB) *bundle {
	t.Helper()
	b := &bundle{DB: pgtest.New(t), keyring: newKeyring(t, newKeyset(t))}
	b.store = NewStore(b.Pool, b.keyring, netguard.Policy{})
	return b
}

func newKeyset(t testing.TB) string {
	t.Helper()
	json, err := NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	return json
}

func newKeyring(t testing.TB, json string) *Keyring {
	t.Helper()
	k, err := NewKeyring(json)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// create makes an endpoint of the tenant with the patterns.
func (b *bundle) create(t testing.TB, tenant string, patterns ...string) (Endpoint, webhook.Secret) {
	t.Helper()
	e, secret, err := b.store.Create(t.Context(), Draft{TenantID: tenant, URL: "https://example.com/hook", EventTypes: patterns})
	if err != nil {
		t.Fatal(err)
	}
	return e, secret
}

func (b *bundle) update(t testing.TB, id EndpointID, u Update) Endpoint {
	t.Helper()
	e, err := b.store.Update(t.Context(), Scope{}, id, u)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (b *bundle) delete(t testing.TB, id EndpointID) {
	t.Helper()
	if err := b.store.Delete(t.Context(), Scope{}, id); err != nil {
		t.Fatal(err)
	}
}

// directory is a fresh copy of all endpoints.
func (b *bundle) directory(t testing.TB) *Directory {
	t.Helper()
	d := NewDirectory(b.keyring)
	refresh(t, d, b.Pool)
	return d
}

func refresh(t testing.TB, d *Directory, q Querier) int64 {
	t.Helper()
	revision, err := d.Refresh(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

func (b *bundle) revision(t testing.TB) int64 {
	t.Helper()
	return value[int64](t, b.Pool, revisionSQL)
}

func (b *bundle) begin(t testing.TB) pgx.Tx {
	t.Helper()
	tx, err := b.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tx.Rollback(context.Background()); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
			t.Error(err)
		}
	})
	return tx
}

// values returns the single column of a query.
func values[T any](t testing.TB, q Querier, sql string, args ...any) []T {
	t.Helper()
	rows, err := q.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return list
}

// value returns the single value of a query.
func value[T any](t testing.TB, q Querier, sql string, args ...any) T {
	t.Helper()
	list := values[T](t, q, sql, args...)
	if len(list) != 1 {
		t.Fatalf("%s: %d rows", sql, len(list))
	}
	return list[0]
}

// addSecret gives the endpoint another secret, as a rotation does: a new row
// and the endpoint's next revision. The zero time means that it never expires.
func (b *bundle) addSecret(t testing.TB, id EndpointID, expiresAt time.Time) webhook.Secret {
	t.Helper()
	secret := webhook.NewSecret()
	ciphertext, err := b.keyring.seal(id, secret)
	if err != nil {
		t.Fatal(err)
	}
	b.addCiphertext(t, id, ciphertext, expiresAt)
	return secret
}

func (b *bundle) addCiphertext(t testing.TB, id EndpointID, ciphertext []byte, expiresAt time.Time) {
	t.Helper()
	err := b.store.change(t.Context(), func(tx pgx.Tx, revision int64) error {
		var expires any
		if !expiresAt.IsZero() {
			expires = expiresAt
		}
		if _, err := tx.Exec(t.Context(), insertSecretSQL, typeid.New[secretKind](), id, ciphertext); err != nil {
			return err
		}
		if _, err := tx.Exec(t.Context(), `UPDATE posthorn.endpoint_secrets SET expires_at = $1 WHERE ciphertext = $2`, expires, ciphertext); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), `UPDATE posthorn.endpoints SET revision = $1 WHERE id = $2`, revision, id)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// wantMatch fails the test unless an event goes to exactly these endpoints, in
// this order.
func wantMatch(t testing.TB, d *Directory, tenant, eventType string, want ...EndpointID) {
	t.Helper()
	var got []EndpointID
	for _, s := range d.Match(nil, tenant, eventType) {
		got = append(got, s.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s of %s goes to %v, want %v", eventType, tenant, got, want)
	}
}

// pointers gives the JSON pointers of an *InvalidError's problems.
func pointers(t testing.TB, err error) (list []string) {
	t.Helper()
	invalid, ok := errors.AsType[*InvalidError](err)
	if !ok {
		t.Errorf("%v is no InvalidError", err)
		return nil
	}
	for _, p := range invalid.Problems {
		list = append(list, p.Pointer)
		if p.Detail == "" {
			t.Errorf("%s has no detail", p.Pointer)
		}
	}
	if fmt.Sprint(err) == "" {
		t.Error("the error has no text")
	}
	return list
}
