package dispatcher

import "time"

// order keeps the deliveries of each ordering key of one endpoint in line: a key's
// next may go when those before it are through. It knows the keys that have
// anything waiting; the deliveries themselves wait in the database. It belongs to
// the endpoint's one owner and is not safe for concurrent use.
type order struct {
	keys map[string]*keyState
	// arrived is the position up to which the backlog's arrivals have been seen.
	arrived int64
	// quietSince is when the last delivery was taken.
	quietSince time.Time
}

// keyState is what the order knows of a key with something waiting.
type keyState struct {
	inHand    int
	notBefore time.Time // when it is looked at again, by this process's clock
	due       time.Time // its first one's next attempt
}

func newOrder() *order { return &order{keys: map[string]*keyState{}, quietSince: time.Now()} }

// tracking reports whether anything waits in order.
func (o *order) tracking() bool { return len(o.keys) > 0 }

// arrive notes a key of which something waits.
func (o *order) arrive(key string, position int64) {
	o.arrived = max(o.arrived, position)
	if o.keys[key] == nil {
		o.keys[key] = &keyState{}
	}
}

// ready gives up to most keys whose first delivery may be loaded.
func (o *order) ready(most int, now time.Time) []string {
	var ready []string
	for key, k := range o.keys {
		if len(ready) == most {
			break
		}
		if k.inHand == 0 && !now.Before(k.notBefore) {
			ready = append(ready, key)
		}
	}
	return ready
}

// waits notes that a key's first delivery may not go before a time.
func (o *order) waits(key string, until, now time.Time) {
	if k := o.keys[key]; k != nil {
		k.wait(until, now)
	}
}

// keyRecheck is how soon a key is looked at again, although its first delivery waits
// for longer: a person may have retried or cancelled that one.
const keyRecheck = 2 * time.Second

func (k *keyState) wait(until, now time.Time) {
	k.due, k.notBefore = until, until
	if again := now.Add(keyRecheck); again.Before(until) {
		k.notBefore = again
	}
}

// empty notes that nothing of a key waits any more.
func (o *order) empty(key string) {
	if k := o.keys[key]; k != nil && k.inHand == 0 {
		delete(o.keys, key)
	}
}

// taken notes deliveries that are in hand.
func (o *order) taken(c *chunk) {
	for i := range c.deliveries {
		if d := &c.deliveries[i]; d.position != 0 {
			o.keys[d.key].inHand++
			o.quietSince = time.Now()
		}
	}
}

// recorded notes that a delivery has left the hand.
func (o *order) recorded(r recordedDelivery, now time.Time) {
	k := o.keys[r.key]
	if k == nil {
		return
	}
	k.inHand--
	if r.delay > 0 {
		k.wait(now.Add(r.delay), now)
	}
}

// earliest is when the first of the keys may go on.
func (o *order) earliest() time.Time {
	var first time.Time
	for _, k := range o.keys {
		if first.IsZero() || k.due.Before(first) {
			first = k.due
		}
	}
	return first
}
