package subscriptions

// One event, five files:
//
//	  outbox/publish.go         a producer's transaction inserts the event
//	  dispatcher/relay.go       claims it, writes its deliveries and their River jobs
//	> subscriptions/match.go    decides which endpoints want it
//	  dispatcher/sender.go      signs it and POSTs it
//	  dispatcher/recorder.go    commits what came of it

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
	for _, p := range s.EventTypes {
		if p.Matches(eventType) {
			return true
		}
	}
	return false
}
