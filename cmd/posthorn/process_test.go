package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/posthorn/posthorn/internal/pgtest"
)

// asPosthorn makes this test binary, run again as a child, be posthorn: the same
// code, race detector included, without another build.
const asPosthorn = "BE_POSTHORN"

func TestMain(m *testing.M) {
	if os.Getenv(asPosthorn) != "" {
		main()
		return
	}
	pgtest.Main(m)
}

// patience bounds every wait for a process: far more than any of them takes, so
// that a busy machine does not fail a test.
const patience = 90 * time.Second

// output collects what a process prints. It is safe for concurrent use.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed at the next change
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.text.Write(p)
}

func (o *output) look() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.changed
}

// String implements fmt.Stringer.
func (o *output) String() string {
	text, _ := o.look()
	return text
}

// process is posthorn, running.
type process struct {
	t        *testing.T
	cmd      *exec.Cmd
	out, err *output
	done     chan struct{} // closed when it has ended
}

// cleanEnviron is the environment without what would configure Posthorn.
func cleanEnviron() []string {
	var env []string
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); name != "DATABASE_URL" &&
			!strings.HasPrefix(name, "POSTHORN_") && !strings.HasPrefix(name, "OTEL_") {
			env = append(env, entry)
		}
	}
	return append(env, asPosthorn+"=1")
}

// start runs posthorn with variables and arguments.
func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	executable, err := os.Executable()
	must(t, err)
	p := &process{t: t, cmd: exec.Command(executable, args...), out: newOutput(), err: newOutput(), done: make(chan struct{})}
	p.cmd.Env = append(cleanEnviron(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.err
	must(t, p.cmd.Start())
	go func() {
		defer close(p.done)
		p.cmd.Wait() //nolint:errcheck // ProcessState has it
	}()
	t.Cleanup(func() {
		// Most often it has ended already; otherwise in good order, so that nothing of
		// it is left.
		p.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // see above
		select {
		case <-p.done:
		case <-time.After(patience):
			p.cmd.Process.Kill() //nolint:errcheck // see above
			<-p.done
			t.Error("posthorn did not end when asked to")
		}
		if t.Failed() {
			t.Logf("posthorn %s printed:\n%s\nand on standard error:\n%s", strings.Join(args, " "), p.out, p.err)
		}
	})
	return p
}

// await waits until the output matches and returns the match's groups.
func (p *process) await(o *output, pattern string) []string {
	p.t.Helper()
	wanted := regexp.MustCompile(pattern)
	limit := time.After(patience)
	for {
		text, changed := o.look()
		if match := wanted.FindStringSubmatch(text); match != nil {
			return match
		}
		select {
		case <-changed:
		case <-p.done:
			if match := wanted.FindStringSubmatch(o.String()); match != nil {
				return match
			}
			p.t.Fatalf("posthorn ended without printing %s", pattern)
		case <-limit:
			p.t.Fatalf("posthorn has not printed %s", pattern)
		}
	}
}

// end sends a signal and returns the exit status.
func (p *process) end(sig os.Signal) int {
	p.t.Helper()
	must(p.t, p.cmd.Process.Signal(sig))
	return p.wait()
}

func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatal("posthorn does not end")
		return 0
	}
}

// result is what a command that ends by itself has printed.
type result struct {
	out, err string
	status   int
}

// command runs posthorn to its end.
func command(t *testing.T, env []string, args ...string) result {
	t.Helper()
	p := start(t, env, args...)
	status := p.wait()
	return result{p.out.String(), p.err.String(), status}
}

// succeed is command for one that must.
func succeed(t *testing.T, env []string, args ...string) result {
	t.Helper()
	r := command(t, env, args...)
	if r.status != 0 {
		t.Fatalf("posthorn %s: status %d: %s", strings.Join(args, " "), r.status, r.err)
	}
	return r
}

// eventually asks again and again, where nobody tells.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for limit := time.After(patience); !is(); {
		select {
		case <-limit:
			t.Fatalf("still waiting: %s", what)
		case <-ticker.C:
		}
	}
}

// gone waits for the end of a process that is not our child.
func gone(t *testing.T, pid int) {
	t.Helper()
	eventually(t, fmt.Sprintf("the end of process %d", pid), func() bool {
		return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
