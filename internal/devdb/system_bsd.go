//go:build darwin || freebsd

package devdb

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// setDeathSignal does nothing: these systems have no such signal. A server left
// behind by a killed process is ended by the next Start, which cleans up.
func setDeathSignal(*syscall.SysProcAttr, syscall.Signal) {}

// commandLine returns the arguments of a running process, separated by spaces,
// and "" when there is none with that number.
func commandLine(pid int) string {
	out, err := exec.Command("ps", "-ww", "-o", "args=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// freeBytes returns 0: these systems have no file system in memory to ask about.
func freeBytes(string) uint64 { return 0 }
