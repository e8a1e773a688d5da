package bench

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc: USER_HZ is 100 wherever Go runs.
const tick = 10 * time.Millisecond

// The fields of /proc/PID/stat after the name, whose own spaces and brackets would
// shift them: proc(5) numbers them from 3.
const (
	statParent = 4 - 3
	statUser   = 14 - 3
	statSystem = 15 - 3
	// Of children that have ended and been waited for, and of theirs.
	statEndedUser   = 16 - 3
	statEndedSystem = 17 - 3
)

func statFields(pid string) ([]string, bool) {
	text, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return nil, false
	}
	end := bytes.LastIndexByte(text, ')')
	fields := strings.Fields(string(text[end+1:]))
	return fields, len(fields) > statEndedSystem
}

// ticks adds up fields that are times.
func ticks(fields []string, which ...int) time.Duration {
	var sum time.Duration
	for _, i := range which {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			continue // the kernel writes numbers
		}
		sum += time.Duration(n) * tick
	}
	return sum
}

// processTime is the CPU time of a process.
func processTime(pid int) (time.Duration, bool) {
	fields, ok := statFields(strconv.Itoa(pid))
	if !ok {
		return 0, false
	}
	return ticks(fields, statUser, statSystem), true
}

// familyTime is the CPU time of a process and of all its children, those that have
// ended included: PostgreSQL has a process for each connection.
func familyTime(pid int) (time.Duration, bool) {
	parent := strconv.Itoa(pid)
	fields, ok := statFields(parent)
	if !ok {
		return 0, false
	}
	sum := ticks(fields, statUser, statSystem, statEndedUser, statEndedSystem)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, false
	}
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err != nil {
			continue
		}
		if child, ok := statFields(entry.Name()); ok && child[statParent] == parent {
			sum += ticks(child, statUser, statSystem, statEndedUser, statEndedSystem)
		}
	}
	return sum, true
}

// parentOf is the process that started another.
func parentOf(pid int) (int, bool) {
	fields, ok := statFields(strconv.Itoa(pid))
	if !ok {
		return 0, false
	}
	parent, err := strconv.Atoi(fields[statParent])
	return parent, err == nil
}

// memory is what a process has in memory now, in bytes, and peakMemory the most that
// it ever had.
func memory(pid int) (int64, bool)     { return statusBytes(pid, "VmRSS:") }
func peakMemory(pid int) (int64, bool) { return statusBytes(pid, "VmHWM:") }

func statusBytes(pid int, name string) (int64, bool) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, false
	}
	_, rest, found := strings.Cut(string(text), "\n"+name)
	fields := strings.Fields(rest)
	if !found || len(fields) == 0 {
		return 0, false
	}
	kilobytes, err := strconv.ParseInt(fields[0], 10, 64)
	return kilobytes << 10, err == nil
}
