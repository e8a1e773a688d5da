package dispatcher

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/internal/collector"
	"github.com/posthorn/posthorn/internal/netguard"
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
