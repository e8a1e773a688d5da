//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package interop

import (
	"os"
	"syscall"
)

// lock waits until no other process holds the lock on path, and holds it until
// the returned function is called or this process ends.
func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
		if err != syscall.EINTR { // the Go runtime's own signals interrupt it
			break
		}
	}
	if err != nil {
		file.Close()
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	return func() { file.Close() }, nil // closing releases the lock
}
