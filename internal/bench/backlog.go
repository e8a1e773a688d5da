package bench

import "context"

// warmUps is how many small backlogs are drained before the large one: the memory of
// steady work.
const warmUps = 3

// measureBacklog drains a backlog of a million events, and holds the sender's memory
// against what it had with small ones.
func measureBacklog(ctx context.Context, s *suite) error {
	s.say("backlog: %d events", s.config.Backlog)
	l, err := newSendingLab(ctx, s)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.subscribe(ctx, "one", 1, 1, "/one", rawGoroutines); err != nil {
		return err
	}
	small := load{name: "one", events: s.config.Events, tenants: 1, perEvent: 1, payload: payloadOf(payloadBytes)}
	for range warmUps {
		if _, err := l.drain(ctx, small); err != nil {
			return err
		}
	}
	b := &Backlog{Events: s.config.Backlog, SmallEvents: small.events}
	pid := l.sender.cmd.Process.Pid
	b.BeforeBytes = ofProcess(pid, memory)
	// The most since the process began: of the small ones, and then of all.
	b.SmallPeakBytes = ofProcess(pid, peakMemory)

	large := small
	large.events = s.config.Backlog
	done, err := l.drain(ctx, large)
	if err != nil {
		return err
	}
	b.PeakBytes = ofProcess(pid, peakMemory)
	b.GrowthPercent = growth(b.SmallPeakBytes, b.PeakBytes)
	b.DeliveriesPerSecond, b.RecordedSeconds, b.CPU = done.perSecond, done.recorded.Seconds(), done.cpu
	s.report.Backlog = b
	return nil
}

// growth is how much more one is than the other, in per cent.
func growth(from, to *int64) *float64 {
	if from == nil || to == nil || *from == 0 {
		return nil
	}
	percent := 100 * float64(*to-*from) / float64(*from)
	return &percent
}
