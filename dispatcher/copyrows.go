package dispatcher

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// copyRows are rows for a COPY … FROM STDIN (FORMAT binary): the cheapest way into a
// table, for PostgreSQL, which writes a page of them at a time, and for this process,
// which needs no value on the heap. The fields of a row are added in their order.
// The format: PostgreSQL's documentation of COPY.
// It may be used for one COPY after the other.
type copyRows struct{ b []byte }

const copyHeader = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" // no flags, no extension

// reset begins anew, in the room that there is.
func (c *copyRows) reset() { c.b = append(c.b[:0], copyHeader...) }

// row begins a row of so many fields.
func (c *copyRows) row(fields int) { c.b = binary.BigEndian.AppendUint16(c.b, uint16(fields)) }

func (c *copyRows) length(n int) { c.b = binary.BigEndian.AppendUint32(c.b, uint32(n)) }

func (c *copyRows) null() { c.b = binary.BigEndian.AppendUint32(c.b, 0xffff_ffff) }

func (c *copyRows) uuid(v pgtype.UUID) {
	c.length(len(v.Bytes))
	c.b = append(c.b, v.Bytes[:]...)
}

func (c *copyRows) int4(v int32) {
	c.length(4)
	c.b = binary.BigEndian.AppendUint32(c.b, uint32(v))
}

func (c *copyRows) int8(v int64) {
	c.length(8)
	c.b = binary.BigEndian.AppendUint64(c.b, uint64(v))
}

// postgresEpoch is where PostgreSQL counts from, in Unix microseconds.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

func (c *copyRows) timestamptz(v time.Time) { c.int8(v.UnixMicro() - postgresEpoch) }

func (c *copyRows) text(v string) {
	c.length(len(v))
	c.b = append(c.b, v...)
}

// bytea adds bytes; nil is NULL.
func (c *copyRows) bytea(v []byte) {
	if v == nil {
		c.null()
		return
	}
	c.length(len(v))
	c.b = append(c.b, v...)
}

// int8OrNull adds a number that may be missing: 0 is NULL.
func (c *copyRows) int8OrNull(v int64) {
	if v == 0 {
		c.null()
		return
	}
	c.int8(v)
}

// textOrNull adds a text that may be missing: "" is NULL.
func (c *copyRows) textOrNull(v string) {
	if v == "" {
		c.null()
		return
	}
	c.text(v)
}

// copyTo runs the COPY with the rows.
func (c *copyRows) copyTo(ctx context.Context, tx pgx.Tx, sql string) error {
	c.b = binary.BigEndian.AppendUint16(c.b, 0xffff) // the end
	defer c.forget()
	if _, err := tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(c.b), sql); err != nil {
		c.b = nil // the driver may be reading it still
		return fmt.Errorf("copy: %w", err)
	}
	return nil
}

// maxKeptCopy is how much room, in bytes, is kept for the next rows: more than it takes
// for the usual ones.
const maxKeptCopy = 2 << 20

// forget lets go of room that only large rows have needed.
func (c *copyRows) forget() {
	if cap(c.b) > maxKeptCopy {
		c.b = nil
	}
}
