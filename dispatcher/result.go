package dispatcher

import "time"

// result is what came of a delivery's turn.
type result struct {
	delivery *delivery
	released released // why nothing was done, "" when something was
	outcome  outcome
	attempt  *attempt // nil when nothing was sent
}

// finished reports whether the delivery needs no further attempt.
func (r result) finished() bool { return r.released == "" && r.outcome.status.finished() }

// retries reports whether the delivery waits for its next attempt.
func (r result) retries() bool { return r.released == "" && r.outcome.status == Retrying }

// goesAside reports whether the delivery is let go of and waits in its backlog.
func (r result) goesAside() bool { return r.released == releasedAside || r.released == releasedLater }

// released says why a delivery was let go of without an attempt.
type released string

const (
	// releasedLost: its job is another node's by now; nothing is written.
	releasedLost released = "lost"
	// releasedAside: it goes into its endpoint's backlog.
	releasedAside released = "aside"
	// releasedLater: the same, and is not due for letGoDelay.
	releasedLater released = "later"
)

// attempt is one POST, as the log keeps it.
type attempt struct {
	startedAt       time.Time
	duration        time.Duration
	endpointVersion int
	healthEpoch     int
	requestHeaders  string
	status          int
	responseHeaders string
	responseBody    []byte
	verdict         Verdict
}

// outcome is the delivery's next state.
type outcome struct {
	status Status
	delay  time.Duration // until the next attempt, when retrying
	reason string        // why it was cancelled
}

// decide gives a delivery's state after an attempt, the attempts-th since the
// retry schedule began.
func decide(v Verdict, attempts int, retry RetryPolicy, draw float64) outcome {
	if v.Delivered {
		return outcome{status: Delivered}
	}
	if v.Gone {
		return outcome{status: Held}
	}
	delay, again := retry.Delay(attempts, draw)
	if !again {
		return outcome{status: Dead}
	}
	return outcome{status: Retrying, delay: delay}
}
