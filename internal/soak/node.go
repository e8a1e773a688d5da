package soak

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// startPatience bounds the wait for a process to run, endPatience for one to end
	// in good order: far more than either takes.
	startPatience = 90 * time.Second
	endPatience   = 60 * time.Second
)

// node is a posthorn serve that is killed and started again.
type node struct {
	name     string
	binary   string
	env      []string
	proxy    *proxy
	complain func(format string, args ...any)

	turn sync.Mutex // held by a fault for as long as it lasts
	life atomic.Pointer[life]
}

// life is one process of a node.
type life struct {
	cmd      *exec.Cmd
	log      *nodeLog
	done     chan struct{} // closed when it has ended
	expected atomic.Bool   // somebody has asked it to end, or it has not begun yet
}

// start runs the process and waits until it serves. One that can't, because its
// database is away, is started again, as whatever runs services does.
func (n *node) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		l, err := n.launch()
		if err != nil {
			return fmt.Errorf("start %s: %w", n.name, err)
		}
		select {
		case <-l.log.serving:
			n.life.Store(l)
			l.expected.Store(false)
			go n.watch(ctx, l)
			return nil
		case <-l.done:
			pause(ctx, 100*time.Millisecond)
		case <-ctx.Done():
			l.kill()
		}
		if ctx.Err() != nil {
			return fmt.Errorf("start %s: %w; it printed:\n%s", n.name, ctx.Err(), l.log)
		}
	}
}

func (n *node) launch() (*life, error) {
	l := &life{log: newNodeLog(), done: make(chan struct{})}
	l.expected.Store(true)
	l.cmd = exec.Command(n.binary, "serve", "--addr=127.0.0.1:0", "--allow-http", "--lease="+lease.String())
	l.cmd.Env = n.env
	l.cmd.Stdout, l.cmd.Stderr = l.log, l.log
	l.cmd.SysProcAttr = diesWithUs()
	started := make(chan error, 1)
	go l.own(started)
	if err := <-started; err != nil {
		return nil, err
	}
	return l, nil
}

// watch tells of an end that nobody asked for and of what must not be printed.
func (n *node) watch(ctx context.Context, l *life) {
	<-l.done
	for _, line := range l.log.alarming() {
		n.complain("%s printed: %s", n.name, line)
	}
	if l.expected.Load() {
		return
	}
	// It says that it runs a moment before its dispatcher does. Should the database
	// vanish in between, that is a failed start like any other.
	if l.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(l.log.String(), "dispatcher: start:") {
		n.complain("%s ended by itself: %s; it printed:\n%s", n.name, l.cmd.ProcessState, l.log)
	}
	n.turn.Lock()
	defer n.turn.Unlock()
	if n.life.Load() == l {
		if err := n.start(context.WithoutCancel(ctx)); err != nil {
			n.complain("%v", err)
		}
	}
}

// kill ends the process at once, in whatever state it is.
func (l *life) kill() {
	l.expected.Store(true)
	_ = l.cmd.Process.Kill() // an error means that it has ended
	<-l.done
}

// terminate asks the process to end and reports whether it did in time.
func (l *life) terminate() bool {
	l.expected.Store(true)
	_ = l.cmd.Process.Signal(syscall.SIGTERM) // an error means that it has ended
	select {
	case <-l.done:
		return true
	case <-time.After(endPatience):
		l.kill()
		return false
	}
}

// signal sends one that does not end the process.
func (l *life) signal(s syscall.Signal) { _ = l.cmd.Process.Signal(s) }

// url is where the process serves.
func (n *node) url() string {
	if l := n.life.Load(); l != nil {
		return l.log.address()
	}
	return ""
}

// nodeLog keeps the last lines that a process prints, and finds its address in
// them. It is safe for concurrent use.
type nodeLog struct {
	serving chan struct{} // closed when the address is known

	mu     sync.Mutex
	rest   string // of a line that is not finished
	lines  []string
	url    string
	alarms []string
}

// keptLines are for the message when something is wrong.
const keptLines = 40

func newNodeLog() *nodeLog { return &nodeLog{serving: make(chan struct{})} }

// Write implements io.Writer.
func (g *nodeLog) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rest += string(p)
	for {
		line, rest, whole := strings.Cut(g.rest, "\n")
		if !whole {
			return len(p), nil
		}
		g.rest = rest
		g.line(line)
	}
}

func (g *nodeLog) line(line string) {
	g.lines = append(g.lines, line)
	if len(g.lines) > keptLines {
		g.lines = g.lines[1:]
	}
	if strings.Contains(line, "DATA RACE") || strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") {
		g.alarms = append(g.alarms, line)
	}
	if _, found, ok := strings.Cut(line, " url=http"); ok && g.url == "" && strings.Contains(line, "posthorn is running") {
		address, _, _ := strings.Cut("http"+found, " ")
		g.url = address
		close(g.serving)
	}
}

func (g *nodeLog) address() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.url
}

func (g *nodeLog) alarming() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.alarms
}

// String implements fmt.Stringer.
func (g *nodeLog) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.lines, "\n")
}

// run starts the process and waits for its end.
func (l *life) run(started chan<- error) {
	if err := l.cmd.Start(); err != nil {
		started <- err
		return
	}
	started <- nil
	_ = l.cmd.Wait() // ProcessState has it
	close(l.done)
}
