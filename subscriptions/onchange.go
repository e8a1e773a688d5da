package subscriptions

import "slices"

// OnChange has Refresh call f for each endpoint that it finds changed, once for all
// that happened to it since the last Refresh: before is nil for one that is new to
// this copy, the first load's included, and after is nil for one that was deleted.
//
// The calls come after the changes are visible, one at a time, in the order of the
// changes. f may use the directory, except for Refresh, which would wait for itself
// for ever. Whoever refreshes waits for f, the relay in the middle of a transaction:
// f must be quick.
//
// OnChange may be called at any time, from any goroutine; f learns of what is
// loaded from then on. Of several functions each change goes to all, in the order
// of their registration.
func (d *Directory) OnChange(f func(before, after *Subscription)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watchers = append(d.watchers, f)
}

// tell calls the watchers. Whoever calls it holds d.refresh, which keeps the calls
// in order, and not d.mu, which the watchers may need.
func (d *Directory) tell(changes []change, replaced []*Subscription) {
	d.mu.RLock()
	watchers := slices.Clone(d.watchers)
	d.mu.RUnlock()
	for i, c := range changes {
		if replaced[i] == nil && c.sub == nil {
			continue // it came and went unseen
		}
		for _, f := range watchers {
			f(replaced[i], c.sub)
		}
	}
}
