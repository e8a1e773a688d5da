package keys

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/posthorn/posthorn/internal/typeid"
)

// KeyID names a key, to list and revoke it by: key_ and 26 base32 characters
// outside. It is no secret.
type KeyID = typeid.ID[keyKind]

type keyKind struct{}

// Prefix makes the kind of id that KeyID is.
func (keyKind) Prefix() string { return "key" }

// ParseKeyID reads the outside form of a key's id.
func ParseKeyID(s string) (KeyID, error) { return typeid.Parse[keyKind](s) }

// Role says what a key may do.
type Role string

// The roles.
const (
	// Operator sees every tenant.
	Operator Role = "operator"
	// Subscriber is bound to one tenant.
	Subscriber Role = "subscriber"
)

// ParseRole reads a role's name.
func ParseRole(s string) (Role, error) {
	switch r := Role(s); r {
	case Operator, Subscriber:
		return r, nil
	}
	return "", fmt.Errorf("%.64q is no role: it must be operator or subscriber", s)
}

// Key is what is known of a key after its creation; its text is not.
type Key struct {
	// ID names the key.
	ID KeyID
	// Role says what it may do.
	Role Role
	// TenantID is the subscriber's tenant, empty for operators.
	TenantID string
	// Name is the creator's note.
	Name string
	// CreatedAt is by the database's clock.
	CreatedAt time.Time
	// LastUsedAt is to the minute; nil for one that was never used.
	LastUsedAt *time.Time
	// RevokedAt is nil for a key that works.
	RevokedAt *time.Time
}

// Identity is who presented a key.
type Identity struct {
	// Role says what the caller may do.
	Role Role
	// TenantID is the subscriber's tenant, empty for operators.
	TenantID string
	// KeyID names the key; zero for the operator key of the configuration.
	KeyID KeyID
}

// prefix lets people and secret scanners recognise a key.
const prefix = "phk_"

// newSecret makes a key's text: phk_ and 43 characters of base64url.
func newSecret() string {
	var b [32]byte
	rand.Read(b[:]) // never fails, as of Go 1.24
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// hash is what the database knows of a key.
func hash(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}
