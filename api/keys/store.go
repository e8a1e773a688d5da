package keys

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/internal/typeid"
)

// ErrUnknown is the error for a key that was never made or has been revoked.
var ErrUnknown = errors.New("unknown key")

// ErrNotFound is the error for a key id that names no key.
var ErrNotFound = errors.New("key not found")

// ErrInvalid is the error for a key that can't be made; the error that wraps it
// says why.
var ErrInvalid = errors.New("invalid key")

// Store writes and reads the table of keys. It is safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
}

// NewStore makes a Store. The pool stays the caller's to close.
func NewStore(pool *pgxpool.Pool) *Store { return &Store{pool: pool} }

// keyColumns are those of Key, by name.
const keyColumns = `id, role, coalesce(tenant_id, '') AS tenant_id, name, created_at, last_used_at, revoked_at`

const insertKeySQL = `INSERT INTO posthorn.api_keys (id, role, tenant_id, name, hash)
	VALUES ($1, $2, nullif($3, ''), $4, $5) RETURNING ` + keyColumns

// The limits of a key's fields.
const (
	maxTenantLength = 255
	maxNameLength   = 255
)

// Create makes a key and returns it with its text, which can't be read again. A
// subscriber's key needs a tenant of 1 to 255 characters, not "*"; an operator's
// must have none. The name may be empty. It returns an error for which
// errors.Is(err, ErrInvalid) is true when one of these rules is broken.
func (s *Store) Create(ctx context.Context, role Role, tenantID, name string) (Key, string, error) {
	if err := check(role, tenantID, name); err != nil {
		return Key{}, "", fmt.Errorf("create key: %w: %w", ErrInvalid, err)
	}
	secret := newSecret()
	rows, err := s.pool.Query(ctx, insertKeySQL, typeid.New[keyKind](), role, tenantID, name, hash(secret))
	if err != nil {
		return Key{}, "", fmt.Errorf("create key: %w", err)
	}
	key, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Key])
	if err != nil {
		return Key{}, "", fmt.Errorf("create key: %w", err)
	}
	return key, secret, nil
}

func check(role Role, tenantID, name string) error {
	if _, err := ParseRole(string(role)); err != nil {
		return err
	}
	switch {
	case role == Operator && tenantID != "":
		return errors.New("an operator key belongs to no tenant")
	case role == Subscriber && tenantID == "":
		return errors.New("a subscriber key needs a tenant")
	case tenantID == "*":
		return errors.New(`a subscriber key is bound to one tenant, "*" is none`)
	case !isText(tenantID, maxTenantLength):
		return fmt.Errorf("the tenant must have at most %d characters, and no NUL", maxTenantLength)
	case !isText(name, maxNameLength):
		return fmt.Errorf("the name must have at most %d characters, and no NUL", maxNameLength)
	}
	return nil
}

// isText says whether PostgreSQL's text can hold s, in a field of so many characters.
func isText(s string, limit int) bool {
	return utf8.ValidString(s) && !strings.ContainsRune(s, 0) && utf8.RuneCountInString(s) <= limit
}

const listKeysSQL = `SELECT ` + keyColumns + ` FROM posthorn.api_keys
	WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2`

// List returns up to limit keys older than before, newest first, revoked ones
// too; the zero id begins with the newest.
func (s *Store) List(ctx context.Context, before KeyID, limit int) ([]Key, error) {
	rows, err := s.pool.Query(ctx, listKeysSQL, before, limit)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Key])
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	return list, nil
}

const revokeKeySQL = `UPDATE posthorn.api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1`

// Revoke ends a key: requests that begin afterwards are refused. To revoke one
// again changes nothing. It returns an error for which errors.Is(err, ErrNotFound)
// is true when there is no such key.
func (s *Store) Revoke(ctx context.Context, id KeyID) error {
	tag, err := s.pool.Exec(ctx, revokeKeySQL, id)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("revoke key %s: %w", id, err)
	}
	return nil
}

const authenticateSQL = `
	SELECT id, role, coalesce(tenant_id, ''), hash, last_used_at IS NULL OR last_used_at < now() - interval '1 minute'
	FROM posthorn.api_keys WHERE hash = $1 AND revoked_at IS NULL`

// The condition again: of the requests that find the mark old at once, one moves it.
const markUsedSQL = `UPDATE posthorn.api_keys SET last_used_at = now()
	WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')`

// Authenticate says who presents the key. It returns an error for which
// errors.Is(err, ErrUnknown) is true for one that was never made or has been
// revoked.
func (s *Store) Authenticate(ctx context.Context, presented string) (Identity, error) {
	if !strings.HasPrefix(presented, prefix) {
		return Identity{}, ErrUnknown
	}
	want := hash(presented)
	var who Identity
	var stored []byte
	var stale bool
	err := s.pool.QueryRow(ctx, authenticateSQL, want).Scan(&who.KeyID, &who.Role, &who.TenantID, &stored, &stale)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Identity{}, ErrUnknown
	case err != nil:
		return Identity{}, fmt.Errorf("look up key: %w", err)
	case subtle.ConstantTimeCompare(stored, want) != 1: // the index compares byte by byte
		return Identity{}, ErrUnknown
	}
	if stale {
		if _, err := s.pool.Exec(ctx, markUsedSQL, who.KeyID); err != nil {
			return Identity{}, fmt.Errorf("mark key %s as used: %w", who.KeyID, err)
		}
	}
	return who, nil
}
