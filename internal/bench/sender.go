package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// Send is the sender's process: it reads a database's URL from standard input and
// has serve work on it, until the input ends.
func Send(ctx context.Context, stdin io.Reader, serve func(ctx context.Context, databaseURL string) error) error {
	ctx, url, err := untilEnd(ctx, stdin)
	if err != nil {
		return err
	}
	return serve(ctx, url)
}

// untilEnd reads the first line and returns a context that is done when the input
// ends: whoever holds the other end has no more need of this process.
func untilEnd(ctx context.Context, stdin io.Reader) (context.Context, string, error) {
	reader := bufio.NewReader(stdin)
	line, err := reader.ReadString('\n')
	if err != nil {
		return nil, "", fmt.Errorf("read what to do from standard input: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		io.Copy(io.Discard, reader) //nolint:errcheck // the end of it is the signal, however it ends
		cancel()
	}()
	return ctx, strings.TrimSpace(line), nil
}

const nodesSQL = `SELECT count(*) FROM posthorn.nodes`

// startSender starts a sender on the lab's database and waits until it works: it
// enters itself among the nodes first. One that was stopped has taken itself out.
func (l *lab) startSender(ctx context.Context) error {
	p, err := startPart(ctx, l.suite.config.Executable, RoleSender, l.url)
	if err != nil {
		return err
	}
	l.sender = p
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for nodes := 0; nodes == 0; {
		if err := l.pool.QueryRow(ctx, nodesSQL).Scan(&nodes); err != nil {
			return err
		}
		select {
		case <-p.ended:
			return p.failure(errEnded)
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// stopSender ends the lab's sender, if it has one.
func (l *lab) stopSender() {
	if l.sender != nil {
		l.sender.stop()
	}
	l.sender = nil
}
