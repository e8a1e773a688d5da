package dispatcher

// Status is the one state that a delivery is in.
type Status string

// The statuses. Delivered, Dead and Cancelled are final until a person retries
// or replays the delivery.
const (
	// Pending waits for its first attempt, or is in it.
	Pending Status = "pending"
	// Retrying has failed and waits for its next attempt, or is in it.
	Retrying Status = "retrying"
	// Held waits for its endpoint to be resumed; no River job owns it.
	Held Status = "held"
	// Delivered was answered with a 2xx status.
	Delivered Status = "delivered"
	// Dead exhausted its attempts; a dead letter tells of it.
	Dead Status = "dead"
	// Cancelled will not be sent: a person cancelled it or its endpoint was deleted.
	Cancelled Status = "cancelled"
)

// finished reports whether the status is final until a person acts.
func (s Status) finished() bool { return s == Delivered || s == Dead || s == Cancelled }

// Statuses are all of them, in the order of a delivery's life.
var Statuses = []Status{Pending, Retrying, Held, Delivered, Dead, Cancelled}

// ErrorKind says in one word why an attempt failed.
type ErrorKind string

// The error kinds.
const (
	// KindTimeout: the attempt's deadline passed before the status line came.
	KindTimeout ErrorKind = "timeout"
	// KindDNS: the host's name could not be resolved.
	KindDNS ErrorKind = "dns"
	// KindConnect: no connection could be made.
	KindConnect ErrorKind = "connect"
	// KindTLS: the TLS handshake failed, the certificate included.
	KindTLS ErrorKind = "tls"
	// KindReset: the connection broke before the status line came.
	KindReset ErrorKind = "reset"
	// KindBlockedAddress: the address is not on the public internet.
	KindBlockedAddress ErrorKind = "blocked_address"
	// KindProtocol: what came back is not HTTP, or beyond the bounds on headers.
	KindProtocol ErrorKind = "protocol"
	// KindHTTPStatus: an answer came, and its status is not 2xx.
	KindHTTPStatus ErrorKind = "http_status"
)
