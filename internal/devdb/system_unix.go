//go:build linux || darwin || freebsd

package devdb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the operating system user that the server runs as, when that is not
// the current one. A nil *account is the current user.
type account struct {
	name     string
	uid, gid uint32
}

// serverAccount chooses the user to run PostgreSQL as: the owner of the data
// directory if there is one already, else for root postgres or nobody. It returns
// nil when the current user will do.
func serverAccount(dataDir string) (*account, error) {
	var owner *account
	if dataDir != "" {
		info, err := os.Stat(dataDir)
		if err == nil {
			owner = ownerOf(info)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	me := uint32(os.Geteuid())
	switch {
	case owner != nil && owner.uid == me && me != 0:
		return nil, nil
	case owner != nil && me == 0 && owner.uid != 0:
		return owner, nil
	case owner != nil:
		return nil, fmt.Errorf("%s belongs to %s, who must also run it", dataDir, owner.name)
	case me != 0:
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if uidErr == nil && gidErr == nil && uid != 0 {
			return &account{name: name, uid: uint32(uid), gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as")
}

// ownerOf returns the user a file belongs to.
func ownerOf(info fs.FileInfo) *account {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	a := &account{name: fmt.Sprintf("user %d", st.Uid), uid: st.Uid, gid: st.Gid}
	if u, err := user.LookupId(strconv.FormatUint(uint64(st.Uid), 10)); err == nil {
		a.name = u.Username
	}
	return a
}

// ownedByUs reports whether the file belongs to the current user.
func ownedByUs(info fs.FileInfo) bool {
	o := ownerOf(info)
	return o != nil && int(o.uid) == os.Geteuid()
}

// reach returns an error naming the first directory on the way to path, path
// itself included, that the account may not pass through. The path is absolute
// and has no symbolic links.
func (a *account) reach(path string) error {
	if a == nil {
		return nil
	}
	if parent := filepath.Dir(path); parent != path {
		if err := a.reach(parent); err != nil {
			return err
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	pass := fs.FileMode(0o001)
	switch {
	case st.Uid == a.uid:
		pass = 0o100
	case st.Gid == a.gid:
		pass = 0o010
	}
	if info.Mode().Perm()&pass == 0 {
		return fmt.Errorf("PostgreSQL runs as the user %s here, and %s (mode %04o) does not let that user through",
			a.name, path, info.Mode().Perm())
	}
	return nil
}

// own gives the file to the account.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	return os.Chown(path, int(a.uid), int(a.gid))
}

// childAttr returns how PostgreSQL's programs are started: as the account, in a
// process group of their own (else Ctrl-C in a terminal would reach the server
// before its clients have finished), and with the signal to send when the
// process that started them dies.
func childAttr(a *account, death syscall.Signal) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if a != nil {
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid, Groups: []uint32{}}
	}
	setDeathSignal(attr, death)
	return attr
}

// tryLock takes the file's exclusive lock without waiting; the kernel lets go of
// it when the file is closed or its process ends. It returns an error for which
// errors.Is(err, errLocked) is true when another process holds it.
func tryLock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errLocked
	}
	return err
}

// killGroup ends a process and those it started.
func killGroup(pid int) error {
	return syscall.Kill(-pid, syscall.SIGKILL)
}
