package dispatcher

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter bounds how long a receiver can hold its endpoint back with one
// answer, whatever it asks for.
const maxRetryAfter = 24 * time.Hour

// retryAfter is how long the receiver asks not to be sent to. Only 429 and 503
// say so: on other answers the header means something else or nothing. The
// duration is within (0, maxRetryAfter] when ok, and longer wishes are cut to it.
//
// RFC 9110 allows whole seconds and three forms of dates. A date counts from our
// own clock, not from the answer's Date: a receiver whose clock is wrong is then
// off by its error and no more, and one clock rules all waiting. What is not in
// these forms, asks for no time at all, or stands on several lines is no wish
// that could be kept: the retry schedule goes on alone.
func retryAfter(status int, header http.Header, now time.Time) (wait time.Duration, ok bool) {
	if status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
		return 0, false
	}
	lines := header["Retry-After"]
	if len(lines) != 1 {
		return 0, false
	}
	value := strings.Trim(lines[0], " \t")
	if value != "" && strings.Trim(value, "0123456789") == "" {
		wait = wholeSeconds(value)
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now) // saturates
	}
	wait = min(wait, maxRetryAfter)
	return max(wait, 0), wait > 0
}

// wholeSeconds reads digits; more of them than a number holds are many seconds.
func wholeSeconds(digits string) time.Duration {
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n > uint64(maxRetryAfter/time.Second) {
		return maxRetryAfter
	}
	return time.Duration(n) * time.Second
}
