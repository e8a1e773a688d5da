// Package typeid gives every kind of object an id type of its own: a UUID in
// the database, and outside a prefix, an underscore and the UUID as 26
// lower-case Crockford base32 characters, as the TypeID specification has it
// (evt_01k4x3b8v2e0rr8c9kq7m5n4ts).
//
// Ids are UUIDv7: they sort by the time they were made at, to the millisecond.
package typeid

import (
	"bytes"
	"crypto/rand"
	"database/sql/driver"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// Kind names a kind of object; each kind is an empty struct type, so that the
// compiler keeps an event's id from being used as an endpoint's.
type Kind interface {
	// Prefix is what stands before the underscore, such as "evt".
	Prefix() string
}

// ID is the id of one object of kind K. The zero ID belongs to no object and
// is NULL in the database. IDs are comparable and safe for concurrent use.
type ID[K Kind] struct {
	uuid [16]byte
}

// New makes an id from the present time and 74 random bits.
func New[K Kind]() ID[K] { return NewAt[K](time.Now()) }

// NewAt makes an id that sorts at the given time, to the millisecond. Rows
// partitioned by id land in the partition of that time.
func NewAt[K Kind](at time.Time) ID[K] {
	var id ID[K]
	rand.Read(id.uuid[6:]) // never fails, as of Go 1.24
	putMillis(&id.uuid, at)
	id.uuid[6] = id.uuid[6]&0x0f | 0x70 // version 7
	id.uuid[8] = id.uuid[8]&0x3f | 0x80 // RFC 9562 variant
	return id
}

// Next is the id that sorts directly after this one: a run of them made from one
// NewAt fills an index from left to right and is found again as a range. Runs of
// different origins don't meet, as their beginnings are random.
func (id ID[K]) Next() ID[K] {
	for i := 15; i > 8; i-- { // the version and variant bits stay
		if id.uuid[i]++; id.uuid[i] != 0 {
			break
		}
	}
	return id
}

// FromUUID takes a UUID of any version as an id.
func FromUUID[K Kind](uuid [16]byte) ID[K] { return ID[K]{uuid: uuid} }

// Floor returns the least id that sorts at the given time: every id made
// earlier is smaller. It is a bound for range queries, not an object's id.
func Floor[K Kind](at time.Time) ID[K] {
	var id ID[K]
	putMillis(&id.uuid, at)
	return id
}

func putMillis(uuid *[16]byte, at time.Time) {
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(at.UnixMilli()))
	copy(uuid[:6], ms[2:])
}

// Parse reads the outside form. The error says what is wrong with the text and
// never holds more than its first 64 bytes.
func Parse[K Kind](s string) (ID[K], error) {
	var id ID[K]
	var k K
	prefix := k.Prefix() + "_"
	if len(s) != len(prefix)+encodedLen || s[:len(prefix)] != prefix {
		return id, fmt.Errorf("%.64q is not an id of the form %s and 26 base32 characters", s, prefix)
	}
	if !decode(&id.uuid, s[len(prefix):]) {
		return ID[K]{}, fmt.Errorf("%q has characters that no id has", s)
	}
	return id, nil
}

// String gives the outside form.
func (id ID[K]) String() string {
	var k K
	dst := make([]byte, 0, 32)
	dst = append(dst, k.Prefix()...)
	dst = append(dst, '_')
	return string(appendEncoded(dst, &id.uuid))
}

// UUID gives the sixteen bytes that the database stores.
func (id ID[K]) UUID() [16]byte { return id.uuid }

// Compare orders ids as the database does: by their bytes, so by time.
func (id ID[K]) Compare(other ID[K]) int { return bytes.Compare(id.uuid[:], other.uuid[:]) }

// IsZero reports whether the id belongs to no object.
func (id ID[K]) IsZero() bool { return id.uuid == [16]byte{} }

// Time gives the time that a UUIDv7 was made at, to the millisecond; of other
// versions the result is meaningless.
func (id ID[K]) Time() time.Time {
	var ms [8]byte
	copy(ms[2:], id.uuid[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(ms[:]))).UTC()
}

// MarshalText implements encoding.TextMarshaler with the outside form.
func (id ID[K]) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; it refuses what Parse does.
func (id *ID[K]) UnmarshalText(text []byte) error {
	parsed, err := Parse[K](string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// UUIDValue implements pgtype.UUIDValuer: the zero ID is NULL.
func (id ID[K]) UUIDValue() (pgtype.UUID, error) {
	return pgtype.UUID{Bytes: id.uuid, Valid: !id.IsZero()}, nil
}

// ScanUUID implements pgtype.UUIDScanner: NULL is the zero ID.
func (id *ID[K]) ScanUUID(v pgtype.UUID) error {
	id.uuid = v.Bytes
	if !v.Valid {
		id.uuid = [16]byte{}
	}
	return nil
}

// Value implements driver.Valuer for database/sql: the UUID's text, or NULL.
func (id ID[K]) Value() (driver.Value, error) {
	if id.IsZero() {
		return nil, nil
	}
	u := id.uuid
	dst := make([]byte, 0, 36)
	for i, end := range [...]int{4, 6, 8, 10, 16} {
		if i > 0 {
			dst = append(dst, '-')
		}
		start := [...]int{0, 4, 6, 8, 10}[i]
		dst = hex.AppendEncode(dst, u[start:end])
	}
	return string(dst), nil
}

// Scan implements sql.Scanner for database/sql: it takes a UUID's text, its
// sixteen bytes, or NULL.
func (id *ID[K]) Scan(src any) error {
	var u pgtype.UUID
	if b, ok := src.([]byte); ok {
		src = string(b)
	}
	if err := u.Scan(src); err != nil {
		return fmt.Errorf("scan id: %w", err)
	}
	return id.ScanUUID(u)
}
