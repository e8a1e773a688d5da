//go:build !linux

package bench

import "time"

// Elsewhere than on Linux nothing is known of other processes without cgo.
func processTime(int) (time.Duration, bool) { return 0, false }
func familyTime(int) (time.Duration, bool)  { return 0, false }
func parentOf(int) (int, bool)              { return 0, false }
func memory(int) (int64, bool)              { return 0, false }
func peakMemory(int) (int64, bool)          { return 0, false }
