package subscriptions

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/webhook"
)

// Directory is a process's copy of every endpoint, for matching and sending
// without a query. It is safe for concurrent use.
type Directory struct {
	keyring *Keyring

	refresh  sync.Mutex // held by the one caller that loads changes
	mu       sync.RWMutex
	revision int64
	byID     map[EndpointID]*Subscription
	byTenant map[string][]*Subscription // ordered by id
	watchers []func(before, after *Subscription)
}

// Subscription is an endpoint as the dispatcher needs it. It is immutable; a
// change of the endpoint makes another one.
type Subscription struct {
	Endpoint

	secrets []liveSecret
	signer  atomic.Pointer[signerUntil]
}

// liveSecret is a secret and when it stops signing; the zero time means never.
type liveSecret struct {
	secret    webhook.Secret
	expiresAt time.Time
}

// signerUntil is a signer of all secrets that live until the given time.
type signerUntil struct {
	signer *webhook.Signer
	until  time.Time // zero: for ever
}

// NewDirectory makes an empty directory; Refresh fills it.
func NewDirectory(keyring *Keyring) *Directory {
	return &Directory{
		keyring:  keyring,
		byID:     map[EndpointID]*Subscription{},
		byTenant: map[string][]*Subscription{},
	}
}

// Get gives the endpoint's subscription, or nil for one that was deleted or
// that this copy has not seen.
func (d *Directory) Get(id EndpointID) *Subscription {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.byID[id]
}

// Signer gives a signer of the secrets that live at the given time, or an error
// when there is none.
func (s *Subscription) Signer(now time.Time) (*webhook.Signer, error) {
	if u := s.signer.Load(); u != nil && (u.until.IsZero() || now.Before(u.until)) {
		return u.signer, nil
	}
	var live []webhook.Secret
	var until time.Time
	for _, l := range s.secrets {
		switch {
		case l.expiresAt.IsZero():
			live = append(live, l.secret)
		case now.Before(l.expiresAt):
			live = append(live, l.secret)
			if until.IsZero() || l.expiresAt.Before(until) {
				until = l.expiresAt
			}
		}
	}
	// Newest first, and no more than receivers are promised.
	signer, err := webhook.NewSigner(live[:min(len(live), webhook.MaxSecrets)]...)
	if err != nil {
		return nil, fmt.Errorf("sign for %s: %w", s.ID, err)
	}
	s.signer.Store(&signerUntil{signer, until})
	return signer, nil
}

// Querier is a connection, a pool or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

const revisionSQL = `SELECT revision FROM posthorn.subscriptions_revision`

const changedEndpointsSQL = `SELECT ` + endpointColumns + `, deleted_at IS NOT NULL, revision
	FROM posthorn.endpoints WHERE revision > $1 ORDER BY revision`

const secretsSQL = `
	SELECT endpoint_id, ciphertext, expires_at FROM posthorn.endpoint_secrets
	WHERE endpoint_id = ANY($1) AND (expires_at IS NULL OR expires_at > now())
	ORDER BY created_at DESC, id DESC`

// Refresh loads what has changed since the last call and returns the revision
// that the directory then stands at. Run in READ COMMITTED, after a statement
// that saw an event, it sees every endpoint committed before that event. Those
// that watch with OnChange are told before it returns.
func (d *Directory) Refresh(ctx context.Context, q Querier) (int64, error) {
	d.refresh.Lock()
	defer d.refresh.Unlock()
	var revision int64
	if err := q.QueryRow(ctx, revisionSQL).Scan(&revision); err != nil {
		return 0, fmt.Errorf("refresh subscriptions: %w", err)
	}
	if revision == d.revision { // revision is written under refresh only
		return revision, nil
	}
	changes, err := d.load(ctx, q)
	if err != nil {
		return 0, fmt.Errorf("refresh subscriptions: %w", err)
	}
	replaced := d.apply(changes)
	d.revision = max(d.revision, revision)
	d.tell(changes, replaced)
	return d.revision, nil
}

// change is an endpoint's new state; sub is nil when it was deleted.
type change struct {
	id       EndpointID
	tenantID string
	sub      *Subscription
	revision int64
}

func (d *Directory) load(ctx context.Context, q Querier) ([]change, error) {
	rows, err := q.Query(ctx, changedEndpointsSQL, d.revision)
	if err != nil {
		return nil, err
	}
	changes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c change, err error) {
		sub := &Subscription{}
		var deleted bool
		err = row.Scan(append(sub.Endpoint.fields(), &deleted, &c.revision)...)
		c.id, c.tenantID = sub.ID, sub.TenantID
		if !deleted {
			c.sub = sub
		}
		return c, err
	})
	if err != nil {
		return nil, err
	}
	return changes, d.loadSecrets(ctx, q, changes)
}

func (d *Directory) loadSecrets(ctx context.Context, q Querier, changes []change) error {
	byID := map[EndpointID]*Subscription{}
	var ids []EndpointID
	for _, c := range changes {
		if c.sub != nil {
			byID[c.id] = c.sub
			ids = append(ids, c.id)
		}
	}
	rows, err := q.Query(ctx, secretsSQL, ids)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id EndpointID
		var ciphertext []byte
		var expiresAt *time.Time
		if err := rows.Scan(&id, &ciphertext, &expiresAt); err != nil {
			return err
		}
		secret, err := d.keyring.open(id, ciphertext)
		if err != nil && d.revision == 0 {
			return err // at the start: the service was given the wrong keyset
		} else if err != nil {
			continue // later: the others must not wait for an endpoint that can't be signed for
		}
		live := liveSecret{secret: secret}
		if expiresAt != nil {
			live.expiresAt = *expiresAt
		}
		byID[id].secrets = append(byID[id].secrets, live)
	}
	return rows.Err()
}

// apply makes the changes visible all at once and returns what each replaced.
func (d *Directory) apply(changes []change) []*Subscription {
	d.mu.Lock()
	defer d.mu.Unlock()
	replaced := make([]*Subscription, len(changes))
	for i, c := range changes {
		d.revision = max(d.revision, c.revision)
		replaced[i] = d.replace(c)
	}
	return replaced
}

// replace puts the endpoint's new state in place of the one that it returns.
func (d *Directory) replace(c change) *Subscription {
	of := d.byTenant[c.tenantID]
	at, found := slices.BinarySearchFunc(of, c.id, func(s *Subscription, id EndpointID) int { return s.ID.Compare(id) })
	switch {
	case c.sub == nil && found:
		of = slices.Delete(of, at, at+1)
	case c.sub != nil && found:
		of[at] = c.sub
	case c.sub != nil:
		of = slices.Insert(of, at, c.sub)
	}
	d.byTenant[c.tenantID] = of
	before := d.byID[c.id]
	if delete(d.byID, c.id); c.sub != nil {
		d.byID[c.id] = c.sub
	}
	return before
}
