//go:build !linux && !darwin && !freebsd

package devdb

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// errUnsupported is what Start returns on systems without the means to run a
// server of another user and to tie it to its parent.
var errUnsupported = errors.New("a private PostgreSQL needs Linux, macOS or FreeBSD; set DATABASE_URL to a server of your own")

type account struct{ name string }

func serverAccount(string) (*account, error) { return nil, errUnsupported }

func ownedByUs(fs.FileInfo) bool { return false }

func (a *account) reach(string) error { return errUnsupported }

func (a *account) own(string) error { return errUnsupported }

func childAttr(*account, syscall.Signal) *syscall.SysProcAttr { return nil }

func tryLock(*os.File) error { return errUnsupported }

func killGroup(int) error { return errUnsupported }

func commandLine(int) string { return "" }

func freeBytes(string) uint64 { return 0 }
