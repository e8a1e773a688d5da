package bench

import (
	"context"
	"time"
)

const (
	idleEvents = 1000            // sent first, so that everything has been used
	settleFor  = 5 * time.Second // at most; what was begun for them comes to its end
)

// measureIdle watches a sender and its database with nothing to do.
func measureIdle(ctx context.Context, s *suite) error {
	s.say("idle: %s of nothing", s.config.IdleFor)
	l, err := newSendingLab(ctx, s)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.subscribe(ctx, "one", 1, 1, "/one", 0); err != nil {
		return err
	}
	if _, err := l.drain(ctx, load{name: "one", events: idleEvents, tenants: 1, perEvent: 1, payload: payloadOf(payloadBytes)}); err != nil {
		return err
	}
	if err := waitUntil(ctx, time.Now().Add(min(settleFor, s.config.IdleFor))); err != nil {
		return err
	}
	before := l.meter().read()
	if err := waitUntil(ctx, time.Now().Add(s.config.IdleFor)); err != nil {
		return err
	}
	after := l.meter().read()
	during := after.at.Sub(before.at)
	s.report.Idle = &Idle{
		Seconds:         during.Seconds(),
		SenderPercent:   share(after.sender, before.sender, during),
		DatabasePercent: share(after.database, before.database, during),
		MemoryBytes:     ofProcess(l.sender.cmd.Process.Pid, memory),
	}
	return nil
}
