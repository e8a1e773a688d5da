package devdb

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// setDeathSignal has the kernel signal the child when the thread that started it
// ends. That thread must therefore live as long as the child: see process.own.
func setDeathSignal(attr *syscall.SysProcAttr, death syscall.Signal) {
	attr.Pdeathsig = death
}

// commandLine returns the arguments of a running process, separated by spaces,
// and "" when there is none with that number or it is a zombie.
func commandLine(pid int) string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(bytes.ReplaceAll(raw, []byte{0}, []byte{' '})))
}

// freeBytes returns the free space of the file system that dir is on, or 0.
func freeBytes(dir string) uint64 {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0
	}
	return st.Bavail * uint64(st.Bsize)
}
