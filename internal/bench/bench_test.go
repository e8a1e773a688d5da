package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/dispatcher"
	"github.com/posthorn/posthorn/internal/netguard"
	"github.com/posthorn/posthorn/internal/pgtest"
	"github.com/posthorn/posthorn/subscriptions"
)

// TestMain makes the test binary a process of a benchmark when it is called as one.
func TestMain(m *testing.M) {
	if len(os.Args) != 4 || os.Args[1] != "bench" || os.Args[2] != "--role" {
		pgtest.Main(m)
		return
	}
	if err := play(context.Background(), os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func play(ctx context.Context, role string) error {
	switch role {
	case RoleReceiver:
		return Receive(os.Stdin, os.Stdout)
	case RoleSender:
		return Send(ctx, os.Stdin, dispatch)
	case RoleNaive:
		return SendNaively(ctx, os.Stdin, os.Stdout)
	}
	return errors.New("no such role")
}

// dispatch stands in for posthorn serve.
func dispatch(ctx context.Context, url string) error {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	keyset, err := subscriptions.KeptKeyset(ctx, pool)
	if err != nil {
		return err
	}
	keys, err := subscriptions.NewKeyring(keyset)
	if err != nil {
		return err
	}
	d, err := dispatcher.New(dispatcher.Config{Pool: pool, Directory: subscriptions.NewDirectory(keys), Guard: netguard.NewGuard(loopback)})
	if err != nil {
		return err
	}
	return d.Run(ctx)
}

// tiny measures next to nothing.
func tiny(t *testing.T, only ...string) Config {
	t.Helper()
	return Config{
		Executable: os.Args[0], Only: only, Events: 200, Endpoints: 7, Rounds: 2, LatencyFor: 100e6, IsolationFor: 200e6,
		Case: "2 answer 500", ProducerFor: 20e6, Backlog: 300, Stored: 2000, IdleFor: 50e6, Progress: t.Output(),
	}
}

// measure runs one section on a database of the test's own, which must be as empty
// afterwards as it was.
func measure(t *testing.T, only string) *Report {
	t.Helper()
	db := pgtest.NewEmpty(t)
	c := tiny(t, only)
	c.DatabaseURL = db.URL
	r, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.WriteTable(t.Output()); err != nil {
		t.Error(err)
	}
	const left = `SELECT count(*) FROM pg_namespace WHERE nspname IN ('posthorn', 'river', $1, $2)`
	var schemas int
	if err := db.Pool.QueryRow(t.Context(), left, producerSchema, naiveSchema).Scan(&schemas); err != nil || schemas != 0 {
		t.Errorf("%d schemas are left, %v", schemas, err)
	}
	return r
}
