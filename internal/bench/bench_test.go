package bench

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// TestMain makes the test binary a receiver when it is called as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "bench" && os.Args[2] == "--receiver" {
		if err := Receive(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// The figures are the machine's; that they are figures is the test's business.
func TestRun_MeasuresEverythingOnce(t *testing.T) {
	t.Parallel()
	r, err := Run(t.Context(), Config{Executable: os.Args[0], Events: 150, Endpoints: 2, Rounds: 1, LatencyFor: 200 * time.Millisecond, Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	if r.RawPerSecond <= 0 || r.DeliveriesPerSecond <= 0 || r.Ratio <= 0 || r.RecordedSeconds <= 0 {
		t.Errorf("%+v", r)
	}
	if r.LatencyP50 <= 0 || r.LatencyP99 < r.LatencyP50 || r.LatencyP99 > time.Minute {
		t.Errorf("latencies %s, %s", r.LatencyP50, r.LatencyP99)
	}
	if r.Events != 150 || r.Endpoints != 2 || r.Rounds != 1 {
		t.Errorf("%+v is not what was asked for", r)
	}
}
