package devdb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// helperEnv makes this test binary, run again as a child, start a server in the
// directory that it names ("-" for a temporary one) instead of running tests. The
// child prints one line and runs until its standard input ends.
const helperEnv = "DEVDB_TEST_HELPER"

func TestMain(m *testing.M) {
	if dir, ok := os.LookupEnv(helperEnv); ok {
		if err := helper(strings.TrimPrefix(dir, "-")); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		return
	}
	m.Run()
}

// helper starts a server and prints its data directory, process and URL.
func helper(dir string) error {
	s, err := Start(context.Background(), Config{Dir: dir})
	if err != nil {
		return err
	}
	fmt.Println("running", s.home.path, s.proc.cmd.Process.Pid, s.URL())
	bufio.NewScanner(os.Stdin).Scan()
	return s.Stop()
}

// child is a helper process with its server.
type child struct {
	cmd  *exec.Cmd
	out  *bufio.Reader
	home string
	pid  int // of its PostgreSQL
	url  string
}

// startChild runs the helper. The caller ends it by closing stop or by killing it.
func startChild(t *testing.T, program, dir string, change func(*exec.Cmd)) (c *child, stop func()) {
	t.Helper()
	c = &child{cmd: exec.Command(program)}
	c.cmd.Env = append(os.Environ(), helperEnv+"="+dir)
	c.cmd.Stderr = os.Stderr
	if change != nil {
		change(c.cmd)
	}
	stdin, err := c.cmd.StdinPipe()
	noError(t, err)
	stdout, err := c.cmd.StdoutPipe()
	noError(t, err)
	noError(t, c.cmd.Start())
	t.Cleanup(func() {
		// Both fail when the test has ended the child already.
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	})
	c.out = bufio.NewReader(stdout)
	line, err := c.out.ReadString('\n')
	noError(t, err)
	if _, err := fmt.Sscanf(line, "running %s %d %s", &c.home, &c.pid, &c.url); err != nil {
		t.Fatalf("the child printed %q", line)
	}
	return c, func() { stdin.Close() }
}

// start starts a server that the test's end stops.
func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := Start(t.Context(), cfg)
	noError(t, err)
	t.Cleanup(func() { noError(t, s.Stop()) })
	return s
}

// connect returns a connection that the test's end closes.
func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	noError(t, err)
	t.Cleanup(func() {
		// The server may be gone by now.
		_ = conn.Close(context.Background())
	})
	return conn
}

// one returns the single text value of a query.
func one(t *testing.T, conn *pgx.Conn, query string, args ...any) string {
	t.Helper()
	var v string
	noError(t, conn.QueryRow(t.Context(), query, args...).Scan(&v))
	return v
}

func exec1(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql)
	noError(t, err)
}

// openDir returns a new directory whose parents everyone may pass through, which
// those of t.TempDir do not allow.
func openDir(t *testing.T) string {
	t.Helper()
	parent, err := filepath.EvalSymlinks(os.TempDir())
	noError(t, err)
	dir, err := os.MkdirTemp(parent, "devdb-test-")
	noError(t, err)
	t.Cleanup(func() { noError(t, os.RemoveAll(dir)) })
	noError(t, os.Chmod(dir, 0o755))
	return dir
}

// waitGone fails the test unless the server's process ends soon.
func waitGone(t *testing.T, pid int, home string) {
	t.Helper()
	gone := func() bool { return !strings.Contains(commandLine(pid), home) }
	if !pollUntil(t.Context(), 10*time.Second, gone) {
		t.Fatalf("PostgreSQL (process %d) still runs: %s", pid, commandLine(pid))
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("error is %v, want %v", err, target)
	}
}

// script writes an executable shell script. The lock keeps other tests from
// starting a child meanwhile, which would hold the file open for writing for a
// moment, so that it could not be executed.
func script(t *testing.T, dir, name, body string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	noError(t, os.MkdirAll(dir, 0o755))
	noError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+body), 0o755))
}
