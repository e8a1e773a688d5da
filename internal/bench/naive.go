package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/posthorn/posthorn/webhook"
)

// naiveJob is one delivery of the naive design.
type naiveJob struct {
	EventID int64  `json:"event_id"`
	URL     string `json:"url"`
}

// Kind implements river.JobArgs.
func (naiveJob) Kind() string { return "deliver" }

// naiveWorker delivers as one would at first: load, sign, POST, record, each
// delivery in a transaction of its own.
type naiveWorker struct {
	river.WorkerDefaults[naiveJob]
	pool   *pgxpool.Pool
	client *http.Client
	signer *webhook.Signer
}

const naiveEventSQL = `SELECT payload FROM ` + naiveSchema + `.events WHERE id = $1`

// Work implements river.Worker.
func (w *naiveWorker) Work(ctx context.Context, job *river.Job[naiveJob]) error {
	var payload string
	if err := w.pool.QueryRow(ctx, naiveEventSQL, job.Args.EventID).Scan(&payload); err != nil {
		return err
	}
	begin := time.Now()
	sent := signedPost(ctx, w.client, w.signer, job.Args.URL, strconv.FormatInt(job.Args.EventID, 10), []byte(payload))
	if err := w.record(ctx, job, begin, sent); err != nil {
		return err
	}
	return sent
}

const (
	naiveAttemptSQL  = `INSERT INTO ` + naiveSchema + `.attempts (event_id, url, number, started_at, duration, error) VALUES ($1, $2, $3, $4, $5, $6)`
	naiveDeliverySQL = `INSERT INTO ` + naiveSchema + `.deliveries (event_id, url, status, attempts) VALUES ($1, $2, $3, $4)
		ON CONFLICT (event_id, url) DO UPDATE SET status = excluded.status, attempts = excluded.attempts`
)

// record writes the attempt and the delivery's state.
func (w *naiveWorker) record(ctx context.Context, job *river.Job[naiveJob], begin time.Time, sent error) error {
	status, problem := "delivered", (*string)(nil)
	if sent != nil {
		text := sent.Error()
		status, problem = "retrying", &text
	}
	return pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, naiveAttemptSQL, job.Args.EventID, job.Args.URL, job.Attempt, begin, time.Since(begin), problem); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, naiveDeliverySQL, job.Args.EventID, job.Args.URL, status, job.Attempt)
		return err
	})
}

const (
	naiveConns   = 20  // as Posthorn's
	naiveWorkers = 100 // as in River's documentation
)

// SendNaively is the naive sender's process: it reads a database's URL from standard
// input, works River's jobs there with River's default settings, and says on standard
// output when it has begun, until the input ends.
func SendNaively(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	running, url, err := untilEnd(ctx, stdin)
	if err != nil {
		return err
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return errURL
	}
	config.MaxConns = naiveConns
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	signer, err := webhook.NewSigner(webhook.NewSecret())
	if err != nil {
		return err
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &naiveWorker{pool: pool, client: newTunedClient(), signer: signer})
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Schema: naiveSchema, Workers: workers, Logger: quiet,
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: naiveWorkers}},
	})
	if err != nil {
		return err
	}
	if err := client.Start(ctx); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "works")
	<-running.Done()
	return client.Stop(context.WithoutCancel(ctx))
}
