package dispatcher

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func anySchedule(t *rapid.T) []time.Duration {
	return rapid.SliceOfN(rapid.Map(rapid.Int64Range(0, int64(maxScheduleDelay)), func(n int64) time.Duration { return time.Duration(n) }),
		0, maxScheduleLength).Draw(t, "schedule")
}

func anyDraw(t *rapid.T, name string) float64 {
	return rapid.Float64Range(0, math.Nextafter(1, 0)).Draw(t, name)
}

func TestRetryPolicy_DelaysByTheScheduleAndTheJitter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := RetryPolicy{Schedule: anySchedule(t)}
		attempt := rapid.IntRange(-2, len(p.Schedule)+3).Draw(t, "attempt")
		delay, ok := p.Delay(attempt, anyDraw(t, "draw"))
		if want := attempt >= 1 && attempt <= len(p.Schedule); ok != want {
			t.Fatalf("attempt %d of %d: again %t", attempt, p.MaxAttempts(), ok)
		}
		if !ok {
			if delay != 0 {
				t.Fatalf("no retry, and a delay of %s", delay)
			}
			return
		}
		base := float64(p.Schedule[attempt-1])
		if d := float64(delay); d < .8*base-1 || d > 1.2*base+1 {
			t.Fatalf("%s is not within 20 %% of %s", delay, p.Schedule[attempt-1])
		}
	})
}

func TestRetryPolicy_AGreaterDrawNeverWaitsLess(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := RetryPolicy{Schedule: []time.Duration{time.Duration(rapid.Int64Range(0, int64(maxScheduleDelay)).Draw(t, "base"))}}
		a, b := anyDraw(t, "a"), anyDraw(t, "b")
		short, _ := p.Delay(1, min(a, b))
		long, _ := p.Delay(1, max(a, b))
		if short > long {
			t.Fatalf("draws %v and %v give %s and %s", min(a, b), max(a, b), short, long)
		}
	})
}

func TestRetryPolicy_TheDrawUsesTheWholeJitter(t *testing.T) {
	t.Parallel()
	p := RetryPolicy{Schedule: []time.Duration{100 * time.Second}}
	for draw, want := range map[float64]time.Duration{0: 80 * time.Second, .5: 100 * time.Second, 1: 120 * time.Second} {
		if got, _ := p.Delay(1, draw); (got - want).Abs() > time.Microsecond {
			t.Errorf("draw %v: %s, want %s", draw, got, want)
		}
	}
}

func TestRetryPolicy_MaxAttemptsIsWhereDecideGivesUp(t *testing.T) {
	t.Parallel()
	failed := Verdict{Kind: KindHTTPStatus, Message: "no"}
	rapid.Check(t, func(t *rapid.T) {
		p := RetryPolicy{Schedule: anySchedule(t)}
		attempt := rapid.IntRange(1, p.MaxAttempts()+2).Draw(t, "attempt")
		draw := anyDraw(t, "draw")
		if got := decide(Verdict{Delivered: true}, attempt, p, draw); got != (outcome{status: Delivered}) {
			t.Fatalf("a success makes it %+v", got)
		}
		got := decide(failed, attempt, p, draw)
		want := outcome{status: Dead}
		if attempt < p.MaxAttempts() {
			want.status = Retrying
			want.delay, _ = p.Delay(attempt, draw)
		}
		if got != want {
			t.Fatalf("failed attempt %d of %d: %+v, want %+v", attempt, p.MaxAttempts(), got, want)
		}
	})
}

func TestRetryPolicy_TheZeroValueGivesOneAttempt(t *testing.T) {
	t.Parallel()
	var p RetryPolicy
	if _, again := p.Delay(1, 0); again || p.MaxAttempts() != 1 {
		t.Errorf("%d attempts", p.MaxAttempts())
	}
}

func TestParseSchedule_ReadsTheDefault(t *testing.T) {
	t.Parallel()
	got, err := ParseSchedule("5s,5m,30m,2h,5h,10h,14h,20h,24h")
	must(t, err)
	if !slices.Equal(got, DefaultSchedule) {
		t.Errorf("%v, want %v", got, DefaultSchedule)
	}
}

func TestParseSchedule_AcceptsAndRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]time.Duration{
		"":                      {},
		"  ":                    {},
		"0s":                    {0},
		" 1s , 1m30s":           {time.Second, 90 * time.Second},
		"168h":                  {7 * 24 * time.Hour},
		longSchedule("1s", 100): slices.Repeat([]time.Duration{time.Second}, 100),
	} {
		// nil would mean the default schedule to Config.
		if got, err := ParseSchedule(text); err != nil || got == nil || !slices.Equal(got, want) {
			t.Errorf("%.20q: %#v, %v, want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"5":                     `"5" is not a duration`,
		"5s,":                   `"" is not a duration`,
		"5s,,5s":                `"" is not a duration`,
		"5s;5m":                 `"5s;5m" is not a duration`,
		"5 minutes":             `"5 minutes" is not a duration`,
		"-1s":                   `"-1s" is not between 0s and`,
		"168h0m1s":              `"168h0m1s" is not between 0s and`,
		longSchedule("1s", 101): "the schedule has 101 delays, the limit is 100",
	} {
		if got, err := ParseSchedule(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, %v, want %q", text, got, err, want)
		}
	}
}

func longSchedule(delay string, n int) string {
	return strings.Join(slices.Repeat([]string{delay}, n), ",")
}
