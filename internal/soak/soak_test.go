package soak

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestFaults is the short run, with each kind of fault once. SOAK_SEED=… replays
// one; SOAK_DURATION=… makes it the long run, which is make soak.
func TestFaults(t *testing.T) {
	t.Parallel()
	seed, duration := settings(t)
	t.Logf("SOAK_SEED=%d", seed)
	report, err := Run(t.Context(), Config{
		Seed: seed, Duration: duration, Binary: build(t), Env: environment(), Logf: t.Logf,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", report)
	if broken := report.Violated(); broken != "" {
		t.Errorf("replay with SOAK_SEED=%d:\n%s", seed, broken)
	}
}

// settings reads SOAK_SEED and SOAK_DURATION.
func settings(t *testing.T) (seed uint64, duration time.Duration) {
	t.Helper()
	seed = rand.Uint64()
	if text := os.Getenv("SOAK_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("SOAK_SEED: %v", err)
		}
		seed = n
	}
	if text := os.Getenv("SOAK_DURATION"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("SOAK_DURATION: %v", err)
		}
		duration = d
	}
	return seed, duration
}

// build makes the binary, with the race detector if this test has it: then most of
// it is built already.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "posthorn")
	args := []string{"build", "-buildvcs=false", "-o", binary}
	if raceDetector {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, "../../cmd/posthorn")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return binary
}

// environment is this process's, without what would configure Posthorn.
func environment() []string {
	var env []string
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); name != "DATABASE_URL" &&
			!strings.HasPrefix(name, "POSTHORN_") && !strings.HasPrefix(name, "OTEL_") {
			env = append(env, entry)
		}
	}
	return env
}
