package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/posthorn/posthorn/migrations"
	"github.com/posthorn/posthorn/subscriptions"
)

// Dispatcher is one node: it relays, sends and records until it is stopped.
type Dispatcher struct {
	config     Config
	clock      clock
	healths    *healths
	limiter    *rateLimiter
	lanes      *lanes
	feeder     *feeder
	alignments *alignments
	node       *node
	river      *river.Client[pgx.Tx]
	relay      *relay
	sender     *sender
	recorder   *recorder
	results    chan result
	ledger     *ledgerWatch
}

// New makes a Dispatcher. Nothing runs before Run.
func New(config Config) (*Dispatcher, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	d := &Dispatcher{config: config, results: make(chan result, 2*maxBatch)}
	telemetry, err := newTelemetry(config.Tracer, config.Meter, &d.clock)
	if err != nil {
		return nil, fmt.Errorf("dispatcher: make metrics: %w", err)
	}
	backlog := func(ctx context.Context) (Backlog, error) { return ReadBacklog(ctx, config.Pool) }
	if err := telemetry.observe(config.Meter, backlog); err != nil {
		return nil, fmt.Errorf("dispatcher: make metrics: %w", err)
	}
	d.ledger = &ledgerWatch{pool: config.Pool, logger: config.Logger}
	if err := d.ledger.observe(config.Meter); err != nil {
		return nil, fmt.Errorf("dispatcher: make metrics: %w", err)
	}
	d.sendingParts(telemetry)
	if d.river, err = d.newRiver(telemetry); err != nil {
		return nil, err
	}
	d.recordingParts(telemetry)
	return d, nil
}

// sendingParts makes what River's workers hand deliveries to.
func (d *Dispatcher) sendingParts(telemetry *telemetry) {
	c := d.config
	d.healths = newHealths(&d.clock)
	d.limiter = newRateLimiter(c.Pool, c.Logger)
	d.sender = &sender{
		pool: c.Pool, directory: c.Directory, healths: d.healths, transport: newTransport(c.Guard),
		userAgent: "Posthorn/" + c.Version, timeout: c.AttemptTimeout, retry: c.Retry,
		logger: c.Logger, telemetry: telemetry, reaching: c.reaching,
	}
	d.lanes = newLanes(c.MaxInHand, d.healths, d.limiter, d.sender.turn, d.results)
	d.feeder = &feeder{
		pool: c.Pool, directory: c.Directory, healths: d.healths, lanes: d.lanes, node: c.NodeName,
		lease: c.Lease, probeTime: c.Breaker.ProbeTime, logger: c.Logger, telemetry: telemetry, reaching: c.reaching,
		turns: make(chan struct{}, ownersAtOnce), owners: map[subscriptions.EndpointID]*owner{}, closing: make(chan struct{}),
	}
	d.node = &node{pool: c.Pool, name: c.NodeName, version: c.Version, clock: &d.clock,
		logger: c.Logger, counters: telemetry, reaching: c.reaching,
		lose: func() { d.lanes.lose(); d.feeder.lose() }}
}

// recordingParts makes what leaves jobs to River.
func (d *Dispatcher) recordingParts(telemetry *telemetry) {
	c := d.config
	d.alignments = newAlignments(d.river, c.Logger)
	c.Directory.OnChange(d.alignments.notice)
	d.relay = &relay{
		pool: c.Pool, jobs: d.river, directory: c.Directory, lanes: d.lanes, feeder: d.feeder, healths: d.healths, node: c.NodeName,
		clock: &d.clock, lease: c.Lease, noHandoff: c.NoHandoff, logger: c.Logger,
		telemetry: telemetry, reaching: c.reaching, fanOut: 1,
	}
	d.recorder = &recorder{
		pool: c.Pool, jobs: d.river, directory: c.Directory, healths: d.healths, breaker: c.Breaker, disabling: c.Disable,
		node: c.NodeName, clock: &d.clock, lanes: d.lanes, feeder: d.feeder, results: d.results,
		logger: c.Logger, telemetry: telemetry, reaching: c.reaching,
	}
}

// riverPoll is how often a queue is looked at that River was told nothing of: new jobs
// announce themselves, due retries, woken backlogs and what a dead node had do not. It
// is most of what an idle node does.
const riverPoll = 250 * time.Millisecond

// newRiver makes the client that works our jobs. A delivering job is only loaded
// by its worker, so a few workers feed all lanes, and many would keep the relay and
// the recorder from the database.
func (d *Dispatcher) newRiver(t *telemetry) (*river.Client[pgx.Tx], error) {
	c := d.config
	inserter, err := newInserter(c.Pool)
	if err != nil {
		return nil, err
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &worker{pool: c.Pool, jobs: inserter, directory: c.Directory, lanes: d.lanes, node: c.NodeName, lease: c.Lease,
		telemetry: t, reaching: c.reaching})
	river.AddWorker(workers, d.feeder)
	river.AddWorker(workers, &aligner{pool: c.Pool, jobs: inserter, directory: c.Directory, feeder: d.feeder, telemetry: t, perSecond: c.DrainPerSecond})
	river.AddWorker(workers, &sweeper{pool: c.Pool, jobs: inserter, grace: c.SweepGrace, counters: t, reaching: c.reaching})
	river.AddWorker(workers, &auditor{pool: c.Pool, reaching: c.reaching})
	river.AddWorker(workers, &maintainer{pool: c.Pool, retention: c.Retention, logger: c.Logger, reaching: c.reaching})
	client, err := river.NewClient(riverpgxv5.New(c.Pool), &river.Config{
		ID:      c.NodeName,
		Schema:  migrations.RiverSchema,
		Workers: workers,
		Queues: map[string]river.QueueConfig{
			queueDeliver:  {MaxWorkers: 4, FetchCooldown: 5 * time.Millisecond, FetchPollInterval: riverPoll},
			queueBacklog:  {MaxWorkers: 3, FetchCooldown: 5 * time.Millisecond, FetchPollInterval: riverPoll},
			queueMaintain: {MaxWorkers: 5}, // sweep, audit, maintain, and two that align
		},
		PeriodicJobs: []*river.PeriodicJob{
			periodic(c.SweepInterval, sweepArgs{}),
			periodic(auditInterval, auditArgs{}),
			periodic(time.Hour, maintainArgs{}),
		},
		JobTimeout:           time.Minute,
		RescueStuckJobsAfter: 2 * time.Minute, // the reaper is first; this is for what it can't know
		// Our own tables are the record.
		CompletedJobRetentionPeriod: time.Minute,
		CancelledJobRetentionPeriod: time.Minute,
		DiscardedJobRetentionPeriod: time.Hour,
		Logger:                      riverLogger(c.Logger),
	})
	if err != nil {
		return nil, fmt.Errorf("dispatcher: make River client: %w", err)
	}
	return client, nil
}

// unfinishedJob are the states in which one job of a kind is enough.
var unfinishedJob = []rivertype.JobState{
	rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRunning,
	rivertype.JobStateRetryable, rivertype.JobStateScheduled,
}

// periodic runs a job at the start and then every interval, once in the cluster.
func periodic(interval time.Duration, args river.JobArgs) *river.PeriodicJob {
	return river.NewPeriodicJob(river.PeriodicInterval(interval),
		func() (river.JobArgs, *river.InsertOpts) {
			return args, &river.InsertOpts{Queue: queueMaintain, MaxAttempts: 3,
				UniqueOpts: river.UniqueOpts{ByQueue: true, ByState: unfinishedJob}}
		},
		&river.PeriodicJobOpts{RunOnStart: true})
}

// Run works until ctx is done. It then stops claiming, finishes the requests
// under way within ShutdownTimeout, records them and gives everything else back
// to the other nodes. It returns an error when it could not start or could not
// give back; it may be called once.
func (d *Dispatcher) Run(ctx context.Context) error {
	err := d.start(ctx)
	switch {
	case ctx.Err() != nil && !d.node.registered(): // stopped before it began
		return nil
	case err != nil:
		return fmt.Errorf("dispatcher: start: %w", err)
	}
	lasting := context.WithoutCancel(ctx)
	if err := d.river.Start(lasting); err != nil {
		return errors.Join(fmt.Errorf("dispatcher: start River: %w", err), d.node.leave(lasting))
	}
	recording, stopRecording := context.WithCancel(lasting)
	defer stopRecording()
	recorded := inBackground(func() { d.recorder.run(recording) })
	keeping, stopKeeping := context.WithCancel(lasting)
	defer stopKeeping()
	var keepers sync.WaitGroup
	keepers.Go(func() { d.node.run(keeping, d.config.ReapInterval) })
	keepers.Go(func() { (&keeper{Dispatcher: d}).run(keeping) })
	keepers.Go(func() { d.alignments.run(keeping) })
	keepers.Go(func() { d.ledger.run(keeping) })

	d.relay.run(ctx)
	d.stop(lasting, recorded, stopRecording)
	stopKeeping()
	keepers.Wait()
	return d.node.leave(lasting)
}

// start does what must have been done before the node has any work.
func (d *Dispatcher) start(ctx context.Context) error {
	if err := d.clock.sync(ctx, d.config.Pool); err != nil {
		return err
	}
	if _, err := d.config.Directory.Refresh(ctx, d.config.Pool); err != nil {
		return err
	}
	if err := d.healths.refresh(ctx, d.config.Pool); err != nil {
		return err
	}
	return d.node.register(ctx)
}

// stop is what follows the relay's end: no new work, then what is under way, then
// its results. What can't be recorded within ShutdownTimeout, because the database
// is away, is left to the others.
func (d *Dispatcher) stop(ctx context.Context, recorded <-chan struct{}, stopRecording func()) {
	bounded, cancel := context.WithTimeout(ctx, d.config.ShutdownTimeout)
	defer cancel()
	if err := d.river.Stop(bounded); err != nil {
		d.config.Logger.Warn("River did not stop in time", "error", err)
	}
	d.feeder.close()
	d.lanes.close()
	close(d.limiter.done)
	sent := inBackground(d.lanes.workers.Wait)
	select {
	case <-sent:
	case <-bounded.Done():
		d.lanes.abandon()
		<-sent // bounded by the attempt's time limit
	}
	fed := inBackground(d.feeder.running.Wait) // each as soon as what it had in hand is recorded
	select {
	case <-fed:
	case <-bounded.Done():
		d.feeder.lose() // what it could not give back is released with the node
		d.lanes.abandon()
		<-fed
	}
	close(d.results)
	select {
	case <-recorded:
	case <-bounded.Done():
		stopRecording()
		<-recorded
	}
	d.sender.transport.Close()
}

func inBackground(f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return done
}
