package sample

// recentIDs remembers the last ids, up to a number. It is not safe for
// concurrent use.
type recentIDs struct {
	known map[string]bool
	ring  []string // in order of arrival, from next around
	next  int
}

func newRecentIDs(size int) recentIDs {
	return recentIDs{known: make(map[string]bool), ring: make([]string, size)}
}

// add remembers the id, in place of the oldest if need be, and reports whether
// it was known already.
func (r *recentIDs) add(id string) bool {
	if r.known[id] {
		return true
	}
	delete(r.known, r.ring[r.next])
	r.ring[r.next] = id
	r.known[id] = true
	r.next = (r.next + 1) % len(r.ring)
	return false
}
