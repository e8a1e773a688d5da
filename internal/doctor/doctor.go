// Package doctor examines a Posthorn database: what is broken, what is about to
// break, and what to do about it. It only reads, and shows neither secrets nor
// payloads.
package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/dispatcher"
)

// State is what came of a check.
type State string

// The states.
const (
	// OK needs nothing to be done.
	OK State = "ok"
	// Warning should be looked at; everything is sent all the same, or waits for a
	// person.
	Warning State = "warn"
	// Failure is wrong now.
	Failure State = "fail"
)

// Check is one thing that was looked at.
type Check struct {
	// Name is short and stays the same from version to version.
	Name string `json:"name"`
	// State says whether it is as it should be.
	State State `json:"state"`
	// Message says what was found, and what to do if anything is.
	Message string `json:"message"`
	// Details are what the message sums up, one a line; often none.
	Details []string `json:"details,omitempty"`
}

// Options say how closely to look.
type Options struct {
	// Deep has every stored event and delivery read and accounted for. Default false.
	Deep bool
}

// patient is the database, and what a check has found out for a later one.
type patient struct {
	pool   *pgxpool.Pool
	ledger *dispatcher.Ledger
}

// A checkFunc sets the check's result; an error it returns becomes one.
type checkFunc func(context.Context, *patient, *Check) error

// checks are all of them, in the order in which they are shown.
var checks = []struct {
	name  string
	check checkFunc
}{
	{"keyset", keyset},
	{"partitions", partitions},
	{"retention", retention},
	{"nodes", nodes},
	{"ledger", ledger},
	{"audit", audit},
	{"sweep", sweep},
	{"routing", routing},
	{"jobs", jobs},
	{"oldest unsent", oldestUnsent},
	{"backlog", backlog},
	{"breakers", breakers},
	{"held", held},
	{"dead letters", deadLetters},
}

// checkTimeout bounds one check, but for the deep one.
const checkTimeout = time.Minute

// Examine makes every check. Where the database or its migrations are not in order
// it makes no further ones.
func Examine(ctx context.Context, pool *pgxpool.Pool, o Options) []Check {
	p := &patient{pool: pool}
	done := []Check{run(ctx, p, "database", database)}
	if done[0].State == OK {
		done = append(done, run(ctx, p, "migrations", migrated))
	}
	if done[len(done)-1].State != OK {
		return done
	}
	for _, c := range checks {
		done = append(done, run(ctx, p, c.name, c.check))
	}
	if o.Deep {
		c := Check{Name: "deep ledger", State: OK}
		c.failedBy(deepLedger(ctx, p, &c))
		done = append(done, c)
	}
	return done
}

// Failures counts the checks that have failed.
func Failures(checks []Check) (n int) {
	for _, c := range checks {
		if c.State == Failure {
			n++
		}
	}
	return n
}

func run(ctx context.Context, p *patient, name string, check checkFunc) Check {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	c := Check{Name: name, State: OK}
	c.failedBy(check(ctx, p, &c))
	return c
}

// failedBy makes an error the check's result.
func (c *Check) failedBy(err error) {
	if err != nil {
		c.is(Failure, "This could not be examined: %v.", err)
	}
}

// is sets the result.
func (c *Check) is(s State, format string, args ...any) {
	c.State, c.Message = s, fmt.Sprintf(format, args...)
}

// detail adds a line.
func (c *Check) detail(format string, args ...any) {
	c.Details = append(c.Details, fmt.Sprintf(format, args...))
}

// show is a duration for people.
func show(d time.Duration) string {
	switch {
	case d < time.Second:
		return max(d.Round(time.Millisecond), time.Millisecond).String()
	case d < 2*time.Hour:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	default:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
}

// several is a number and its noun.
func several(n int64, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "delivery"):
		return fmt.Sprintf("%d %sies", n, strings.TrimSuffix(noun, "y"))
	default:
		return fmt.Sprintf("%d %ss", n, noun)
	}
}
