package main

import (
	"os"

	"github.com/posthorn/posthorn/internal/collector"
)

// relaxCollector has the garbage collector run less often, as long as that costs
// little memory. A GOGC in the environment stands.
func relaxCollector() {
	if os.Getenv("GOGC") == "" {
		collector.Relax()
	}
}
