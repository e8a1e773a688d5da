package bench

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// POSTHORN_BENCH_STORED makes it the real measurement, of so many deliveries.
func TestRunStored_ComparesFullWithEmpty(t *testing.T) {
	t.Parallel()
	stored, c := 2000, Config{Executable: os.Args[0], Events: 100, Rounds: 1, LatencyFor: 200 * time.Millisecond, Progress: t.Output()}
	if text := os.Getenv("POSTHORN_BENCH_STORED"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		stored, c.Events, c.Rounds, c.LatencyFor = n, 20_000, 3, 4*time.Second
	}
	s, err := RunStored(t.Context(), c, stored)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", s)
	if s.Throughput <= 0 || s.EmptyP50 <= 0 || s.FullP99 < s.FullP50 || len(s.Lists) < 10 {
		t.Errorf("%+v is not measured", s)
	}
}
