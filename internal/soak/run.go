package soak

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posthorn/posthorn/internal/devdb"
)

// run is one run of the suite.
type run struct {
	config    Config
	plan      *Plan
	database  *devdb.Server
	proxies   []*proxy // one for each node, and the producers'
	nodes     []*node
	client    *client
	receiver  *receiver
	endpoints []Endpoint
	canPause  bool // whether endpoints can be paused

	databaseTurn sync.Mutex // held while the database is away
	mu           sync.Mutex
	windows      []Window
	complaints   []string
}

// Run carries out the plan of the seed and judges what happened. An error means that
// the run itself could not be made; broken promises are in the report. It leaves no
// process and no directory behind.
func Run(ctx context.Context, c Config) (*Report, error) {
	r := &run{config: c, plan: newPlan(c.Seed, c.pace())}
	begin := time.Now()
	defer r.close()
	if err := r.open(ctx); err != nil {
		return nil, fmt.Errorf("soak: %w", err)
	}
	h, err := r.live(ctx)
	if err != nil {
		return nil, fmt.Errorf("soak: %w", err)
	}
	return &Report{Seed: c.Seed, History: h, Violations: Judge(h), Took: time.Since(begin), Paused: r.canPause}, nil
}

func (r *run) logf(format string, args ...any) { r.config.Logf(format, args...) }

// open starts everything: the database, the network, the processes, the receiver.
func (r *run) open(ctx context.Context) error {
	var err error
	// A commit that was answered survives a crash of the server, as in production.
	r.database, err = devdb.Start(ctx, devdb.Config{InMemory: true, Settings: map[string]string{
		"synchronous_commit": "on", "max_wal_size": "512MB"}})
	if err != nil {
		return err
	}
	if err := r.migrate(ctx); err != nil {
		return err
	}
	for range nodes + 1 {
		p, err := newProxy(hostOf(r.database.URL()))
		if err != nil {
			return err
		}
		r.proxies = append(r.proxies, p)
	}
	for i := range nodes {
		r.nodes = append(r.nodes, &node{name: fmt.Sprintf("node %d", i+1), binary: r.config.Binary,
			env: r.environment(through(r.database.URL(), r.proxies[i])), proxy: r.proxies[i], complain: r.complain})
	}
	r.client, r.receiver = newClient(r.nodes), newReceiver()
	if err := inParallel(r.nodes, func(n *node) error { return n.start(ctx) }); err != nil {
		return err
	}
	return r.register(ctx)
}

func (r *run) migrate(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, r.config.Binary, "migrate", "up")
	cmd.Env = r.environment(r.database.URL())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("posthorn migrate up: %w: %s", err, out)
	}
	conn, err := pgx.Connect(ctx, r.database.URL())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is open on it
	_, err = conn.Exec(ctx, businessSQL)
	return err
}

// environment configures a process that uses the database at the URL.
func (r *run) environment(url string) []string {
	waits := make([]string, len(schedule))
	for i, d := range schedule {
		waits[i] = d.String()
	}
	return append(r.config.Env[:len(r.config.Env):len(r.config.Env)],
		"DATABASE_URL="+url, "POSTHORN_OPERATOR_KEY="+operatorKey, "POSTHORN_ALLOW_PRIVATE_NETWORKS=127.0.0.0/8",
		"POSTHORN_RETRY_SCHEDULE="+strings.Join(waits, ","), "POSTHORN_ATTEMPT_TIMEOUT="+attemptTimeout.String())
}

// hostOf is the host and port of a database's URL, through the URL with the
// proxy's instead.
func hostOf(database string) string {
	u, _ := url.Parse(database) // of devdb, which made it
	return u.Host
}

func through(database string, p *proxy) string {
	u, _ := url.Parse(database) // as above
	u.Host = p.addr()
	return u.String()
}

// register makes the endpoints, and finds out what this Posthorn can do with them.
func (r *run) register(ctx context.Context) error {
	for _, e := range r.plan.Endpoints {
		place, url := r.receiver.add()
		made, secret, err := r.client.create(ctx, e, url)
		if err != nil {
			return err
		}
		if err := r.receiver.registered(place, made.ID, secret); err != nil {
			return err
		}
		r.endpoints = append(r.endpoints, made)
	}
	var err error
	id := r.endpoints[0].ID
	if r.canPause, err = r.client.turn(ctx, id, "pause"); err == nil && r.canPause {
		_, err = r.client.turn(ctx, id, "resume")
	}
	return err
}

// live lets producers, faults and monitor run, waits for quiet, ends the processes
// and reads what there is.
func (r *run) live(ctx context.Context) (*History, error) {
	shops := make([]*producer, len(r.plan.Producers))
	for i, purchases := range r.plan.Producers {
		shops[i] = &producer{url: through(r.database.URL(), r.proxies[nodes]), purchases: purchases}
	}
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	m := newMonitor(r.database.URL(), r.client, 300*time.Millisecond)
	var watched, busy sync.WaitGroup
	watched.Go(func() { m.run(watching) })
	for _, shop := range shops {
		busy.Go(func() { shop.run(ctx) })
	}
	begin := time.Now()
	r.carryOut(ctx, begin)
	busy.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	r.logf("%s  all faults are over after %s", clock(time.Now()), time.Since(begin).Round(time.Millisecond))

	conn, err := pgx.Connect(ctx, r.database.URL())
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // nothing is open on it
	h := &History{Rules: Rules{AttemptTimeout: attemptTimeout, MaxAttempts: len(schedule) + 1, Nodes: nodes}, Endpoints: r.endpoints}
	waiting, cancel := context.WithTimeout(ctx, quietPatience)
	defer cancel()
	quiet := time.Now()
	if h.Unsettled, err = settle(waiting, conn, func(what string) { r.logf("%s  waiting: %s", clock(time.Now()), what) }); err != nil {
		return nil, err
	}
	h.Settling = time.Since(quiet)
	r.logf("%s  all is quiet %s later", clock(time.Now()), h.Settling.Round(time.Millisecond))
	stopWatching()
	watched.Wait()
	h.Ledgers = append(m.ledgers, r.finalLedger(ctx)...)
	r.endNodes()
	r.receiver.close()

	h.Posts, h.Sightings = r.receiver.posts(), m.sightings()
	for _, shop := range shops {
		h.Publications = append(h.Publications, shop.record...)
	}
	h.Faults, h.Complaints = r.windows, r.complaints
	return h, h.read(ctx, conn)
}

// finalLedger asks every process.
func (r *run) finalLedger(ctx context.Context) []Ledger {
	var all []Ledger
	for _, n := range r.nodes {
		l, err := r.client.ledger(ctx, n.url())
		if err != nil {
			r.complain("%s, when all was quiet: %v", n.name, err)
			continue
		}
		l.Final = true
		all = append(all, l)
	}
	return all
}

// endNodes ends the processes in good order.
func (r *run) endNodes() {
	_ = inParallel(r.nodes, func(n *node) error { // complaints are in the report
		n.turn.Lock()
		defer n.turn.Unlock()
		l := n.life.Load()
		if l == nil {
			return nil
		}
		if !l.terminate() {
			r.complain("%s did not end within %s of SIGTERM; it printed:\n%s", n.name, endPatience, l.log)
		}
		if status := l.cmd.ProcessState.ExitCode(); status != 0 {
			r.complain("%s ended with %s; it printed:\n%s", n.name, l.cmd.ProcessState, l.log)
		}
		for _, line := range l.log.alarming() {
			r.complain("%s printed: %s", n.name, line)
		}
		return nil
	})
}

// close ends what is still there.
func (r *run) close() {
	for _, n := range r.nodes {
		if l := n.life.Load(); l != nil {
			l.kill()
		}
	}
	for _, p := range r.proxies {
		if err := p.close(); err != nil {
			r.logf("the proxy's end: %v", err)
		}
	}
	if r.receiver != nil {
		r.receiver.close()
	}
	if r.database != nil {
		if err := r.database.Stop(); err != nil {
			r.logf("the database's end: %v", err)
		}
	}
}

// inParallel does it to all at once and joins the errors.
func inParallel[T any](all []T, do func(T) error) error {
	failed := make([]error, len(all))
	var group sync.WaitGroup
	for i, one := range all {
		group.Go(func() { failed[i] = do(one) })
	}
	group.Wait()
	return errors.Join(failed...)
}
