package devdb

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sweepStale removes the temporary directories of processes that were killed. A
// directory goes only if it belongs to the current user, has devdb's marker and
// nobody holds the marker's lock. It is a courtesy: what cannot be removed stays.
func sweepStale(ctx context.Context, parents []string) {
	for _, parent := range parents {
		dirs, err := filepath.Glob(filepath.Join(parent, temporaryPrefix+"*"))
		if err != nil {
			continue
		}
		for _, dir := range dirs {
			sweepDir(ctx, dir)
		}
	}
}

func sweepDir(ctx context.Context, dir string) {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || !ownedByUs(info) {
		return
	}
	f, m, err := openMarker(dir)
	if err != nil {
		return
	}
	defer f.Close()
	if !m.Temporary || tryLock(f) != nil {
		return
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil || endOrphan(ctx, filepath.Join(real, "data")) != nil {
		return
	}
	os.RemoveAll(real)
}

// endOrphan ends the server that a killed process left running on the data
// directory, or waits while it is ending already. The caller holds the
// directory's lock, so that nobody uses that server any more.
func endOrphan(ctx context.Context, dataDir string) error {
	pid := postmasterPID(dataDir)
	// The number may have gone to another process since; only a server started on
	// this very directory has its path among the arguments.
	gone := func() bool { return !strings.Contains(commandLine(pid), dataDir) }
	if pid <= 1 || gone() {
		return nil
	}
	proc, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	for _, s := range []struct {
		sig   syscall.Signal
		grace time.Duration
	}{{syscall.SIGINT, stopGrace}, {syscall.SIGQUIT, quitGrace}} {
		if err := proc.Signal(s.sig); err != nil {
			return nil // gone between the two looks
		}
		if pollUntil(ctx, s.grace, gone) {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return fmt.Errorf("the PostgreSQL of an earlier run (process %d) does not end", pid)
}

// postmasterPID returns the process id in the data directory's lock file, or 0.
func postmasterPID(dataDir string) int {
	raw, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return 0
	}
	return pid
}

// pollUntil asks every few milliseconds, for at most the given time, and returns
// whether the answer became true.
func pollUntil(ctx context.Context, limit time.Duration, ok func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
	return true
}
