// Package collector sets how often the garbage collector runs.
//
// Little of what a delivery needs outlives it, so the heap is small and mostly
// garbage, and Go's default of 100 per cent would collect it dozens of times a
// second under load. But a fixed higher percentage multiplies what is live: when
// a thousand receivers hang, or dead ones fill the process with what waits, the
// garbage would grow with it. So the percentage falls as the heap grows.
package collector

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// A small heap may grow by this much between collections, in per cent …
	relaxedPercent = 300
	// … and any by this many bytes …
	maxGarbage = 32 << 20
	// … or by this much, where that is more: a large heap takes long to look at.
	leastPercent = 50
)

// Relax has the collector run less often while the heap is small, from now on. It
// is for main, once.
func Relax() { adjust(&cycle{set: debug.SetGCPercent}) }

// cycle becomes garbage with every collection, which tells of the collection.
type cycle struct {
	percent int
	set     func(int) int
}

// adjust sets the percentage, and does so again after the next collection.
func adjust(c *cycle) {
	if p := percent(reachable()); p != c.percent {
		c.percent = p
		c.set(p)
	}
	runtime.SetFinalizer(c, adjust)
}

// percent is how much garbage may come to so many bytes that are not.
func percent(reachable uint64) int {
	return int(min(max(maxGarbage*100/max(reachable, 1), leastPercent), relaxedPercent))
}

// reachable is what the collector has to look at, to which the percentage refers:
// the heap that survived the last collection, stacks and global variables.
func reachable() (bytes uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	for _, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			bytes += s.Value.Uint64()
		}
	}
	return bytes
}
