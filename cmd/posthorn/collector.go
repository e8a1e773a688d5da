package main

import (
	"os"
	"runtime/debug"
)

// relaxedPercent is how much the heap may grow between garbage collections, in
// per cent of what is live.
const relaxedPercent = 300

// relaxCollector has the garbage collector run less often: little of what a
// delivery needs outlives it, so the heap is small and mostly garbage, and Go's
// default of 100 per cent would collect it dozens of times a second under load.
// A GOGC in the environment stands.
func relaxCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(relaxedPercent)
	}
}
