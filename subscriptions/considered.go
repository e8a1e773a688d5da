package subscriptions

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Considered is an endpoint as it was when an event was routed.
type Considered struct {
	// EndpointID and Version name it.
	EndpointID EndpointID
	Version    int
	// EventTypes are the patterns that were in force.
	EventTypes []Pattern
	// Status is what it was then.
	Status Status
	// CreatedAt is when that version came to be.
	CreatedAt time.Time
}

const consideredSQL = `
	SELECT endpoint_id, version, event_types, status, created_at FROM (
		SELECT DISTINCT ON (endpoint_id) * FROM posthorn.endpoint_versions
		WHERE tenant_id = ANY($1) AND revision <= $2
		ORDER BY endpoint_id, version DESC) v
	WHERE NOT deleted ORDER BY endpoint_id LIMIT $3`

// ConsideredAt returns the endpoints that an event of the tenant, routed at the
// given revision, was matched against, at most limit of them: the tenant's own,
// and for the zero Scope those of AllTenants too; none for a tenant out of scope.
func (s *Store) ConsideredAt(ctx context.Context, scope Scope, tenantID string, revision int64, limit int) ([]Considered, error) {
	tenants := []string{tenantID}
	switch scope {
	case Scope{}:
		tenants = append(tenants, AllTenants)
	case Scope{TenantID: tenantID}:
	default:
		return nil, nil
	}
	rows, err := s.pool.Query(ctx, consideredSQL, tenants, revision, limit)
	if err != nil {
		return nil, fmt.Errorf("list considered endpoints: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Considered])
	if err != nil {
		return nil, fmt.Errorf("list considered endpoints: %w", err)
	}
	return list, nil
}
