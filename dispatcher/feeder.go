package dispatcher

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/posthorn/posthorn/subscriptions"
)

// feeder is the River worker of backlogs: whichever node fetches a backlog's job
// becomes its owner and feeds it into the endpoint's lane, a piece at a time, until
// nothing is left or nothing may be sent. It is safe for concurrent use.
type feeder struct {
	river.WorkerDefaults[backlogArgs]

	pool      *pgxpool.Pool
	directory *subscriptions.Directory
	healths   *healths
	lanes     *lanes
	node      string
	lease     time.Duration
	probeTime time.Duration
	logger    *slog.Logger
	telemetry *telemetry
	reaching  reaching

	// turns bounds how many owners use the database at once: their number must not
	// keep the relay and the recorder from it.
	turns chan struct{}

	mu      sync.Mutex
	owners  map[subscriptions.EndpointID]*owner
	closing chan struct{} // closed when nothing more is to be loaded
	running sync.WaitGroup
}

// Timeout bounds the taking of a backlog; working it off is not the job's.
func (f *feeder) Timeout(*river.Job[backlogArgs]) time.Duration { return transactionTimeout }

// NextRetry is soon: an error here is the database's, and no endpoint's fault.
func (f *feeder) NextRetry(*river.Job[backlogArgs]) time.Time { return time.Now().Add(2 * time.Second) }

// Work implements river.Worker.
func (f *feeder) Work(ctx context.Context, job *river.Job[backlogArgs]) error {
	f.reaching.at(backlogFetched)
	endpoint, err := subscriptions.ParseEndpointID(job.Args.Endpoint)
	if err != nil {
		return err
	}
	// This node may have relayed nothing for a while; see worker.Work.
	if _, err := f.directory.Refresh(ctx, f.pool); err != nil {
		return err
	}
	asked := time.Now()
	tag, err := f.pool.Exec(ctx, keepJobSQL, job.ID, f.lease, f.node)
	if err != nil || tag.RowsAffected() == 0 { // it is another's by now
		return err
	}
	f.own(endpoint, job.ID, newLease(asked, f.lease))
	return nil // the job is kept
}

// own makes this node the owner of a backlog.
func (f *feeder) own(endpoint subscriptions.EndpointID, jobID int64, held *lease) {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.closing:
		return // the job goes back with all others
	default:
	}
	// One of before may have parked the job just now and not be gone, or have lost it
	// and requests under way still: it is waited for.
	o := newOwner(f, endpoint, jobID, held)
	if before := f.owners[endpoint]; before != nil {
		before.lease.lose()
		before.poke()
		o.before = before.ended
	}
	f.owners[endpoint] = o
	f.running.Go(func() {
		defer f.disown(o)
		if o.before != nil {
			<-o.before
		}
		o.run()
		o.drop()
	})
}

func (f *feeder) disown(o *owner) {
	close(o.ended)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.owners[o.endpointID] == o {
		delete(f.owners, o.endpointID)
	}
}

// poke has the owners of the endpoints' backlogs, if they are this node's, look
// again at once.
func (f *feeder) poke(endpoints ...subscriptions.EndpointID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range endpoints {
		if o := f.owners[id]; o != nil {
			o.poke()
		}
	}
}

// leases are those of the backlogs' jobs that this node owns.
func (f *feeder) leases() map[int64]*lease {
	f.mu.Lock()
	defer f.mu.Unlock()
	leases := make(map[int64]*lease, len(f.owners))
	for _, o := range f.owners {
		leases[o.jobID] = o.lease
	}
	return leases
}

// lose marks every backlog as another's.
func (f *feeder) lose() {
	for _, held := range f.leases() {
		held.lose()
	}
}

// close has the owners load nothing more and give their backlogs back as soon as
// they have nothing in hand.
func (f *feeder) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.closing)
}

// inTransaction bounds a transaction of an owner's.
func (f *feeder) inTransaction(do func(ctx context.Context, tx pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), transactionTimeout)
	defer cancel()
	return pgx.BeginFunc(ctx, f.pool, func(tx pgx.Tx) error { return do(ctx, tx) })
}
