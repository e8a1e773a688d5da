package dispatcher

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/outbox"
)

func TestNoHandoff_DeliversEverythingThroughRiver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var answers atomic.Int32
	r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		if answers.Add(1)%5 == 0 {
			w.WriteHeader(500)
		}
	})
	b.endpoint(t, r.URL)
	var points atomic.Int32
	b.run(t, func(c *Config) {
		c.NoHandoff = true
		c.Retry.Schedule = []time.Duration{time.Millisecond, time.Millisecond, time.Millisecond, time.Millisecond, time.Millisecond}
		c.reaching = func(p commitPoint) {
			if p == workerHandedOver {
				points.Add(1)
			}
		}
	})
	committed := b.publishSome(t, events)
	settled(t, b.Pool)
	for id := range committed {
		if r.counts()[id] == 0 {
			t.Errorf("%s was lost", id)
		}
	}
	posts := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.attempts`)
	if int(answers.Load()) != posts || posts < events*5/4-1 {
		t.Errorf("%d POSTs, %d attempts recorded", answers.Load(), posts)
	}
	if l := balanced(t, b.Pool); l.Deliveries[Delivered]+l.Deliveries[Dead] != events {
		t.Errorf("%+v", l)
	}
	if points.Load() == 0 {
		t.Error("River's worker had nothing to do: this tests nothing")
	}
}

func TestLargePayloads_AreLoadedWhenTheyAreSent(t *testing.T) {
	t.Parallel()
	for _, noHandoff := range []bool{false, true} {
		t.Run(fmt.Sprintf("NoHandoff=%t", noHandoff), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			receivers := []*receiver{newReceiver(t, nil), newReceiver(t, nil), newReceiver(t, nil)}
			for _, r := range receivers {
				b.endpoint(t, r.URL)
			}
			sizes := []int{maxKeptPayload - 1, maxKeptPayload, maxKeptPayload + 1, 100_000, 256 << 10}
			payloads := map[string]string{}
			for i := range 20 {
				payload := fmt.Sprintf(`{"n":%2d,"x":""}`, i)
				payload = payload[:len(payload)-2] + strings.Repeat("x", sizes[i%len(sizes)]-len(payload)) + `"}`
				payloads[b.publish(t, outbox.Event{Payload: json.RawMessage(payload)}).String()] = payload
			}
			b.run(t, func(c *Config) { c.NoHandoff = noHandoff })
			settled(t, b.Pool)
			for i, r := range receivers {
				got := map[string]bool{}
				for _, rec := range r.journal {
					data, found := strings.CutSuffix(rec.body, `,"data":`+payloads[rec.eventID()]+"}")
					if got[rec.eventID()] || !found {
						t.Errorf("receiver %d: %s came twice, or in other bytes: %.80q…", i, rec.eventID(), data)
					}
					got[rec.eventID()] = true
				}
				if len(got) != len(payloads) {
					t.Errorf("receiver %d got %d events, want %d", i, len(got), len(payloads))
				}
			}
			balanced(t, b.Pool)
		})
	}
}

func TestFanOut_BeyondOneTransactionIsLeftToTheNext(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const endpoints, published = 60, 400 // 24,000 deliveries; a transaction takes 10,000
	r := newReceiver(t, nil)
	for i := range endpoints {
		b.endpoint(t, fmt.Sprintf("%s/%d", r.URL, i))
	}
	committed := map[string]bool{}
	must(t, pgx.BeginFunc(t.Context(), b.Pool, func(tx pgx.Tx) error {
		for range published {
			id, err := outbox.Publish(t.Context(), tx, outbox.Event{Type: "order.paid", Payload: json.RawMessage(`{}`)})
			if err != nil {
				return err
			}
			committed[id.String()] = true
		}
		return nil
	}))
	n := b.stillNode(t, func(c *Config) { c.MaxInHand = 2 * endpoints * published })
	routed, err := n.relay.step(t.Context())
	must(t, err)
	if want := maxClaimDeliveries / endpoints; routed != want {
		t.Errorf("the first transaction routed %d events, want %d", routed, want)
	}
	if l := balanced(t, b.Pool); l.Unrouted != published-int64(routed) {
		t.Errorf("%+v", l)
	}
	n.relayAll(t)
	seen := map[DeliveryID]bool{}
	perEvent := map[string]int{}
	for _, d := range n.take(t, endpoints*published) {
		seen[d.id] = true
		perEvent[d.event.publicID]++
	}
	for id := range committed {
		if perEvent[id] != endpoints {
			t.Errorf("%s goes to %d endpoints, want %d", id, perEvent[id], endpoints)
		}
	}
	if l := balanced(t, b.Pool); len(seen) != endpoints*published || l.Deliveries[Pending] != endpoints*published || l.Unrouted != 0 {
		t.Errorf("%d deliveries were handed off, %+v", len(seen), l)
	}
}
