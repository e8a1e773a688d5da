package soak

// consistent holds each delivery against its own attempts.
func (j *judge) consistent() {
	for _, d := range j.Deliveries {
		attempts := j.attempts[d.ID]
		if len(attempts) != d.Attempts {
			j.add(Inconsistent, "delivery %s counts %d attempts and has %d on record", d.ID, d.Attempts, len(attempts))
		}
		successes := 0
		for i, a := range attempts {
			if a.Number != i+1 {
				j.add(Inconsistent, "delivery %s: its attempt %d has the number %d", d.ID, i+1, a.Number)
			}
			if a.Status/100 == 2 {
				successes++
			}
		}
		last := len(attempts) > 0 && attempts[len(attempts)-1].Status/100 == 2
		switch {
		case successes > 1:
			j.add(Inconsistent, "delivery %s has %d successful attempts on record", d.ID, successes)
		case d.Status == "delivered" && !last:
			j.add(Inconsistent, "delivery %s is delivered and its last attempt is no success", d.ID)
		case d.Status != "delivered" && successes > 0:
			j.add(Inconsistent, "delivery %s is %s and has a successful attempt on record", d.ID, d.Status)
		case d.Status == "dead" && len(attempts) < j.Rules.MaxAttempts:
			j.add(Inconsistent, "delivery %s is dead after %d of %d attempts", d.ID, len(attempts), j.Rules.MaxAttempts)
		}
	}
}

// steady holds what the monitor saw against the end: what was finished is as it
// was, and no count went down.
func (j *judge) steady() {
	final := map[string]*Delivery{}
	for i := range j.Deliveries {
		final[j.Deliveries[i].ID] = &j.Deliveries[i]
	}
	for _, s := range j.Sightings {
		d := final[s.Delivery]
		switch {
		case d == nil:
			j.add(Changed, "delivery %s was %s at %s and is gone", s.Delivery, s.Status, clock(s.At))
		case terminal(s.Status) && (d.Status != s.Status || d.Attempts != s.Attempts):
			j.add(Changed, "delivery %s was %s after %d attempts at %s and is %s after %d at the end",
				s.Delivery, s.Status, s.Attempts, clock(s.At), d.Status, d.Attempts)
		case d.Attempts < s.Attempts:
			j.add(Receded, "delivery %s had %d attempts at %s and has %d at the end", s.Delivery, s.Attempts, clock(s.At), d.Attempts)
		}
	}
}
