//go:build !race

package dispatcher

// raceDetector is whether this test binary carries the race detector.
const raceDetector = false
