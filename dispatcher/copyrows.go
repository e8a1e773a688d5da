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
type copyRows struct{ b []byte }

const copyHeader = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" // no flags, no extension

// newCopyRows makes room for rows of about so many bytes altogether.
func newCopyRows(size int) *copyRows {
	return &copyRows{append(make([]byte, 0, len(copyHeader)+size), copyHeader...)}
}

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

// orNull adds a text that may be missing: "" is NULL.
func (c *copyRows) orNull(v string) {
	if v == "" {
		c.null()
		return
	}
	c.text(v)
}

// copyTo runs the COPY with the rows.
func (c *copyRows) copyTo(ctx context.Context, tx pgx.Tx, sql string) error {
	c.b = binary.BigEndian.AppendUint16(c.b, 0xffff) // the end
	if _, err := tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(c.b), sql); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	return nil
}
