package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/posthorn/posthorn/internal/typeid"
	"github.com/posthorn/posthorn/outbox"
)

// A cursor is a version byte, the place of the last item seen, and a checksum
// over both, the list and the caller's scope. The checksum is no secret: it
// catches cursors that were cut, changed or brought from another list. What a
// forged one could reach is what the caller may list anyway, because every
// query filters by scope.
const (
	cursorVersion  = 1
	cursorChecksum = 8
)

// list names a list and who walks it: cursors of one are refused by the others.
type list struct{ name, scope string }

func (l list) checksum(place []byte) []byte {
	h := sha256.New()
	for _, part := range [][]byte{[]byte("posthorn cursor"), []byte(l.name), []byte(l.scope), place} {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(part)))
		h.Write(n[:])
		h.Write(part)
	}
	return h.Sum(nil)[:cursorChecksum]
}

// cursor makes the cursor of a place.
func (l list) cursor(place []byte) *string {
	b := append([]byte{cursorVersion}, place...)
	text := base64.RawURLEncoding.EncodeToString(append(b, l.checksum(b)...))
	return &text
}

// place reads a cursor whose place has so many bytes; nil for no cursor.
func (l list) place(cursor *string, size int) ([]byte, error) {
	if cursor == nil {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(*cursor)
	if err != nil || len(b) != 1+size+cursorChecksum || b[0] != cursorVersion {
		return nil, errInvalidCursor
	}
	content, sum := b[:1+size], b[1+size:]
	if subtle.ConstantTimeCompare(sum, l.checksum(content)) != 1 {
		return nil, errInvalidCursor
	}
	return content[1:], nil
}

var errInvalidCursor = problem("invalid_cursor", "Use next_cursor of the page before, of the same list, as it is.")

// readID reads a cursor whose place is an id; without a cursor id stays as it is.
func readID[K typeid.Kind](l list, cursor *string, id *typeid.ID[K]) error {
	place, err := l.place(cursor, 16)
	if place != nil {
		setID(id, place)
	}
	return err
}

func setID[K typeid.Kind](id *typeid.ID[K], uuid []byte) {
	*id = typeid.FromUUID[K]([16]byte(uuid))
}

// idCursor is the cursor of an id.
func idCursor[K typeid.Kind](l list, id typeid.ID[K]) *string {
	uuid := id.UUID()
	return l.cursor(uuid[:])
}

// eventPlace reads a cursor of the list of events.
func eventPlace(l list, cursor *string) (outbox.Place, error) {
	place, err := l.place(cursor, 24)
	if place == nil {
		return outbox.Place{}, err
	}
	p := outbox.Place{CreatedAt: time.UnixMicro(int64(binary.BigEndian.Uint64(place)))}
	setID(&p.ID, place[8:])
	return p, nil
}

// eventCursor is the cursor of an event; PostgreSQL's times have microseconds.
func eventCursor(l list, p outbox.Place) *string {
	uuid := p.ID.UUID()
	return l.cursor(append(binary.BigEndian.AppendUint64(nil, uint64(p.CreatedAt.UnixMicro())), uuid[:]...))
}

const defaultLimit = 50

func limitOf(asked *int) int {
	if asked == nil {
		return defaultLimit
	}
	return *asked
}

// page is one page of a list: the stores are asked for one item more than the
// limit, which tells whether there are more.
type page[T any] struct {
	data []T
	next *string
	more bool
}

// pageOf maps the items to what is shown, and makes the cursor of the last one.
func pageOf[From, To any](items []From, limit int, show func(From) To, cursor func(From) *string) page[To] {
	p := page[To]{data: make([]To, 0, min(len(items), limit))} // never null
	for i, item := range items {
		if i == limit {
			p.more = true
			p.next = cursor(items[i-1])
			break
		}
		p.data = append(p.data, show(item))
	}
	return p
}

// goOn makes the page's cursor that of the place up to which the store has looked, when
// it has not found a whole page there: what is older may match, so there may be more.
func (p *page[T]) goOn(cursor *string) {
	if !p.more {
		p.more, p.next = true, cursor
	}
}

// itself shows items as they are, for those who map the page as a whole.
func itself[T any](item T) T { return item }
