package devdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// Ports are chosen below those that systems give to outgoing connections, so
	// that none of these takes the port between Kill and Restart.
	lowestPort, highestPort = 20000, 29999
	// portAttempts bounds how many ports are tried.
	portAttempts = 20
	// tailBytes is how much of the log an error quotes.
	tailBytes = 4096
)

// errPortTaken means that another program listens on the port.
var errPortTaken = errors.New("the port is in use by another program")

// freePort returns a port nobody listens on just now.
func freePort() (int, error) {
	var err error
	for range portAttempts {
		port := lowestPort + rand.IntN(highestPort-lowestPort+1)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no free port found from %d to %d: %w", lowestPort, highestPort, err)
}

// portTaken reports whether PostgreSQL's log tells that it could not listen.
func portTaken(log string) bool {
	return strings.Contains(log, "could not create any TCP/IP sockets") ||
		strings.Contains(log, "could not bind IPv4 address")
}

// waitReady returns nil once the server takes connections, and an error when it
// ends before or the context does.
func (s *Server) waitReady(ctx context.Context, p *process, port int) error {
	// When another program has the port, a connection to it may hang; the end of
	// our server breaks it off.
	alive, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-p.done:
			cancel()
		case <-alive.Done():
		}
	}()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := s.ping(alive, port)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("it ended: %w", errors.Join(p.err, ctx.Err()))
		case <-ctx.Done():
			return fmt.Errorf("it takes no connections: %w", errors.Join(err, ctx.Err()))
		case <-ticker.C:
		}
	}
}

// ping connects and makes sure that it is our server that answers: another one
// may have taken the port while ours was starting.
func (s *Server) ping(ctx context.Context, port int) error {
	conn, err := pgx.Connect(ctx, s.urlOn(port, "postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var dir string
	if err := conn.QueryRow(ctx, "SHOW data_directory").Scan(&dir); err != nil {
		return err
	}
	if dir != s.home.data() {
		return fmt.Errorf("the server on port %d is another one, of %s", port, dir)
	}
	return nil
}

// ensureDatabase makes the database unless an earlier run did.
func (s *Server) ensureDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.URLFor("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var there bool
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", Database).Scan(&there)
	if err != nil || there {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{Database}.Sanitize())
	return err
}

// tail returns the end of what was written to the file after the offset.
func tail(file string, offset int64) string {
	f, err := os.Open(file)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil {
		offset = max(offset, info.Size()-tailBytes)
	}
	text, err := io.ReadAll(io.NewSectionReader(f, offset, tailBytes))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text))
}
