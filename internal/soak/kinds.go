package soak

// FaultKind is a way in which something breaks.
type FaultKind string

// The faults of processes, of the database and of the network between them.
const (
	FaultKill      FaultKind = "kill -9"    // a posthorn serve, started again
	FaultRolling   FaultKind = "rolling"    // SIGTERM and a new start, one after the other
	FaultStop      FaultKind = "stop"       // SIGSTOP for longer than the lease, SIGCONT
	FaultDatabase  FaultKind = "database"   // PostgreSQL's immediate shutdown, and recovery
	FaultTerminate FaultKind = "terminate"  // pg_terminate_backend of some of posthorn's sessions
	FaultFreeze    FaultKind = "freeze"     // the network holds every byte, and later lets go
	FaultCut       FaultKind = "cut"        // all connections reset, new ones refused for a while
	FaultHalfOpen  FaultKind = "half-close" // one side of each connection is told of an end, the other is not
	FaultDelay     FaultKind = "delay"      // every message takes its time
	FaultError     FaultKind = "500"        // a receiver that answers 500
	FaultHang      FaultKind = "hang"       // one that never answers
	FaultReset     FaultKind = "reset"      // one that resets the connection after the request
	FaultDrip      FaultKind = "drip"       // one that sends its headers a byte at a time
	FaultBusy      FaultKind = "429"        // one that answers 429 with Retry-After: 1
	FaultShort     FaultKind = "short"      // one whose 200 has fewer bytes than it announces
	FaultDripBody  FaultKind = "drip body"  // one whose 200 has a body without an end
	FaultPause     FaultKind = "pause"      // the endpoint is paused, and resumed
)

// serviceFaults are what one plan draws from, receiverFaults the other.
var (
	serviceFaults = []FaultKind{FaultKill, FaultRolling, FaultStop, FaultDatabase, FaultTerminate,
		FaultFreeze, FaultCut, FaultHalfOpen, FaultDelay}
	receiverFaults = []FaultKind{FaultError, FaultHang, FaultReset, FaultDrip, FaultBusy, FaultShort, FaultDripBody, FaultPause}
)

// swallows is how many results of one delivery such a fault may keep from being
// recorded, with so many nodes running. A receiver's fault keeps none: whatever it
// does is an attempt. Neither does a stop in good order.
func (k FaultKind) swallows(nodes int) int {
	switch k {
	case FaultKill, FaultStop:
		return 1
	case FaultDatabase, FaultTerminate, FaultFreeze, FaultCut, FaultHalfOpen, FaultDelay:
		return nodes
	}
	return 0
}
