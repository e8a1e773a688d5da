package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// The roles of `bench --role`.
const (
	// RoleReceiver is for Receive.
	RoleReceiver = "receiver"
	// RoleSender is for Send.
	RoleSender = "sender"
	// RoleNaive is for SendNaively.
	RoleNaive = "naive"
)

// part is a process that takes part. It ends when its standard input does, so that
// it never outlives this one.
type part struct {
	role  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Reader // its standard output
	log   *tail         // its standard error
	ended chan struct{} // closed when it has ended
}

// startPart starts a process and tells it one line, which may be a secret that a
// command line would show.
func startPart(ctx context.Context, executable, role, line string) (*part, error) {
	p := &part{role: role, cmd: exec.CommandContext(ctx, executable, "bench", "--role", role), log: &tail{}, ended: make(chan struct{})}
	var stdout io.Reader
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start the %s: %w", role, err)
	}
	if stdout, err = p.cmd.StdoutPipe(); err != nil {
		return nil, fmt.Errorf("start the %s: %w", role, err)
	}
	p.lines, p.cmd.Stderr = bufio.NewReader(stdout), p.log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the %s: %w", role, err)
	}
	go func() {
		defer close(p.ended)
		p.cmd.Wait() //nolint:errcheck // p.failure tells what it said
	}()
	if _, err := fmt.Fprintln(p.stdin, line); err != nil {
		p.stop()
		return nil, p.failure(err)
	}
	return p, nil
}

// say is the next line that it prints.
func (p *part) say() (string, error) {
	line, err := p.lines.ReadString('\n')
	if err != nil {
		p.stop()
		return "", p.failure(err)
	}
	return strings.TrimSpace(line), nil
}

// failure says what a part that gave up has logged.
func (p *part) failure(err error) error {
	return fmt.Errorf("the %s: %w; its log ends with:\n%s", p.role, err, p.log)
}

var errEnded = errors.New("it has ended by itself")

// partGrace is how long a part may take to end in good order. Nothing is lost
// afterwards: what it worked on is thrown away.
const partGrace = 3 * time.Second

// stop ends the process. Later calls do nothing.
func (p *part) stop() {
	p.stdin.Close()
	select {
	case <-p.ended:
	case <-time.After(partGrace):
		p.cmd.Process.Kill() //nolint:errcheck // it may have ended this moment
		<-p.ended
	}
}

// tail keeps the end of what is written to it. It is safe for concurrent use.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailBytes = 4 << 10

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	t.text = t.text[max(0, len(t.text)-tailBytes):]
	return len(b), nil
}

// String implements fmt.Stringer.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
