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
)

// Dispatcher is one node: it relays, sends and records until it is stopped.
type Dispatcher struct {
	config   Config
	clock    clock
	lanes    *lanes
	node     *node
	river    *river.Client[pgx.Tx]
	relay    *relay
	sender   *sender
	recorder *recorder
	results  chan result
	ledger   *ledgerWatch
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
	d.sender = &sender{
		pool: config.Pool, directory: config.Directory, transport: newTransport(config.Guard, config.MaxInFlight),
		userAgent: "Posthorn/" + config.Version, timeout: config.AttemptTimeout, retry: config.Retry,
		logger: config.Logger, telemetry: telemetry, reaching: config.reaching,
	}
	d.lanes = newLanes(config.MaxInFlight, config.MaxInHand, d.sender.turn, d.results)
	d.node = &node{pool: config.Pool, name: config.NodeName, version: config.Version,
		logger: config.Logger, counters: telemetry, reaching: config.reaching, lose: d.lanes.lose}
	if d.river, err = d.newRiver(telemetry); err != nil {
		return nil, err
	}
	d.relay = &relay{
		pool: config.Pool, jobs: d.river, directory: config.Directory, lanes: d.lanes, node: config.NodeName,
		clock: &d.clock, lease: config.Lease, noHandoff: config.NoHandoff, logger: config.Logger,
		telemetry: telemetry, reaching: config.reaching, fanOut: 1,
	}
	d.recorder = &recorder{
		pool: config.Pool, jobs: d.river, node: config.NodeName, clock: &d.clock, lanes: d.lanes, results: d.results,
		logger: config.Logger, telemetry: telemetry, reaching: config.reaching,
	}
	return d, nil
}

// newRiver makes the client that works our jobs. A delivering job is only loaded
// by its worker, so a few workers feed all lanes.
func (d *Dispatcher) newRiver(t *telemetry) (*river.Client[pgx.Tx], error) {
	c := d.config
	inserter, err := newInserter(c.Pool)
	if err != nil {
		return nil, err
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &worker{pool: c.Pool, directory: c.Directory, lanes: d.lanes, lease: c.Lease, reaching: c.reaching})
	river.AddWorker(workers, &sweeper{pool: c.Pool, jobs: inserter, grace: c.SweepGrace, counters: t, reaching: c.reaching})
	river.AddWorker(workers, &auditor{pool: c.Pool, reaching: c.reaching})
	river.AddWorker(workers, &maintainer{pool: c.Pool, retention: c.Retention, logger: c.Logger})
	client, err := river.NewClient(riverpgxv5.New(c.Pool), &river.Config{
		ID:      c.NodeName,
		Schema:  migrations.RiverSchema,
		Workers: workers,
		Queues: map[string]river.QueueConfig{
			queueDeliver:  {MaxWorkers: 50, FetchCooldown: 5 * time.Millisecond, FetchPollInterval: 100 * time.Millisecond},
			queueMaintain: {MaxWorkers: 3}, // sweep, audit, maintain
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
	keepers.Go(func() { keeper{d}.run(keeping) })
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
	d.lanes.close()
	sent := inBackground(d.lanes.workers.Wait)
	select {
	case <-sent:
	case <-bounded.Done():
		close(d.lanes.abandoned)
		<-sent // bounded by the attempt's time limit
	}
	close(d.results)
	select {
	case <-recorded:
	case <-bounded.Done():
		stopRecording()
		<-recorded
	}
	d.sender.transport.CloseIdleConnections()
}

func inBackground(f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return done
}
