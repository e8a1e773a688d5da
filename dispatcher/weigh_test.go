package dispatcher

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// weight is what a process takes, in bytes.
type weight struct {
	Heap  uint64 // allocated, what is garbage but not collected yet included
	Stack uint64 // of all goroutines
	RSS   uint64 // what the kernel gave it, all in all
}

// weights are of a node that has just started, that has served a thousand
// well-behaved receivers at once, and at the worst moment after; each part of it
// for itself.
type weights struct{ Idle, Warm, Worst weight }

// weighProcess has this process weigh itself at the first and at the second
// SIGUSR1, to which it answers with a line on its standard output, and all the
// time from the second on. What it returns writes the weights there.
func weighProcess() (report func()) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	end, ended := make(chan struct{}), make(chan struct{})
	var w weights
	go func() {
		defer close(ended)
		for _, into := range []*weight{&w.Idle, &w.Warm} {
			select {
			case <-asked:
				*into = weighNow("VmRSS")
				fmt.Println("weighed")
			case <-end:
				return
			}
		}
		os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) //nolint:errcheck // resets the peak; without it the test is stricter
		w.Worst = watchWorst(end)
	}()
	return func() {
		close(end)
		<-ended
		json.NewEncoder(os.Stdout).Encode(w) //nolint:errcheck // the test misses it then
	}
}

// heapProfileEnv names a file for the heap's profile of the worst moment.
const heapProfileEnv = "POSTHORN_TEST_HEAP_PROFILE"

// watchWorst weighs until the end. The kernel keeps the peak of the RSS itself.
func watchWorst(end <-chan struct{}) (worst weight) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		now := weighNow("VmHWM")
		if file := os.Getenv(heapProfileEnv); file != "" && now.Heap > worst.Heap+1<<20 {
			profileHeap(file)
		}
		worst = weight{max(worst.Heap, now.Heap), max(worst.Stack, now.Stack), max(worst.RSS, now.RSS)}
		select {
		case <-tick.C:
		case <-end:
			return worst
		}
	}
}

// weighNow takes the RSS as the kernel names it: VmRSS, or its peak VmHWM.
func weighNow(name string) weight {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	w := weight{Heap: m.HeapAlloc, Stack: m.StackInuse}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return w // not Linux
	}
	_, after, _ := strings.Cut(string(status), name+":")
	if fields := strings.Fields(after); len(fields) > 0 {
		kilobytes, _ := strconv.ParseUint(fields[0], 10, 64)
		w.RSS = kilobytes << 10
	}
	return w
}

func profileHeap(path string) {
	f, err := os.Create(path)
	if err != nil {
		return
	}
	defer f.Close()
	pprof.Lookup("heap").WriteTo(f, 0) //nolint:errcheck // for a person who looks at it
}
