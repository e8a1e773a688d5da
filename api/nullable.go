package api

import "encoding/json"

// nullable is a member of a request that may be left out, or be null, which is
// not the same in an update: the one leaves a value as it is, the other takes it
// away. The zero nullable was left out.
type nullable[T any] struct {
	given bool
	value T // zero for null
}

// UnmarshalJSON is called for members that are there, null too.
func (n *nullable[T]) UnmarshalJSON(text []byte) error {
	n.given = true
	return json.Unmarshal(text, &n.value) // null changes nothing
}

// change is what to set: nil for nothing, the zero value for null.
func (n nullable[T]) change() *T {
	if !n.given {
		return nil
	}
	return &n.value
}
