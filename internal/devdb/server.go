package devdb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Database is the database that Start makes and URL names.
const Database = "posthorn"

// stopGrace is how long a fast shutdown may take, its checkpoint included, before
// the server is ended at once.
const stopGrace = 20 * time.Second

// Server is a running private PostgreSQL. Its methods are safe for concurrent use.
type Server struct {
	cfg      Config
	bin      string
	home     *home
	account  *account
	port     int
	password string

	mu      sync.Mutex // held while the server is started or ended
	proc    *process
	stopped bool
}

// Start finds PostgreSQL's programs, makes the cluster or takes over the one in
// cfg.Dir, starts a server on it and returns when it takes connections. The
// context bounds the start only; the server runs until Stop, or until the process
// ends. The caller must call Stop.
//
// It returns a *NotFoundError when there is no PostgreSQL and none could be got,
// and an error for which errors.Is(err, ErrForeignDir) or ErrDirInUse is true when
// cfg.Dir is not devdb's or is in use.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	s := &Server{cfg: cfg.withDefaults()}
	if err := s.claim(ctx); err != nil {
		return nil, fmt.Errorf("devdb: %w", err)
	}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("devdb: %w", err), s.Stop())
	}
	return s, nil
}

// claim chooses the account and the directory, and takes the directory's lock.
func (s *Server) claim(ctx context.Context) error {
	if s.cfg.Dir != "" {
		dir, err := filepath.Abs(s.cfg.Dir)
		if err != nil {
			return err
		}
		s.home, s.account, err = claimNamed(dir)
		return err
	}
	parents := temporaryParents()
	sweepStale(ctx, append(parents, memoryDir))
	if s.cfg.InMemory && freeBytes(memoryDir) >= memoryNeeded {
		parents = slices.Insert(parents, 0, memoryDir)
	}
	var err error
	if s.account, err = serverAccount(""); err != nil {
		return err
	}
	s.home, err = claimTemporary(parents, s.account)
	return err
}

// open makes the cluster if need be and starts the server.
func (s *Server) open(ctx context.Context) error {
	if err := endOrphan(ctx, s.home.data()); err != nil {
		return err
	}
	major, err := clusterMajor(s.home.data())
	if err != nil {
		return err
	}
	if s.bin, err = newFinder(s.cfg, s.account, major).find(ctx); err != nil {
		return err
	}
	if s.password, err = s.home.prepare(ctx, s.cfg, s.bin, s.account); err != nil {
		return err
	}
	// The log is that of one run; a kept directory would fill up otherwise.
	if err := os.WriteFile(s.home.log(), nil, 0o600); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.launch(ctx); err != nil {
		return err
	}
	return s.ensureDatabase(ctx)
}

// launch starts the server: on the configured port, or on free ones until one
// stays free. The caller holds mu.
func (s *Server) launch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StartTimeout)
	defer cancel()
	if s.port == 0 {
		s.port = s.cfg.Port
	}
	if s.port != 0 {
		return s.launchOn(ctx, s.port)
	}
	var err error
	for range portAttempts {
		var port int
		if port, err = freePort(); err != nil {
			return err
		}
		if err = s.launchOn(ctx, port); err == nil {
			s.port = port
			return nil
		}
		if !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

// launchOn starts the server on the port and waits until it takes connections.
func (s *Server) launchOn(ctx context.Context, port int) error {
	log, err := os.OpenFile(s.home.log(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	start, err := log.Stat()
	if err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(s.bin, "postgres"),
		"-D", s.home.data(),
		"-c", "config_file="+s.home.settings(),
		"-c", "hba_file="+s.home.access(),
		"-c", "listen_addresses=127.0.0.1",
		"-c", "port="+strconv.Itoa(port),
		// No socket file: its path would often be too long (107 bytes at most).
		"-c", "unix_socket_directories=",
	)
	cmd.Dir = s.home.path
	cmd.Env = childEnv(s.home.path)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = childAttr(s.account, s.deathSignal())
	proc, err := startProcess(cmd)
	if err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	if err := s.waitReady(ctx, proc, port); err != nil {
		said := tail(s.home.log(), start.Size())
		err = errors.Join(err, proc.end(syscall.SIGQUIT, quitGrace))
		if portTaken(said) {
			err = errors.Join(errPortTaken, err)
		}
		return fmt.Errorf("starting PostgreSQL on port %d: %w\nits log ends with:\n%s", port, err, said)
	}
	s.proc = proc
	proc.onUnasked(func(err error) {
		s.cfg.Logger.Error("the private PostgreSQL ended by itself", "error", err, "log", s.home.log())
	})
	return nil
}

// deathSignal is what the server gets when this process dies: a kept cluster is
// shut down with a checkpoint, a temporary one simply ended.
func (s *Server) deathSignal() syscall.Signal {
	if s.home.temporary {
		return syscall.SIGQUIT
	}
	return syscall.SIGINT
}

// Stop shuts the server down, breaking off its sessions, and removes a temporary
// directory. Later calls do nothing and return nil.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	s.stopped = true
	var err error
	if s.proc != nil {
		err = s.proc.end(syscall.SIGINT, stopGrace)
	}
	return errors.Join(err, s.home.release())
}

// Kill ends the server at once, as a crash does: no checkpoint, sessions cut off
// in the middle. The directory stays for Restart. It does nothing if the server
// does not run.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return nil
	}
	return s.proc.end(syscall.SIGQUIT, quitGrace)
}

// Restart starts the server again after Kill, on the same port and with the same
// URL, and returns when it has recovered and takes connections. It returns an
// error if the server runs or was stopped.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errors.New("devdb: restart: the server was stopped for good")
	}
	if s.proc != nil && s.proc.running() {
		return errors.New("devdb: restart: the server is running")
	}
	if err := s.launch(ctx); err != nil {
		return fmt.Errorf("devdb: restart: %w", err)
	}
	return nil
}

// URL returns the address of the database posthorn, for the superuser, with the
// password.
func (s *Server) URL() string { return s.URLFor(Database) }

// URLFor returns the address of the named database, for the superuser, with the
// password.
func (s *Server) URLFor(database string) string {
	return s.urlOn(s.port, database)
}

func (s *Server) urlOn(port int, database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, s.password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Bin returns the directory of PostgreSQL's programs. It has postgres and initdb;
// psql may be missing.
func (s *Server) Bin() string { return s.bin }

// Dir returns the directory with the cluster and the server's log.
func (s *Server) Dir() string { return s.home.path }
