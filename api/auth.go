package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/posthorn/posthorn/api/keys"
	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// authenticate finds out who calls the routes below /v1/, those that do not
// exist too: who has no key learns nothing.
func (s *Server) authenticate(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		if !strings.HasPrefix(r.URL.Path, "/v1/") {
			return next(c)
		}
		who, err := s.whoCalls(r.Context(), r.Header.Get("Authorization"))
		if err != nil {
			return err
		}
		c.SetRequest(r.WithContext(context.WithValue(r.Context(), identityKey, who)))
		return next(c)
	}
}

func (s *Server) whoCalls(ctx context.Context, header string) (keys.Identity, error) {
	scheme, key, _ := strings.Cut(header, " ")
	if key = strings.TrimSpace(key); !strings.EqualFold(scheme, "Bearer") || key == "" {
		return keys.Identity{}, problem("unauthorized", "Send an API key, as Authorization: Bearer <key>.")
	}
	if sum := sha256.Sum256([]byte(key)); subtle.ConstantTimeCompare(sum[:], s.operatorHash) == 1 {
		return keys.Identity{Role: keys.Operator}, nil
	}
	who, err := s.config.Keys.Authenticate(ctx, key)
	if errors.Is(err, keys.ErrUnknown) {
		return keys.Identity{}, problem("unauthorized", "This API key is unknown or has been revoked.")
	}
	return who, err
}

// identity is who calls, if authenticate has found out.
func identity(ctx context.Context) (keys.Identity, bool) {
	who, ok := ctx.Value(identityKey).(keys.Identity)
	return who, ok
}

// scope is the tenant that the caller is bound to, empty for operators. Who is
// unknown sees nothing: a route without authentication must not ask.
func scope(ctx context.Context) string {
	who, ok := identity(ctx)
	if !ok || who.Role == keys.Subscriber && who.TenantID == "" {
		panic("api: scope of an unknown caller")
	}
	return who.TenantID
}

// requireOperator refuses subscribers.
func requireOperator(ctx context.Context) error {
	if scope(ctx) != "" {
		return problem("operator_only", "This is for operators only.")
	}
	return nil
}

// listTenant is the tenant whose objects a list shows, empty for all.
func listTenant(ctx context.Context, asked *string) (string, error) {
	own := scope(ctx)
	switch {
	case asked == nil:
		return own, nil
	case own == "" || *asked == own:
		return *asked, nil
	}
	return "", errTenantMismatch
}

// newTenant is the tenant of an object that the caller creates.
func newTenant(ctx context.Context, asked *string) (string, error) {
	own := scope(ctx)
	switch {
	case asked == nil && own == "":
		return outbox.DefaultTenant, nil
	case asked == nil:
		return own, nil
	case own == "" || *asked == own:
		return *asked, nil
	case *asked == subscriptions.AllTenants:
		return "", problem("operator_only", `Only operators may use the tenant "*".`)
	}
	return "", errTenantMismatch
}

var errTenantMismatch = problem("tenant_mismatch", "This key is bound to another tenant than tenant_id names.")
