package soak

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// start is when the hand-made histories begin.
var start = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }

// good is a history without a fault in it: publications 1 and 3 are committed, 2 is
// rolled back, 4 repeats 3's idempotency key. Event 1 is delivered by its second
// attempt.
func good() *History {
	return &History{
		Rules:     Rules{AttemptTimeout: time.Second, MaxAttempts: 3, Nodes: 2},
		Endpoints: []Endpoint{{ID: "ep_1", Tenant: "a", Pattern: "order.*", Ordered: true}, {ID: "ep_2", Tenant: "b", Pattern: "*"}},
		Publications: []Publication{
			{Seq: 1, Tenant: "a", EventType: "order.paid", OrderingKey: "k", PayloadHash: "p1", Outcome: Committed, InBooks: true, EventID: "evt_1", Position: 1},
			{Seq: 2, Tenant: "a", EventType: "order.paid", OrderingKey: "k", PayloadHash: "p2", Outcome: RolledBack},
			{Seq: 3, Tenant: "a", EventType: "order.paid", OrderingKey: "k", IdempotencyKey: "i", PayloadHash: "p3", Outcome: Unknown, InBooks: true, EventID: "evt_3", Position: 2},
			{Seq: 4, Tenant: "a", EventType: "order.paid", IdempotencyKey: "i", PayloadHash: "p4", Outcome: Committed, InBooks: true},
			{Seq: 5, Tenant: "a", EventType: "user.deleted", PayloadHash: "p5", Outcome: Committed, InBooks: true, EventID: "evt_5"},
			{Seq: 6, Tenant: "a", EventType: "order.paid", PayloadHash: "p6", Outcome: Unknown},
		},
		Events: []Event{{"evt_1", 1}, {"evt_3", 3}, {"evt_5", 5}},
		Posts: []Post{
			post(0, 10, "evt_1", 1, 500), post(1, 11, "evt_1", 1, 204), post(2, 12, "evt_3", 3, 204),
		},
		Deliveries: []Delivery{{"d1", "evt_1", "ep_1", "delivered", 2}, {"d3", "evt_3", "ep_1", "delivered", 1}},
		Attempts:   []Attempt{attempt("d1", 1, 10, 500), attempt("d1", 2, 11, 204), attempt("d3", 1, 12, 204)},
		Sightings:  []Sighting{{"d1", "retrying", 1, at(10.5)}, {"d1", "delivered", 2, at(11.5)}},
		Ledgers:    []Ledger{{At: at(11), Events: 2, Expected: 1}, {At: at(20), Events: 3, Expected: 2, Final: true}},
	}
}

func post(n int, seconds float64, event string, seq int64, status int) Post {
	return Post{N: n, At: at(seconds), Endpoint: "ep_1", EventID: event, Seq: seq, BodyHash: "b" + event,
		PayloadHash: "p" + strings.TrimPrefix(event, "evt_"), Status: status, Written: true}
}

func attempt(delivery string, number int, seconds float64, status int) Attempt {
	return Attempt{Delivery: delivery, Number: number, StartedAt: at(seconds - 0.01), Duration: 20 * time.Millisecond, Status: status}
}

func TestJudgeFindsNothingInAGoodHistory(t *testing.T) {
	t.Parallel()
	for _, v := range Judge(good()) {
		t.Error(v)
	}
}

func TestJudgeFindsEachViolation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		do   func(h *History)
		want ViolationKind
		says string // what the message names
	}{
		{"AnEventThatNobodyTook", func(h *History) {
			h.Posts = h.Posts[:2]
			h.Deliveries[1].Status, h.Deliveries[1].Attempts = "held", 0
			h.Attempts = h.Attempts[:2]
		}, Lost, "evt_3"},
		{"AnEventThatOnlyTheDatabaseCallsDelivered", func(h *History) {
			h.Posts[2].Status = 500
			h.Attempts[2].Status = 0
		}, Lost, "d3"},
		{"ADeathBeforeTheScheduleEnds", func(h *History) {
			h.Posts[1].Status, h.Posts[2].Status, h.Attempts[1].Status, h.Attempts[2].Status = 500, 500, 500, 500
			h.Deliveries[0].Status, h.Deliveries[1].Status = "dead", "dead"
			h.Sightings = nil
		}, Lost, "dead after 1"},
		{"ARolledBackEvent", func(h *History) { h.Posts = append(h.Posts, post(3, 13, "evt_2", 2, 204)) }, RolledBackSent, "publication 2"},
		{"AnUnknownCommitThatWasNone", func(h *History) { h.Posts = append(h.Posts, post(3, 13, "evt_6", 6, 204)) }, RolledBackSent, "publication 6"},
		{"AnEventOfNobody", func(h *History) { h.Posts = append(h.Posts, post(3, 13, "evt_9", 9, 204)) }, RolledBackSent, "number 9"},
		{"AnotherId", func(h *History) { h.Posts = append(h.Posts, post(3, 13, "evt_x", 3, 204)) }, RolledBackSent, "evt_x"},
		{"AMissingDelivery", func(h *History) { h.Deliveries, h.Attempts = h.Deliveries[:1], h.Attempts[:2] }, Miscounted, "evt_3"},
		{"ASecondDelivery", func(h *History) {
			h.Deliveries = append(h.Deliveries, Delivery{"d9", "evt_3", "ep_1", "pending", 0})
		}, Miscounted, "d9"},
		{"ADeliveryToAnotherTenant", func(h *History) {
			h.Deliveries = append(h.Deliveries, Delivery{"d9", "evt_3", "ep_2", "pending", 0})
		}, Miscounted, "d9"},
		{"ADeliveryOfATypeNotWanted", func(h *History) {
			h.Deliveries = append(h.Deliveries, Delivery{"d9", "evt_5", "ep_1", "pending", 0})
		}, Miscounted, "evt_5"},
		{"ALedgerWithTooFewEvents", func(h *History) { h.Ledgers[1].Events = 2 }, Miscounted, "2 events"},
		{"SomethingUnaccountedInTheMiddle", func(h *History) { h.Ledgers[0].Unaccounted = 1 }, Unaccounted, "12:00:11"},
		{"AnInversion", func(h *History) {
			h.Posts[1].At, h.Posts[2].At, h.Attempts[1].StartedAt, h.Attempts[2].StartedAt = at(12), at(11), at(12), at(11)
			h.Posts[1], h.Posts[2] = h.Posts[2], h.Posts[1]
			h.Posts[1].N, h.Posts[2].N = 1, 2
		}, Inversion, "key k"},
		{"APostTooMany", func(h *History) { h.Posts = append(h.Posts, post(3, 30, "evt_3", 3, 204)) }, Unrecorded, "d3"},
		{"APostTooManyBesidesAHang", func(h *History) { h.Posts = append(h.Posts, post(3, 30, "evt_3", 3, 0)) }, Unrecorded, "POST 3"},
		{"TwoPostsForOneKill", func(h *History) {
			h.Posts = append(h.Posts, post(3, 29.9, "evt_3", 3, 204), post(4, 29.95, "evt_3", 3, 204))
			h.Faults = []Window{{FaultKill, "", at(30), at(30)}}
		}, Unrecorded, "POST 4"},
		{"APostLongAfterAKill", func(h *History) {
			h.Posts = append(h.Posts, post(3, 33, "evt_3", 3, 204))
			h.Faults = []Window{{FaultKill, "", at(30), at(30)}}
		}, Unrecorded, "POST 3"},
		{"APostUnrecordedAfterAStopInGoodOrder", func(h *History) {
			h.Posts = append(h.Posts, post(3, 30, "evt_3", 3, 204))
			h.Faults = []Window{{FaultRolling, "", at(29), at(31)}, {FaultError, "", at(29), at(31)}}
		}, Unrecorded, "POST 3"},
		{"AnAttemptThatWasNeverSent", func(h *History) {
			h.Attempts = append([]Attempt{attempt("d3", 1, 11.5, 503)}, h.Attempts...)
			h.Attempts[3].Number, h.Deliveries[1].Attempts = 2, 2
		}, Unseen, "answer 503"},
		{"AnAttemptWithAnotherAnswer", func(h *History) { h.Posts[0].Status = 429 }, Unseen, "answer 500"},
		{"AFinishedDeliveryThatIsPendingAgain", func(h *History) { h.Sightings = append(h.Sightings, Sighting{"d3", "dead", 1, at(13)}) }, Changed, "d3 was dead"},
		{"AFinishedDeliveryWithOneMoreAttempt", func(h *History) { h.Sightings[1].Attempts = 1 }, Changed, "delivered after 1"},
		{"ADeliveryThatIsGone", func(h *History) { h.Sightings = append(h.Sightings, Sighting{"d8", "delivered", 1, at(13)}) }, Changed, "d8"},
		{"ACountThatWentDown", func(h *History) { h.Sightings[0].Attempts = 3 }, Receded, "d1"},
		{"ACountThatIsNotThatOfTheAttempts", func(h *History) { h.Deliveries[1].Attempts, h.Sightings = 2, nil }, Inconsistent, "counts 2"},
		{"AGapInTheNumbers", func(h *History) { h.Attempts[1].Number = 3 }, Inconsistent, "number 3"},
		{"TwoSuccesses", func(h *History) { h.Attempts[0].Status, h.Posts[0].Status = 204, 204 }, Inconsistent, "2 successful"},
		{"ASuccessThatIsNotDelivered", func(h *History) { h.Deliveries[1].Status = "retrying" }, Inconsistent, "d3 is retrying"},
		{"ABadSignature", func(h *History) { h.Posts[2].Fault = "no matching signature" }, Altered, "no matching"},
		{"AnotherPayload", func(h *History) { h.Posts[2].PayloadHash = "x" }, Altered, "evt_3"},
		{"AnotherBodyThanBefore", func(h *History) { h.Posts[1].BodyHash = "x" }, Altered, "another body"},
		{"ACommitThatIsGone", func(h *History) { h.Publications[4].InBooks = false }, Books, "publication 5"},
		{"ARollbackThatStayed", func(h *History) { h.Publications[1].InBooks = true }, Books, "publication 2"},
		{"AnEventMissingFromTheOutbox", func(h *History) { h.Events, h.Ledgers = h.Events[:2], h.Ledgers[:1] }, Books, "evt_5"},
		{"ARepeatOfNothing", func(h *History) { h.Publications[3].IdempotencyKey = "other" }, Books, "publication 4"},
		{"UnfinishedWork", func(h *History) { h.Unsettled = "3 pending" }, Restless, "3 pending"},
		{"APanic", func(h *History) { h.Complaints = []string{"panic: oh"} }, Complained, "oh"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := good()
			c.do(h)
			found := Judge(h)
			if !slices.ContainsFunc(found, func(v Violation) bool { return v.Kind == c.want && strings.Contains(v.Message, c.says) }) {
				t.Errorf("want %s with %q, found %v", c.want, c.says, found)
			}
		})
	}
}

func TestJudgeAcceptsWhatFaultsExplain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		do   func(h *History)
	}{
		{"APostWhoseSenderWasKilled", func(h *History) {
			h.Posts = append(h.Posts, post(3, 29.9, "evt_3", 3, 204))
			h.Faults = []Window{{FaultKill, "", at(30), at(30)}}
		}},
		{"TwoPostsAfterTheDatabaseWasAway", func(h *History) {
			h.Posts = append(h.Posts, post(3, 29.9, "evt_3", 3, 204), post(4, 33, "evt_3", 3, 204))
			h.Faults = []Window{{FaultDatabase, "", at(30), at(31)}}
		}},
		{"TheSameDeliveryHitTwice", func(h *History) {
			h.Posts = append(h.Posts, post(3, 29.9, "evt_3", 3, 204), post(4, 30.9, "evt_3", 3, 204))
			h.Faults = []Window{{FaultKill, "", at(30), at(30)}, {FaultKill, "", at(31), at(31)}}
		}},
		{"ATimeoutWhoseAnswerCameLate", func(h *History) { h.Attempts[0].Status, h.Posts[0].Status = 0, 204 }},
		{"AConnectionThatNeverReachedTheReceiver", func(h *History) {
			h.Posts, h.Attempts[0].Status = h.Posts[1:], 0
			h.Attempts[0].StartedAt = at(5)
		}},
		{"ADeathAtTheEndOfTheSchedule", func(h *History) {
			h.Attempts = append(h.Attempts, attempt("d3", 2, 13, 500), attempt("d3", 3, 14, 500))
			h.Attempts[2].Status, h.Posts[2].Status = 500, 500
			h.Posts = append(h.Posts, post(3, 13, "evt_3", 3, 500), post(4, 14, "evt_3", 3, 500))
			h.Deliveries[1].Status, h.Deliveries[1].Attempts = "dead", 3
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := good()
			c.do(h)
			for _, v := range Judge(h) {
				t.Error(v)
			}
		})
	}
}

func TestJudgeKnowsNoOrderWhereNoneIsPromised(t *testing.T) {
	t.Parallel()
	h := good()
	h.Endpoints[0].Ordered = false
	h.Publications[0].Position, h.Publications[2].Position = 2, 1
	for _, v := range Judge(h) {
		t.Error(v)
	}
}
