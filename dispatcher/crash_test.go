package dispatcher

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/internal/collector"
	"github.com/posthorn/posthorn/internal/netguard"
	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

// nodeEnv, when set, makes the test binary a node to be killed.
const nodeEnv = "POSTHORN_TEST_NODE"

// nodeOrder is what such a process is to do.
type nodeOrder struct {
	URL       string
	KillAt    commitPoint // kill -9 itself when this is reached …
	KillAfter int32       // … for the n-th time, from 1
	NoHandoff bool
	Grace     time.Duration
	Retry     string // a delivery to retry by hand, instead of running a node
	Weigh     bool   // weigh the process, and make one attempt of each delivery
	Timeout   time.Duration
	Schedule  []time.Duration // of retries; two quick ones when empty
	Retention time.Duration
}

// runNodeProcess is main of such a process.
func runNodeProcess() {
	var order nodeOrder
	if err := json.Unmarshal([]byte(os.Getenv(nodeEnv)), &order); err != nil {
		panic(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := order.obey(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (o nodeOrder) obey(ctx context.Context) error {
	pool, err := pgxpool.New(ctx, o.URL)
	if err != nil {
		return err
	}
	var reached atomic.Int32
	die := func(p commitPoint) {
		if p == o.KillAt && reached.Add(1) == o.KillAfter {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way
		}
	}
	if o.Retry != "" {
		r, err := NewRedeliverer(pool)
		if err != nil {
			return err
		}
		r.reaching = die
		id, err := ParseDeliveryID(o.Retry)
		if err != nil {
			return err
		}
		return r.Retry(ctx, "", id)
	}
	keyset, err := subscriptions.KeptKeyset(ctx, pool)
	if err != nil {
		return err
	}
	keys, err := subscriptions.NewKeyring(keyset)
	if err != nil {
		return err
	}
	retry := RetryPolicy{Schedule: []time.Duration{50 * time.Millisecond, 100 * time.Millisecond}}
	if len(o.Schedule) > 0 {
		retry.Schedule = o.Schedule
	}
	if o.Weigh {
		retry.Schedule = []time.Duration{}
		collector.Relax() // as posthorn serve does
		defer weighProcess()()
	}
	orDefault(&o.Timeout, 20*time.Second)
	d, err := New(Config{
		Pool: pool, Directory: subscriptions.NewDirectory(keys), Guard: netguard.NewGuard(loopback), Retry: retry,
		AttemptTimeout: o.Timeout, Lease: 2 * o.Timeout, ReapInterval: 50 * time.Millisecond,
		SweepInterval: time.Second, SweepGrace: o.Grace, NoHandoff: o.NoHandoff, Retention: o.Retention, reaching: die,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		return err
	}
	return d.Run(ctx)
}

// process is a node in a process of its own.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
}

func startNode(t *testing.T, order nodeOrder, change ...func(*exec.Cmd)) *process {
	t.Helper()
	text, err := json.Marshal(order)
	must(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), nodeEnv+"="+string(text))
	cmd.Stderr = t.Output()
	for _, f := range change {
		f(cmd)
	}
	must(t, cmd.Start())
	p := &process{cmd, make(chan struct{})}
	go func() {
		cmd.Wait() //nolint:errcheck // how it ended is in ProcessState
		close(p.exited)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // it may have ended
		<-p.exited
	})
	return p
}

// killed waits until the process has killed itself.
func (p *process) killed(t *testing.T) {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		t.Fatal("the node was not killed: its commit point was not reached")
	}
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !status.Signaled() || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the node was not killed but ended with %v", p.cmd.ProcessState)
	}
}

// publishSome commits n events, and rolls back as many again.
func (b *bundle) publishSome(t *testing.T, n int) map[string]bool {
	t.Helper()
	committed := map[string]bool{}
	for i := range n {
		committed[b.publish(t, outbox.Event{OrderingKey: fmt.Sprint(i % 7), Payload: json.RawMessage(fmt.Sprintf(`{"n": %d, "key": %d}`, i, i%7))}).String()] = true
		tx, err := b.Pool.Begin(t.Context())
		must(t, err)
		_, err = outbox.Publish(t.Context(), tx, outbox.Event{Type: "order.undone", Payload: json.RawMessage(`{}`)})
		must(t, err)
		must(t, tx.Rollback(t.Context()))
	}
	return committed
}

// check compares the receiver's journal with what was committed.
func (r *receiver) check(t *testing.T, committed map[string]bool, maxDuplicates int) {
	t.Helper()
	duplicates := 0
	counts := r.counts()
	for id := range committed {
		if counts[id] == 0 {
			t.Errorf("%s was lost", id)
		}
		duplicates += max(0, counts[id]-1)
	}
	for id := range counts {
		if !committed[id] {
			t.Errorf("%s was sent and never committed", id)
		}
	}
	if duplicates > maxDuplicates {
		t.Errorf("%d duplicates, at most %d were in flight", duplicates, maxDuplicates)
	}
}

// checkOrder finds the events of a key that came first after a later one of theirs.
func (r *receiver) checkOrder(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	last := map[int]int{}
	seen := map[string]bool{}
	for _, rec := range r.journal {
		var body struct{ Data struct{ N, Key int } }
		must(t, json.Unmarshal([]byte(rec.body), &body))
		if seen[rec.eventID()] {
			continue // a repetition may come late
		}
		seen[rec.eventID()] = true
		if before, any := last[body.Data.Key]; any && body.Data.N < before {
			t.Errorf("key %d: event %d came after %d", body.Data.Key, body.Data.N, before)
		}
		last[body.Data.Key] = body.Data.N
	}
}

// events is how many a crash test publishes; more than one node has in flight.
const events = 40

func TestCrash_AtEveryCommitPointLosesNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		at        commitPoint
		after     int32
		noHandoff bool
		inOrder   bool
		nothing   bool // nothing can have been sent
	}{
		{at: relayClaimed, after: 1, nothing: true},
		{at: relayCommitted, after: 1, nothing: true},
		{at: senderBeforePost, after: 1},
		{at: senderAfterPost, after: 5},
		{at: recorderBefore, after: 1},
		{at: recorderUncommitted, after: 1},
		{at: recorderCommitted, after: 1},
		{at: recorderCommitted, after: 2},
		{at: workerFetched, after: 1, noHandoff: true, nothing: true},
		{at: workerHandedOver, after: 1, noHandoff: true},
		{at: backlogFetched, after: 1, inOrder: true, nothing: true},
		{at: backlogHandedOver, after: 1, inOrder: true},
		{at: senderAfterPost, after: 5, inOrder: true},
		{at: recorderUncommitted, after: 1, inOrder: true},
		{at: recorderCommitted, after: 1, inOrder: true},
	} {
		t.Run(fmt.Sprintf("%s %d in order %t", c.at, c.after, c.inOrder), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			r := newReceiver(t, nil)
			if c.inOrder {
				b.create(t, subscriptions.Draft{URL: r.URL, Ordering: subscriptions.ByKey})
			} else {
				b.endpoint(t, r.URL)
			}
			n := 5 * events
			if c.after > 1 && c.at == recorderCommitted {
				n = maxBatch + events // more than one batch
			}
			committed := b.publishSome(t, n)
			startNode(t, nodeOrder{URL: b.URL, KillAt: c.at, KillAfter: c.after, NoHandoff: c.noHandoff, Grace: time.Minute}).killed(t)
			balanced(t, b.Pool)
			r.Server.CloseClientConnections() // what the dead node had written is read by now, or never
			inFlight := r.posts() - value[int](t, b.Pool, `SELECT count(*) FROM posthorn.attempts`)
			if c.nothing && inFlight > 0 {
				t.Errorf("%d requests were sent before anything was to be", inFlight)
			}
			b.run(t)
			settled(t, b.Pool)
			r.check(t, committed, inFlight)
			if l := balanced(t, b.Pool); l.Deliveries[Delivered] != int64(n) {
				t.Errorf("%+v", l)
			}
			if c.inOrder {
				r.checkOrder(t)
			}
		})
	}
}

func TestCrash_OfTheReaperLosesNothing(t *testing.T) {
	t.Parallel()
	for _, at := range []commitPoint{reaperUncommitted, reaperCommitted} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			r := newReceiver(t, nil)
			b.endpoint(t, r.URL)
			committed := b.publishSome(t, events)
			startNode(t, nodeOrder{URL: b.URL, KillAt: relayCommitted, KillAfter: 1, Grace: time.Minute}).killed(t)
			startNode(t, nodeOrder{URL: b.URL, KillAt: at, KillAfter: 1, Grace: time.Minute}).killed(t)
			b.run(t)
			settled(t, b.Pool)
			r.check(t, committed, 16)
			balanced(t, b.Pool)
		})
	}
}

// Small chunks of several endpoints are one job. Whoever takes it over gives each
// endpoint its own.
func TestCrash_OfTheSplitOfAParcelLosesNothing(t *testing.T) {
	t.Parallel()
	for _, at := range []commitPoint{splitUncommitted, splitCommitted} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			const endpoints = 20
			receivers := make([]*receiver, endpoints)
			for i := range receivers {
				receivers[i] = newReceiver(t, nil)
				b.endpoint(t, receivers[i].URL)
			}
			tx, err := b.Pool.Begin(t.Context()) // both events come in one batch
			must(t, err)
			committed := map[string]bool{}
			for range 2 {
				id, err := outbox.Publish(t.Context(), tx, outbox.Event{Type: "order.paid", Payload: json.RawMessage(`{}`)})
				must(t, err)
				committed[id.String()] = true
			}
			must(t, tx.Commit(t.Context()))
			startNode(t, nodeOrder{URL: b.URL, KillAt: relayCommitted, KillAfter: 1, Grace: time.Minute}).killed(t)
			if n := value[int](t, b.Pool, `SELECT count(*) FROM river.river_job WHERE kind = 'deliver'`); n != 1 {
				t.Errorf("%d jobs for two deliveries to each of %d endpoints, want 1", n, endpoints)
			}
			startNode(t, nodeOrder{URL: b.URL, KillAt: at, KillAfter: 1, Grace: time.Minute}).killed(t)
			b.run(t)
			settled(t, b.Pool)
			for _, r := range receivers {
				r.check(t, committed, 0)
			}
			if l := balanced(t, b.Pool); l.Deliveries[Delivered] != 2*endpoints {
				t.Errorf("%+v", l)
			}
		})
	}
}

func TestCrash_OfTheSweepLosesNothing(t *testing.T) {
	t.Parallel()
	for _, at := range []commitPoint{sweepUncommitted, sweepCommitted} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			r := newReceiver(t, nil)
			b.endpoint(t, r.URL)
			committed := b.publishSome(t, events)
			startNode(t, nodeOrder{URL: b.URL, KillAt: relayCommitted, KillAfter: 1, Grace: time.Minute}).killed(t)
			_, err := b.Pool.Exec(t.Context(), `DELETE FROM river.river_job`)
			must(t, err)
			startNode(t, nodeOrder{URL: b.URL, KillAt: at, KillAfter: 1, Grace: 200 * time.Millisecond}).killed(t)
			b.run(t, func(c *Config) { c.SweepGrace = 200 * time.Millisecond })
			settled(t, b.Pool)
			r.check(t, committed, 16)
			balanced(t, b.Pool)
		})
	}
}

func TestCrash_OfTheAuditLeavesTheBooksExact(t *testing.T) {
	t.Parallel()
	for _, at := range []commitPoint{auditUncommitted, auditCommitted} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			r := newReceiver(t, nil)
			b.endpoint(t, r.URL)
			committed := b.publishSome(t, events)
			before := balanced(t, b.Pool).AuditedTo
			startNode(t, nodeOrder{URL: b.URL, KillAt: at, KillAfter: 1, Grace: time.Minute}).killed(t)
			if l := balanced(t, b.Pool); l.AuditedTo.After(before) != (at == auditCommitted) {
				t.Errorf("audited from %s to %s", before, l.AuditedTo)
			}
			b.run(t)
			settled(t, b.Pool)
			r.check(t, committed, 16)
			balanced(t, b.Pool)
		})
	}
}

func TestCrash_OfATrimLosesNothingThatIsNeeded(t *testing.T) {
	t.Parallel()
	for _, at := range []commitPoint{trimStaged, trimUncommitted, trimCommitted} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			day, _ := deadDay(t, b, 10)
			startNode(t, nodeOrder{URL: b.URL, KillAt: at, KillAfter: 1, Grace: time.Minute, Retention: 24 * time.Hour}).killed(t)
			if trimmed := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.outbox`) == 1; trimmed != (at == trimCommitted) {
				t.Errorf("the day is trimmed: %t", trimmed)
			}
			balanced(t, b.Pool)
			must(t, b.retention(mostNeeded, nil).run(t.Context()))
			names := ofThePast(t, b)
			if want := fmt.Sprintf("attempts_%s_to_%[1]s", day.Format("20060102")); len(names) != 4 || names[0] != want {
				t.Errorf("the tables are %v, want four like %s", names, want)
			}
			if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.dead_letters l JOIN posthorn.attempts a USING (delivery_id)
				JOIN posthorn.outbox o ON o.id = l.event_id`); n != 1 {
				t.Error("the dead letter's event or attempt is gone")
			}
			balanced(t, b.Pool)
		})
	}
}

func TestCrash_OfARetryByHand(t *testing.T) {
	t.Parallel()
	for _, at := range []commitPoint{redeliverWritten, redeliverCommitted} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			r := newReceiver(t, status(500))
			b.endpoint(t, r.URL)
			stop := b.run(t)
			id := b.publish(t, outbox.Event{})
			settled(t, b.Pool)
			stop()
			r.become(nil)
			delivery := value[DeliveryID](t, b.Pool, `SELECT id FROM posthorn.deliveries`)
			startNode(t, nodeOrder{URL: b.URL, KillAt: at, KillAfter: 1, Retry: delivery.String()}).killed(t)
			l := balanced(t, b.Pool)
			if committed := at == redeliverCommitted; (l.DeadLetters == 0) != committed || (l.Deliveries[Retrying] == 1) != committed {
				t.Errorf("%+v", l)
			}
			b.run(t)
			settled(t, b.Pool)
			balanced(t, b.Pool)
			if want := map[commitPoint]int{redeliverWritten: 3, redeliverCommitted: 4}[at]; r.counts()[id.String()] != want {
				t.Errorf("%d POSTs, want %d", r.counts()[id.String()], want)
			}
		})
	}
}

// TestCrash_CoversEveryCommitPoint keeps the list and the tests together.
func TestCrash_CoversEveryCommitPoint(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("crash_test.go")
	must(t, err)
	doc, err := os.ReadFile("doc.go")
	must(t, err)
	names := map[commitPoint]string{
		relayClaimed: "relayClaimed", relayCommitted: "relayCommitted", senderBeforePost: "senderBeforePost",
		senderAfterPost: "senderAfterPost", recorderBefore: "recorderBefore", recorderUncommitted: "recorderUncommitted",
		recorderCommitted: "recorderCommitted", workerFetched: "workerFetched", workerHandedOver: "workerHandedOver",
		splitUncommitted: "splitUncommitted", splitCommitted: "splitCommitted",
		backlogFetched: "backlogFetched", backlogHandedOver: "backlogHandedOver",
		reaperUncommitted: "reaperUncommitted", reaperCommitted: "reaperCommitted", sweepUncommitted: "sweepUncommitted",
		sweepCommitted: "sweepCommitted", auditUncommitted: "auditUncommitted", auditCommitted: "auditCommitted",
		trimStaged: "trimStaged", trimUncommitted: "trimUncommitted", trimCommitted: "trimCommitted", redeliverWritten: "redeliverWritten", redeliverCommitted: "redeliverCommitted",
	}
	for _, p := range commitPoints {
		if names[p] == "" || strings.Count(string(source), names[p]) < 2 {
			t.Errorf("no crash test kills at %s", p)
		}
		if !strings.Contains(string(doc), string(p)) {
			t.Errorf("the package's documentation does not say what follows from %s", p)
		}
	}
}

func TestNode_ASecondOneTakesOverWithinThreeSeconds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	hang := make(chan struct{})
	r := newReceiver(t, func(_ http.ResponseWriter, request *http.Request) {
		select {
		case <-hang:
		case <-request.Context().Done():
		}
	})
	b.endpoint(t, r.URL)
	committed := b.publishSome(t, events)
	victim := startNode(t, nodeOrder{URL: b.URL, Grace: time.Minute})
	for range 16 { // as many as a lane has in flight
		r.next(t)
	}
	b.run(t)
	eventually(t, b.Pool, "two nodes", `SELECT count(*) = 2 FROM posthorn.nodes`)
	r.become(nil)
	begin := time.Now()
	must(t, victim.cmd.Process.Kill())
	settled(t, b.Pool)
	took := time.Since(begin)
	t.Logf("the takeover took %s", took)
	if took > 3*time.Second { // a tenth of that where nothing else runs
		t.Error("it is to take three seconds at most")
	}
	close(hang)
	r.check(t, committed, 16)
	balanced(t, b.Pool)
}

func TestNode_GivesEverythingBackWhenItStops(t *testing.T) {
	t.Parallel()
	b := setup(t)
	release := make(chan struct{})
	r := newReceiver(t, func(http.ResponseWriter, *http.Request) { <-release })
	b.endpoint(t, r.URL)
	committed := b.publishSome(t, events)
	stop := b.run(t)
	for range 16 {
		r.next(t)
	}
	stopped := inBackground(stop)
	r.become(nil)
	close(release)
	<-stopped
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.nodes`); n != 0 {
		t.Errorf("%d nodes are left", n)
	}
	if n := value[int](t, b.Pool, `SELECT count(*) FROM river.river_job WHERE kind = 'deliver' AND state <> 'available'`); n != 0 {
		t.Errorf("%d jobs were not given back", n)
	}
	balanced(t, b.Pool)
	b.run(t)
	settled(t, b.Pool)
	r.check(t, committed, 0)
	balanced(t, b.Pool)
}

func TestNode_NoTransactionIsOpenDuringARequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	release := make(chan struct{})
	r := newReceiver(t, func(http.ResponseWriter, *http.Request) { <-release })
	b.endpoint(t, r.URL)
	b.run(t)
	b.publish(t, outbox.Event{})
	r.next(t)
	// The relay's and River's transactions last milliseconds: one that began
	// before now and is still there after they are over would be held for the request.
	now := value[time.Time](t, b.Pool, `SELECT clock_timestamp()`)
	eventually(t, b.Pool, "no transaction older than the request", `SELECT NOT EXISTS (
		SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
		  AND xact_start IS NOT NULL AND xact_start <= $1 AND backend_type = 'client backend')`, now)
	if n := value[int](t, b.Pool, `SELECT count(*) FROM posthorn.deliveries WHERE status = 'pending'`); n != 1 {
		t.Errorf("the request is over: %d pending", n)
	}
	close(release)
	settled(t, b.Pool)
}
