package subscriptions

import "slices"

// One event, five files:
//
//	  outbox/publish.go         a producer's transaction inserts the event
//	  dispatcher/relay.go       claims it, writes its deliveries and their River jobs
//	> subscriptions/match.go    decides which endpoints want it
//	  dispatcher/sender.go      signs it and POSTs it
//	  dispatcher/recorder.go    commits what came of it

// OperationalPrefix begins the types of the events that Posthorn itself publishes.
// They go to endpoints that ask for them by a pattern such as posthorn.* and not to
// those that want everything.
const OperationalPrefix = "posthorn."

// Match appends to dst the subscriptions that an event of the tenant and type
// goes to, whatever their endpoints' status, and returns it. The order is that
// of the endpoints' creation, the tenant's own before those of AllTenants.
func (d *Directory) Match(dst []*Subscription, tenantID, eventType string) []*Subscription {
	d.mu.RLock()
	defer d.mu.RUnlock()
	dst = appendMatching(dst, d.byTenant[tenantID], eventType)
	return appendMatching(dst, d.byTenant[AllTenants], eventType)
}

func appendMatching(dst, of []*Subscription, eventType string) []*Subscription {
	for _, s := range of {
		if s.wants(eventType) {
			dst = append(dst, s)
		}
	}
	return dst
}

// wants is the decision itself: one of the patterns matches.
func (s *Subscription) wants(eventType string) bool {
	return slices.ContainsFunc(s.EventTypes, func(p Pattern) bool { return p.Matches(eventType) })
}
