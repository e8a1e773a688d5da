package subscriptions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/internal/netguard"
	"github.com/posthorn/posthorn/internal/typeid"
	"github.com/posthorn/posthorn/webhook"
)

// ErrNotFound is the error for an endpoint that does not exist, was deleted, or
// belongs to a tenant outside the caller's scope.
var ErrNotFound = errors.New("endpoint not found")

// Store writes and reads the tables of endpoints and their secrets. It is safe
// for concurrent use.
type Store struct {
	pool    *pgxpool.Pool
	keyring *Keyring
	policy  netguard.Policy
}

// NewStore makes a Store. The policy says which URLs may be registered.
func NewStore(pool *pgxpool.Pool, keyring *Keyring, policy netguard.Policy) *Store {
	return &Store{pool: pool, keyring: keyring, policy: policy}
}

// endpointColumns are the columns that fields scans, in its order.
const endpointColumns = `id, tenant_id, url, event_types, description, payload_format, metadata,
	max_in_flight, coalesce(rate_limit_per_second, 0), ordering,
	status, coalesce(disabled_reason, ''), version, health_epoch, created_at, updated_at`

func (e *Endpoint) fields() []any {
	return []any{&e.ID, &e.TenantID, &e.URL, &e.EventTypes, &e.Description, &e.PayloadFormat, (*[]byte)(&e.Metadata),
		&e.MaxInFlight, &e.RateLimitPerSecond, &e.Ordering,
		&e.Status, &e.DisabledReason, &e.Version, &e.HealthEpoch, &e.CreatedAt, &e.UpdatedAt}
}

func scanEndpoint(row pgx.CollectableRow) (e Endpoint, err error) {
	return e, row.Scan(e.fields()...)
}

// Draft is what a caller says of an endpoint that is to be made.
type Draft struct {
	// TenantID is a tenant, or AllTenants.
	TenantID string
	// URL must pass the store's policy.
	URL string
	// EventTypes are 1 to 100 patterns.
	EventTypes []string
	// Description has at most 1,000 characters.
	Description string
	// PayloadFormat is Standard when empty.
	PayloadFormat PayloadFormat
	// Metadata is a JSON object of at most 16 KiB; nil means {}.
	Metadata json.RawMessage
	// MaxInFlight is 1 to 256; 0 means DefaultMaxInFlight.
	MaxInFlight int
	// RateLimitPerSecond is 0.01 to 10,000; 0 means no limit.
	RateLimitPerSecond float64
	// Ordering is Unordered when empty.
	Ordering Ordering
}

// withDefaults fills in what was left out.
func (d Draft) withDefaults() Draft {
	if d.PayloadFormat == "" {
		d.PayloadFormat = Standard
	}
	if d.Metadata == nil {
		d.Metadata = json.RawMessage(`{}`)
	}
	if d.MaxInFlight == 0 {
		d.MaxInFlight = DefaultMaxInFlight
	}
	if d.Ordering == "" {
		d.Ordering = Unordered
	}
	return d
}

// Every change of a subscription takes the next revision first: writers queue
// here, so revisions become visible in order.
const nextRevisionSQL = `UPDATE posthorn.subscriptions_revision SET revision = revision + 1 RETURNING revision`

const insertEndpointSQL = `
	INSERT INTO posthorn.endpoints (id, tenant_id, url, event_types, description, payload_format, metadata,
		max_in_flight, rate_limit_per_second, ordering, version, revision)
	VALUES ($1, $2, $3, $4, $5, $6, $7::text::json, $8, nullif($9::float8, 0), $10, 1, $11)
	RETURNING ` + endpointColumns

const insertSecretSQL = `INSERT INTO posthorn.endpoint_secrets (id, endpoint_id, ciphertext) VALUES ($1, $2, $3)`

const insertVersionSQL = `
	INSERT INTO posthorn.endpoint_versions
		(endpoint_id, version, revision, tenant_id, url, event_types, payload_format, status, deleted)
	SELECT id, version, revision, tenant_id, url, event_types, payload_format, status, deleted_at IS NOT NULL
	FROM posthorn.endpoints WHERE id = $1`

// Create makes an enabled endpoint with a new secret, which can't be read again
// afterwards. It returns an *InvalidError for a draft that breaks a rule.
func (s *Store) Create(ctx context.Context, d Draft) (Endpoint, webhook.Secret, error) {
	d = d.withDefaults()
	if err := s.check(d); err != nil {
		return Endpoint{}, webhook.Secret{}, err
	}
	id := typeid.New[endpointKind]()
	secret := webhook.NewSecret()
	ciphertext, err := s.keyring.seal(id, secret)
	if err != nil {
		return Endpoint{}, webhook.Secret{}, err
	}
	var e Endpoint
	err = s.change(ctx, func(tx pgx.Tx, revision int64) error {
		e, err = queryEndpoint(ctx, tx, insertEndpointSQL, id, d.TenantID, d.URL, d.EventTypes,
			d.Description, d.PayloadFormat, string(d.Metadata), d.MaxInFlight, d.RateLimitPerSecond, d.Ordering, revision)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, insertSecretSQL, typeid.New[secretKind](), id, ciphertext); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, insertVersionSQL, id)
		return err
	})
	if err != nil {
		return Endpoint{}, webhook.Secret{}, fmt.Errorf("create endpoint: %w", err)
	}
	return e, secret, nil
}

type secretKind struct{}

// Prefix makes the kind of id that a secret's is; it is never shown.
func (secretKind) Prefix() string { return "sec" }

// change runs f in a transaction at the subscriptions' next revision.
func (s *Store) change(ctx context.Context, f func(tx pgx.Tx, revision int64) error) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var revision int64
		if err := tx.QueryRow(ctx, nextRevisionSQL).Scan(&revision); err != nil {
			return err
		}
		return f(tx, revision)
	})
}

func queryEndpoint(ctx context.Context, q Querier, sql string, args ...any) (Endpoint, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return Endpoint{}, err
	}
	e, err := pgx.CollectExactlyOneRow(rows, scanEndpoint)
	if errors.Is(err, pgx.ErrNoRows) {
		return Endpoint{}, ErrNotFound
	}
	return e, err
}

// Scope limits what a caller sees: one tenant's endpoints, or with the zero
// Scope every tenant's.
type Scope struct {
	// TenantID is the only tenant in sight; empty means all.
	TenantID string
}

const getEndpointSQL = `SELECT ` + endpointColumns + ` FROM posthorn.endpoints
	WHERE id = $1 AND deleted_at IS NULL AND ($2 = '' OR tenant_id = $2)`

// Get returns the endpoint, or an error for which errors.Is(err, ErrNotFound)
// is true.
func (s *Store) Get(ctx context.Context, scope Scope, id EndpointID) (Endpoint, error) {
	e, err := queryEndpoint(ctx, s.pool, getEndpointSQL, id, scope.TenantID)
	if err != nil {
		return Endpoint{}, fmt.Errorf("get endpoint %s: %w", id, err)
	}
	return e, nil
}

const endpointsByIDSQL = `SELECT ` + endpointColumns + ` FROM posthorn.endpoints
	WHERE id = ANY($1) AND deleted_at IS NULL AND ($2 = '' OR tenant_id = $2)`

// ByID returns the endpoints of these ids that there are and that are in scope.
func (s *Store) ByID(ctx context.Context, scope Scope, ids []EndpointID) (map[EndpointID]Endpoint, error) {
	rows, err := s.pool.Query(ctx, endpointsByIDSQL, ids, scope.TenantID)
	if err != nil {
		return nil, fmt.Errorf("get %d endpoints: %w", len(ids), err)
	}
	list, err := pgx.CollectRows(rows, scanEndpoint)
	if err != nil {
		return nil, fmt.Errorf("get %d endpoints: %w", len(ids), err)
	}
	byID := make(map[EndpointID]Endpoint, len(list))
	for _, e := range list {
		byID[e.ID] = e
	}
	return byID, nil
}

const listEndpointsSQL = `SELECT ` + endpointColumns + ` FROM posthorn.endpoints
	WHERE deleted_at IS NULL AND ($1 = '' OR tenant_id = $1) AND ($2::uuid IS NULL OR id < $2)
	ORDER BY id DESC LIMIT $3`

// List returns up to limit endpoints older than before, newest first; the zero
// id begins with the newest.
func (s *Store) List(ctx context.Context, scope Scope, before EndpointID, limit int) ([]Endpoint, error) {
	rows, err := s.pool.Query(ctx, listEndpointsSQL, scope.TenantID, before, limit)
	if err != nil {
		return nil, fmt.Errorf("list endpoints: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanEndpoint)
	if err != nil {
		return nil, fmt.Errorf("list endpoints: %w", err)
	}
	return list, nil
}

const deleteEndpointSQL = `
	UPDATE posthorn.endpoints SET deleted_at = now(), updated_at = now(), version = version + 1, revision = $3
	WHERE id = $1 AND deleted_at IS NULL AND ($2 = '' OR tenant_id = $2)`

const expireSecretsSQL = `UPDATE posthorn.endpoint_secrets SET expires_at = now() WHERE endpoint_id = $1`

// Delete removes an endpoint: no new event is matched to it, and its unfinished
// deliveries are cancelled as their turn comes. The row stays for the record,
// its secrets no longer sign.
func (s *Store) Delete(ctx context.Context, scope Scope, id EndpointID) error {
	err := s.change(ctx, func(tx pgx.Tx, revision int64) error {
		tag, err := tx.Exec(ctx, deleteEndpointSQL, id, scope.TenantID, revision)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		if _, err := tx.Exec(ctx, expireSecretsSQL, id); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, insertVersionSQL, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("delete endpoint %s: %w", id, err)
	}
	return nil
}
