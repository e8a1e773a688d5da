package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/posthorn/posthorn/dispatcher"
)

// databaseFlags name the database.
type databaseFlags struct {
	DatabaseURL string `env:"DATABASE_URL" placeholder:"URL" help:"PostgreSQL, such as postgres://user:password@host:5432/posthorn. Use the variable: other users can see a command line."`
}

// require returns the URL, or an error when there is none.
func (f databaseFlags) require() (string, error) {
	if f.DatabaseURL == "" {
		return "", errors.New("DATABASE_URL is not set: it names the PostgreSQL database, such as postgres://user:password@host:5432/posthorn")
	}
	return f.DatabaseURL, nil
}

// serviceFlags are what serve and dev have in common. Where their defaults differ
// the commands' own tags say so.
type serviceFlags struct {
	databaseFlags

	Addr                 string         `env:"POSTHORN_ADDR" placeholder:"ADDR" help:"Address that the API listens at. Default: :8080; in dev 127.0.0.1:8080 or the next free port."`
	OperatorKey          secret         `env:"POSTHORN_OPERATOR_KEY" placeholder:"KEY" help:"An operator's API key, accepted as given, to begin with. Default: none; in dev a random one. Use the variable."`
	EncryptionKeyset     secret         `env:"POSTHORN_ENCRYPTION_KEYSET" placeholder:"JSON" help:"Keyset that encrypts the secrets at rest, of posthorn keyset create. Default: one that is kept in the database, beside what it encrypts. Use the variable."`
	AllowPrivateNetworks networks       `env:"POSTHORN_ALLOW_PRIVATE_NETWORKS" placeholder:"CIDR" help:"Networks off the public internet that endpoints may be in, such as 10.1.0.0/16. Default: none; in dev always the loopback addresses."`
	RetrySchedule        retrySchedule  `env:"POSTHORN_RETRY_SCHEDULE" default:"${default_schedule}" help:"Wait before each attempt after the first, in ms, s, m or h, ±20 %; none: no retries."`
	Retention            retention      `env:"POSTHORN_RETENTION" default:"720h" help:"How long finished events, deliveries and attempts are kept, in h, by whole days (UTC); at least 1h."`
	AttemptTimeout       attemptTimeout `env:"POSTHORN_ATTEMPT_TIMEOUT" default:"15s" help:"Limit on one attempt as a whole, in ms, s or m."`
	BreakerFailures      count          `env:"POSTHORN_BREAKER_FAILURES" default:"${default_breaker}" help:"Failed attempts in a row, over 5 s at least, after which an endpoint is left alone and probed; 0: never."`
	DisableAfter         disableAfter   `env:"POSTHORN_DISABLE_AFTER" default:"120h" help:"How long an endpoint may only fail, and 10 times at least, before it is disabled, in m or h; never: it is not."`
	DrainRate            positive       `env:"POSTHORN_DRAIN_RATE" default:"100" help:"Held deliveries of a resumed endpoint that are sent in a second, at most."`
}

// operatorKey checks that the key can be sent in a header.
func (f serviceFlags) operatorKey() (string, error) {
	key := string(f.OperatorKey)
	if strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", errors.New("POSTHORN_OPERATOR_KEY holds white space or a character beyond ASCII; no request could present it")
	}
	return key, nil
}

// secret is a flag's text that errors and logs must not show.
type secret string

// String implements fmt.Stringer.
func (secret) String() string { return "[secret]" }

// networks are address ranges, separated by commas.
type networks []netip.Prefix

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *networks) UnmarshalText(text []byte) error {
	*n = nil
	for part := range strings.SplitSeq(string(text), ",") {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(part))
		switch {
		case err != nil:
			return fmt.Errorf("%q is not a network such as 10.1.0.0/16", part)
		case prefix != prefix.Masked():
			// More likely a slip than a wish: 10.1.2.3/8 would open all of 10.
			return fmt.Errorf("%q names an address in a network; the network is %s", part, prefix.Masked())
		}
		*n = append(*n, prefix)
	}
	return nil
}

// retrySchedule is as in dispatcher.RetryPolicy; never nil once read.
type retrySchedule []time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *retrySchedule) UnmarshalText(text []byte) error {
	*s = retrySchedule{}
	if string(text) == "none" {
		return nil
	}
	schedule, err := dispatcher.ParseSchedule(string(text))
	if err != nil {
		return err
	}
	*s = append(*s, schedule...)
	return nil
}

// zeros are what Go writes after a unit when there is nothing more.
var zeros = map[string]string{"m": "0s", "h": "0m"}

// String implements fmt.Stringer, in the form that UnmarshalText reads.
func (s retrySchedule) String() string {
	if len(s) == 0 {
		return "none"
	}
	parts := make([]string, len(s))
	for i, d := range s {
		parts[i] = d.String()
		// 5m0s and 2h0m0s, as Go writes them, are nobody's way to say it.
		for _, unit := range []string{"m", "h"} {
			if short, ok := strings.CutSuffix(parts[i], unit+zeros[unit]); ok {
				parts[i] = short + unit
			}
		}
	}
	return strings.Join(parts, ",")
}

// attemptTimeout is a duration within what makes sense for one attempt.
type attemptTimeout time.Duration

const (
	shortestAttempt = 10 * time.Millisecond
	longestAttempt  = 10 * time.Minute
)

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *attemptTimeout) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a duration such as 15s", text)
	case d < shortestAttempt || d > longestAttempt:
		return fmt.Errorf("%s is not between %s and %s", d, shortestAttempt, longestAttempt)
	}
	*t = attemptTimeout(d)
	return nil
}

// lease is how long the dispatcher's chunks stay with a process; 0: as long as
// attemptTimeout.lease says.
type lease time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *lease) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a duration such as 30s", text)
	case d < time.Second:
		return fmt.Errorf("%s is less than 1s", d)
	}
	*l = lease(d)
	return nil
}

// orFor is the lease that was asked for, or the one for attempts with this limit.
func (l lease) orFor(t attemptTimeout) (time.Duration, error) {
	switch {
	case l == 0:
		return t.lease(), nil
	case time.Duration(l) <= time.Duration(t):
		return 0, fmt.Errorf("--lease: %s is not longer than an attempt of %s (POSTHORN_ATTEMPT_TIMEOUT)", time.Duration(l), time.Duration(t))
	}
	return time.Duration(l), nil
}

// retention is a duration of at least an hour.
type retention time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *retention) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a duration such as 720h", text)
	case d < time.Hour:
		return fmt.Errorf("%s is less than 1h", d)
	}
	*r = retention(d)
	return nil
}

// leaseMargin is by how much a lease outlasts an attempt: the time to load the
// chunk before and to record the result after.
const leaseMargin = 15 * time.Second

// lease is the dispatcher's for this timeout, and at least its default.
func (t attemptTimeout) lease() time.Duration {
	return max(30*time.Second, time.Duration(t)+leaseMargin)
}

// count is a number of things.
type count int

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *count) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 0 || n > 1_000_000 {
		return fmt.Errorf("%q is not a whole number from 0 to 1000000", text)
	}
	*c = count(n)
	return nil
}

// positive is a count of at least one.
type positive int

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *positive) UnmarshalText(text []byte) error {
	var c count
	if err := c.UnmarshalText(text); err != nil || c == 0 {
		return fmt.Errorf("%q is not a whole number from 1 to 1000000", text)
	}
	*p = positive(c)
	return nil
}

// disableAfter is a duration, or never as a negative one.
type disableAfter time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *disableAfter) UnmarshalText(text []byte) error {
	if string(text) == "never" {
		*d = -1
		return nil
	}
	duration, err := time.ParseDuration(string(text))
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a duration such as 120h, nor never", text)
	case duration < time.Minute:
		return fmt.Errorf("%s is less than 1m", duration)
	}
	*d = disableAfter(duration)
	return nil
}

// faults are what the dispatcher is told about endpoints that fail.
func (f serviceFlags) faults() faultConfig {
	c := faultConfig{breakerFailures: int(f.BreakerFailures), disableAfter: time.Duration(f.DisableAfter), drainRate: int(f.DrainRate)}
	if c.breakerFailures == 0 {
		c.breakerFailures = -1
	}
	return c
}
