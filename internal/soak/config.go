package soak

import "time"

// Config is what a run needs.
type Config struct {
	// Seed decides the faults and what the producers do.
	Seed uint64

	// Duration is for how long there are faults. Zero means the short run: every kind
	// of fault once, some 20 s.
	Duration time.Duration

	// Binary is the posthorn to run.
	Binary string

	// Env is the processes' environment, without what configures Posthorn.
	Env []string

	// Logf takes what happens, line by line.
	Logf func(format string, args ...any)
}

const (
	nodes     = 3
	producers = 4
	lease     = 5 * time.Second
	// attemptTimeout is short, so that a receiver that hangs costs little.
	attemptTimeout = time.Second
	// quietPatience bounds the wait for everything to be finished after the last
	// fault. It allows for the sweep, which finds lost jobs after a minute and a half.
	quietPatience = 4 * time.Minute
)

// pace is that of a short or of a long run.
func (c Config) pace() pace {
	p := pace{
		duration: c.Duration, lease: lease, nodes: nodes, producers: producers,
		gap: span{200 * time.Millisecond, 700 * time.Millisecond}, badFor: span{600 * time.Millisecond, 2 * time.Second},
		wait: 100 * time.Millisecond,
	}
	if c.Duration > 0 {
		// Quiet times in between show that a fault is over when it is over.
		p.gap, p.badFor = span{300 * time.Millisecond, 8 * time.Second}, span{time.Second, 8 * time.Second}
	}
	return p
}

// schedule are the waits between attempts: enough of them that no delivery dies
// while its receiver is bad for a few seconds, again and again.
var schedule = func() []time.Duration {
	waits := []time.Duration{200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, time.Second}
	for len(waits) < 99 {
		waits = append(waits, 2*time.Second)
	}
	return waits
}()
