package bench

import (
	"context"
	"fmt"
)

// payloadSizes are in bytes. The share is how many of Config.Events wait: one of so
// many, so that a turn takes about as long with each.
var payloadSizes = []struct{ bytes, share int }{
	{1 << 10, 1},
	{16 << 10, 4},
	{200 << 10, 25},
}

// measurePayloads drains events of several sizes beside the ceiling with bodies of
// the same size, for one endpoint.
func measurePayloads(ctx context.Context, s *suite) error {
	s.say("payloads of 1, 16 and 200 KB; %d rounds", s.config.Rounds)
	l, err := newSendingLab(ctx, s)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.subscribe(ctx, "one", 1, 1, "/one", rawGoroutines); err != nil {
		return err
	}
	var all []contestant
	for _, size := range payloadSizes {
		waits := load{name: "one", events: max(1, s.config.Events/size.share), tenants: 1, perEvent: 1, payload: payloadOf(size.bytes)}
		all = append(all, contestant{
			about: Case{Name: fmt.Sprintf("%d KB", size.bytes>>10), Endpoints: 1, EndpointsPerEvent: 1,
				Events: waits.events, PayloadBytes: size.bytes},
			payload: waits.payload, rawPosts: waits.events,
			drain: func(ctx context.Context) (drained, error) { return l.drain(ctx, waits) },
		})
	}
	s.report.Payloads, _, err = s.takeTurns(ctx, all)
	return err
}
