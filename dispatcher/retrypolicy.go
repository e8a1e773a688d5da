package dispatcher

import (
	"fmt"
	"strings"
	"time"
)

// DefaultSchedule is the wait before each attempt after the first: ten attempts
// over about three days.
var DefaultSchedule = []time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
	10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// Jitter is how far a delay may lie from the schedule's, as a part of it, so
// that what failed together does not come back together.
const Jitter = 0.2

// RetryPolicy says when a failed delivery is attempted again. The zero value
// gives one attempt and no retry.
type RetryPolicy struct {
	// Schedule[i] is the wait after failed attempt i+1.
	Schedule []time.Duration
}

// MaxAttempts is how many attempts a delivery gets: the schedule's length + 1.
func (p RetryPolicy) MaxAttempts() int { return len(p.Schedule) + 1 }

// Delay is the wait after the given failed attempt, counted from 1 since the
// schedule began; ok is false when it was the last. The draw, uniform in [0,1),
// spreads the delay over ±Jitter.
func (p RetryPolicy) Delay(attempt int, draw float64) (delay time.Duration, ok bool) {
	if attempt < 1 || attempt > len(p.Schedule) {
		return 0, false
	}
	base := float64(p.Schedule[attempt-1])
	return time.Duration(base * (1 - Jitter + 2*Jitter*draw)), true
}

// The bounds of a schedule that ParseSchedule accepts.
const (
	maxScheduleLength = 100
	maxScheduleDelay  = 7 * 24 * time.Hour
)

// ParseSchedule reads a schedule such as "5s,5m,30m"; the empty text is the
// empty schedule, without retries; it is never nil.
func ParseSchedule(s string) ([]time.Duration, error) {
	if strings.TrimSpace(s) == "" {
		return []time.Duration{}, nil
	}
	var schedule []time.Duration
	for part := range strings.SplitSeq(s, ",") {
		d, err := time.ParseDuration(strings.TrimSpace(part))
		switch {
		case err != nil:
			return nil, fmt.Errorf("%q is not a duration such as 5s, 30m or 2h", part)
		case d < 0 || d > maxScheduleDelay:
			return nil, fmt.Errorf("%q is not between 0s and %s", part, maxScheduleDelay)
		}
		schedule = append(schedule, d)
	}
	if len(schedule) > maxScheduleLength {
		return nil, fmt.Errorf("the schedule has %d delays, the limit is %d", len(schedule), maxScheduleLength)
	}
	return schedule, nil
}
