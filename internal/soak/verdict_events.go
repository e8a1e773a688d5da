package soak

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// clock is a moment as the messages show it.
func clock(at time.Time) string { return at.UTC().Format("15:04:05.000") }

// sent looks for POSTs of what was never committed, and for altered ones.
func (j *judge) sent() {
	bodies := map[pair]string{}
	for _, p := range j.Posts {
		if p.Fault != "" {
			j.add(Altered, "POST %d (event %s) at endpoint %s: %s", p.N, p.EventID, p.Endpoint, p.Fault)
			continue
		}
		of := j.bySeq[p.Seq]
		event := j.events[p.EventID]
		switch {
		case of == nil:
			j.add(RolledBackSent, "POST %d at endpoint %s has the number %d, which nobody published", p.N, p.Endpoint, p.Seq)
			continue
		case !of.InBooks:
			j.add(RolledBackSent, "POST %d at endpoint %s is of publication %d (%s), which is not committed: event %s",
				p.N, p.Endpoint, p.Seq, of.Outcome, p.EventID)
			continue
		case event == nil:
			j.add(RolledBackSent, "POST %d at endpoint %s has the webhook-id %s, which is no committed event", p.N, p.Endpoint, p.EventID)
			continue
		case event.Seq != p.Seq || event.PayloadHash != p.PayloadHash:
			j.add(Altered, "POST %d at endpoint %s: event %s has the number %d and came with %d or another payload",
				p.N, p.Endpoint, p.EventID, event.Seq, p.Seq)
		}
		key := pair{p.EventID, p.Endpoint}
		if first, known := bodies[key]; known && first != p.BodyHash {
			j.add(Altered, "POST %d at endpoint %s: event %s came with another body before", p.N, p.Endpoint, p.EventID)
		}
		bodies[key] = p.BodyHash
	}
}

// expected are all events at all endpoints that want them, in a fixed order.
func (j *judge) expected() []pair {
	var all []pair
	for _, id := range slices.Sorted(maps.Keys(j.events)) {
		for _, e := range j.Endpoints {
			if e.wants(j.events[id].Tenant, j.events[id].EventType) {
				all = append(all, pair{id, e.ID})
			}
		}
	}
	return all
}

// counted holds the deliveries against the events × endpoints.
func (j *judge) counted() {
	for i := range j.Deliveries {
		d := &j.Deliveries[i]
		key := pair{d.EventID, d.Endpoint}
		if other := j.deliveries[key]; other != nil {
			j.add(Miscounted, "event %s has two deliveries to endpoint %s: %s and %s", d.EventID, d.Endpoint, other.ID, d.ID)
			continue
		}
		j.deliveries[key] = d
	}
	wanted := map[pair]bool{}
	for _, key := range j.expected() {
		wanted[key] = true
		if j.deliveries[key] == nil {
			j.add(Miscounted, "event %s (number %d) has no delivery to endpoint %s", key.event, j.events[key.event].Seq, key.endpoint)
		}
	}
	for _, d := range j.Deliveries {
		if !wanted[pair{d.EventID, d.Endpoint}] {
			j.add(Miscounted, "delivery %s is of event %s to endpoint %s, which must not have it", d.ID, d.EventID, d.Endpoint)
		}
	}
}

// lost looks for committed events that an endpoint never took.
func (j *judge) lost() {
	for _, key := range j.expected() {
		posts := j.posts[key]
		if slices.ContainsFunc(posts, Post.accepted) {
			continue
		}
		d := j.deliveries[key]
		if d == nil {
			j.add(Lost, "event %s (number %d) at endpoint %s: no delivery, %d POSTs",
				key.event, j.events[key.event].Seq, key.endpoint, len(posts))
			continue
		}
		if d.Status == "dead" && len(j.attempts[d.ID]) >= j.Rules.MaxAttempts {
			continue // the schedule is exhausted, as it says
		}
		j.add(Lost, "event %s (number %d) at endpoint %s: delivery %s is %s after %d attempts, %d POSTs, none was answered 2xx",
			key.event, j.events[key.event].Seq, key.endpoint, d.ID, d.Status, d.Attempts, len(posts))
	}
}

// ordered looks at the endpoints that take the events of an ordering key in the
// order of their commits: at which the receiver first took each.
func (j *judge) ordered() {
	type lane struct{ endpoint, key string }
	type receipt struct {
		position int64
		event    string
		post     Post
	}
	lanes := map[lane][]receipt{}
	for _, e := range j.Endpoints {
		if !e.Ordered {
			continue
		}
		for id, p := range j.events {
			if p.OrderingKey == "" || !e.wants(p.Tenant, p.EventType) {
				continue
			}
			posts := j.posts[pair{id, e.ID}]
			if i := slices.IndexFunc(posts, Post.accepted); i >= 0 {
				l := lane{e.ID, p.OrderingKey}
				lanes[l] = append(lanes[l], receipt{p.Position, id, posts[i]})
			}
		}
	}
	for l, receipts := range lanes {
		slices.SortFunc(receipts, func(a, b receipt) int { return cmp.Compare(a.position, b.position) })
		for i := 1; i < len(receipts); i++ {
			if before, after := receipts[i-1], receipts[i]; after.post.N < before.post.N {
				j.add(Inversion, "endpoint %s, key %s: event %s (the %d. of the key) was taken at %s, after event %s (the %d.) at %s",
					l.endpoint, l.key, before.event, before.position, clock(before.post.At), after.event, after.position, clock(after.post.At))
			}
		}
	}
}
