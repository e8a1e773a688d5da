package devdb

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// ErrForeignDir is returned by Start for a directory that has content devdb did
// not put there. Nothing in it was touched.
var ErrForeignDir = errors.New("the directory is not empty and was not made by posthorn")

// ErrDirInUse is returned by Start for a directory whose server another process
// is running.
var ErrDirInUse = errors.New("the directory's PostgreSQL is in use by another process")

// errLocked is tryLock's error for a file that another process has locked.
var errLocked = errors.New("locked by another process")

const (
	// markerName is the file that tells devdb's directories from all others.
	markerName = "posthorn-devdb.json"
	// markerProgram is in every marker.
	markerProgram = "posthorn-devdb"
	// temporaryPrefix begins the names of temporary directories.
	temporaryPrefix = "posthorn-pg-"
)

// marker is the content of the marker file. Its owner holds the file's lock for
// as long as it lives, which is what shows others that it does; the process id is
// for people.
type marker struct {
	Program   string    `json:"program"`
	PID       int       `json:"pid"`
	Temporary bool      `json:"temporary"`
	StartedAt time.Time `json:"started_at"`
}

// home is a directory that this process has claimed. It belongs to the current
// user; only the data directory in it belongs to the server's account.
type home struct {
	path      string // absolute, without symbolic links
	temporary bool   // made by this process, to be removed
	lock      *os.File
}

func (h *home) data() string     { return filepath.Join(h.path, "data") }
func (h *home) log() string      { return filepath.Join(h.path, "postgres.log") }
func (h *home) settings() string { return filepath.Join(h.path, "postgresql.conf") }
func (h *home) access() string   { return filepath.Join(h.path, "pg_hba.conf") }
func (h *home) password() string { return filepath.Join(h.path, "password") }

// claimTemporary makes a new directory that the account can reach, in the first of
// the parents that allows it.
func claimTemporary(parents []string, a *account) (*home, error) {
	var refused []error
	for _, parent := range parents {
		real, err := filepath.EvalSymlinks(parent)
		if err == nil {
			err = a.reach(real)
		}
		if err != nil {
			refused = append(refused, err)
			continue
		}
		dir, err := os.MkdirTemp(real, temporaryPrefix)
		if err != nil {
			refused = append(refused, err)
			continue
		}
		h := &home{path: dir, temporary: true}
		if err := errors.Join(h.admit(a), h.createMarker()); err != nil {
			return nil, errors.Join(err, h.release())
		}
		return h, nil
	}
	return nil, fmt.Errorf("no place for a temporary PostgreSQL: %w", errors.Join(refused...))
}

// temporaryParents lists where temporary directories are made, best first. TMPDIR
// may well be closed to the server's account when root started it.
func temporaryParents() []string {
	parents := []string{os.TempDir()}
	if os.Geteuid() == 0 {
		parents = append(parents, "/tmp", "/var/tmp", "/var/lib")
	}
	return parents
}

const (
	// memoryDir is where Linux keeps a file system in memory.
	memoryDir = "/dev/shm"
	// memoryNeeded is how much must be free there, in bytes. Containers often have
	// but 64 MiB.
	memoryNeeded = 4 << 30
)

// claimNamed makes the directory, or takes over one that devdb made before, and
// returns it with the account that must run its server.
func claimNamed(dir string) (*home, *account, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, nil, err
	}
	h := &home{path: real}
	fresh, err := h.inspect()
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", dir, err)
	}
	a, err := serverAccount(h.data())
	if err != nil {
		return nil, nil, err
	}
	if err := a.reach(filepath.Dir(real)); err != nil {
		return nil, nil, fmt.Errorf("%s cannot hold a PostgreSQL: %w; choose a directory elsewhere, such as below /var/lib", dir, err)
	}
	if fresh {
		err = h.createMarker()
	} else {
		err = h.takeMarker()
	}
	if err == nil {
		err = h.admit(a)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%s: %w", dir, err), h.release())
	}
	return h, a, nil
}

// inspect reports whether the directory is empty. For one that is neither that nor
// devdb's it returns ErrForeignDir.
func (h *home) inspect() (fresh bool, err error) {
	entries, err := os.ReadDir(h.path)
	if err != nil {
		return false, err
	}
	if len(entries) == 0 {
		return true, nil
	}
	f, _, err := openMarker(h.path)
	if err != nil {
		return false, err
	}
	return false, f.Close()
}

// admit closes the directory to others, but for the passage to the data directory
// that the account needs.
func (h *home) admit(a *account) error {
	if a == nil {
		return os.Chmod(h.path, 0o700)
	}
	return os.Chmod(h.path, 0o711)
}

// createMarker writes and locks the marker of a new directory. It is locked before
// it has content, and one without content is nobody's to clean up.
func (h *home) createMarker() error {
	f, err := os.OpenFile(filepath.Join(h.path, markerName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := lockMarker(f); err != nil {
		return err
	}
	h.lock = f
	return h.writeMarker()
}

// takeMarker locks the marker of a directory made before and puts this process's
// id into it.
func (h *home) takeMarker() error {
	f, m, err := openMarker(h.path)
	if err != nil {
		return err
	}
	if err := lockMarker(f); err != nil {
		return fmt.Errorf("%w (process %d)", err, m.PID)
	}
	h.lock = f
	return h.writeMarker()
}

// openMarker opens and reads a directory's marker. The error is ErrForeignDir when
// there is none.
func openMarker(dir string) (*os.File, marker, error) {
	name := filepath.Join(dir, markerName)
	info, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil, marker{}, ErrForeignDir
	}
	if err != nil {
		return nil, marker{}, err
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, marker{}, err
	}
	var m marker
	if err := json.NewDecoder(f).Decode(&m); err != nil || m.Program != markerProgram {
		f.Close()
		return nil, marker{}, ErrForeignDir
	}
	return f, m, nil
}

// lockMarker locks the marker, or closes it and returns ErrDirInUse.
func lockMarker(f *os.File) error {
	err := tryLock(f)
	if err == nil {
		return nil
	}
	f.Close()
	if errors.Is(err, errLocked) {
		return ErrDirInUse
	}
	return err
}

func (h *home) writeMarker() error {
	text, err := json.Marshal(marker{
		Program: markerProgram, PID: os.Getpid(), Temporary: h.temporary, StartedAt: time.Now().UTC(),
	})
	if err != nil {
		return err
	}
	if err := h.lock.Truncate(0); err != nil {
		return err
	}
	_, err = h.lock.WriteAt(append(text, '\n'), 0)
	return err
}

// release gives the directory up, and removes it if it is temporary.
func (h *home) release() error {
	var err error
	if h.temporary {
		err = os.RemoveAll(h.path)
	}
	if h.lock != nil {
		err = errors.Join(err, h.lock.Close())
		h.lock = nil
	}
	return err
}
