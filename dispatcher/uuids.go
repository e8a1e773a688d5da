package dispatcher

import (
	"bytes"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/posthorn/posthorn/internal/typeid"
)

// uuids are ids of any kind as an array parameter that the driver encodes
// without reflection; the hot statements take thousands.
type uuids = pgtype.FlatArray[pgtype.UUID]

func uuidOf[K typeid.Kind](id typeid.ID[K]) pgtype.UUID {
	return pgtype.UUID{Bytes: id.UUID(), Valid: true}
}

// bounds gives the least and the greatest, with which PostgreSQL leaves out the
// partitions that hold none. There must be at least one.
func bounds(u uuids) (least, greatest pgtype.UUID) {
	least, greatest = u[0], u[0]
	for _, id := range u[1:] {
		if bytes.Compare(id.Bytes[:], least.Bytes[:]) < 0 {
			least = id
		}
		if bytes.Compare(id.Bytes[:], greatest.Bytes[:]) > 0 {
			greatest = id
		}
	}
	return least, greatest
}
