package devdb

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// process is a started PostgreSQL server. It is safe for concurrent use.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the server has ended
	err  error         // how it ended; valid after done

	asked atomic.Bool // somebody has told it to end
}

// startProcess starts the command and returns once it runs.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go p.own(started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// own starts the command and waits for its end on one operating system thread.
// The kernel sends the death signal when the starting thread ends, and Go ends
// idle threads as it likes: locked and waiting here, this one outlives the child.
func (p *process) own(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}
	started <- nil
	p.err = p.cmd.Wait()
	close(p.done)
}

// onUnasked calls tell if the process ends without having been told to.
func (p *process) onUnasked(tell func(err error)) {
	go func() {
		<-p.done
		if !p.asked.Load() {
			tell(p.err)
		}
	}()
}

// running reports whether the process has not ended yet.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// end sends the signal and waits. A process that is still there after the grace
// period gets the harder signals, one after the other, and end says so.
func (p *process) end(sig syscall.Signal, grace time.Duration) error {
	p.asked.Store(true)
	var late error
	for _, s := range []syscall.Signal{sig, syscall.SIGQUIT, syscall.SIGKILL} {
		// The only error is that the process has ended, which done tells as well.
		_ = p.cmd.Process.Signal(s)
		select {
		case <-p.done:
			return late
		case <-time.After(grace):
			late = fmt.Errorf("PostgreSQL (process %d) did not end within %s of the signal %q", p.cmd.Process.Pid, grace, s)
			grace = quitGrace
		}
	}
	return late
}

// quitGrace is how long a server may take to end at once: PostgreSQL itself gives
// its children 5 s before it kills them.
const quitGrace = 8 * time.Second

// childEnv is the environment of PostgreSQL's programs: what they need to load,
// and nothing secret, since SQL run by a superuser can read it.
func childEnv(home string) []string {
	env := []string{"LC_ALL=C", "TZ=UTC", "HOME=" + home}
	for _, name := range []string{"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// runAs runs one of PostgreSQL's programs to its end in the directory dir, as the
// account, and returns what it printed.
func runAs(ctx context.Context, a *account, dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = childEnv(dir)
	cmd.SysProcAttr = childAttr(a, syscall.SIGKILL)
	cmd.Cancel = func() error { return killGroup(cmd.Process.Pid) }
	cmd.WaitDelay = 5 * time.Second

	// The thread that starts the program must live until the program has ended,
	// as in process.own.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return text, fmt.Errorf("%s: %w: %s", program, err, text)
	}
	return text, nil
}
