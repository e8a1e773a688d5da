package soak

import (
	"runtime"
	"syscall"
)

// diesWithUs has the kernel kill the child when the thread that started it ends,
// so that a run that is killed itself leaves nothing behind.
func diesWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// own starts the process and waits for it on one thread of the operating system,
// which must live as long as the child.
func (l *life) own(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	l.run(started)
}
