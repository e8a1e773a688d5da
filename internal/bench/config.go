package bench

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Config says what to measure, and how much of it. Zero values mean the defaults
// beside them; the second ones are Quick's.
type Config struct {
	// Executable is the program that `<Executable> bench --role ROLE` makes a
	// receiver, a sender or a naive sender of: see Receive, Send and SendNaively.
	Executable string

	// DatabaseURL is an empty database to measure on. The benchmark leaves it empty.
	// Empty string: a private PostgreSQL.
	DatabaseURL string

	// Only are the sections to run, of Sections. Nil: all.
	Only []string

	// Quick measures less of everything, for a look in about three minutes.
	Quick bool

	// Events is how many deliveries of 1 KB wait at the start of a drain; the naive
	// design gets one in 25. Default: 50,000; 20,000.
	Events int

	// Endpoints is how many endpoints the case of many has. Default: 1,000; 1,000.
	Endpoints int

	// Rounds is how often the cases take turns. Default: 5; 2.
	Rounds int

	// LatencyFor is how long events are published at each rate; a quarter of it in each
	// turn beside what is stored. Default: 10 s; 4 s.
	LatencyFor time.Duration

	// IsolationFor is how long each case of isolation lasts. Default: 20 s; 5 s.
	IsolationFor time.Duration

	// Case leaves of the cases of isolation those whose names hold it. Empty: all.
	Case string

	// ProducerFor is how long each of the ten turns of the producers is, for each
	// number of connections. Default: 2 s; 500 ms.
	ProducerFor time.Duration

	// Backlog is how many events the large backlog has. Default: 1,000,000; 100,000.
	Backlog int

	// Stored is how many deliveries are stored beside which others are sent. Default:
	// 1,000,000; 100,000.
	Stored int

	// IdleFor is how long the idle processes are watched. Default: 10 s; 4 s.
	IdleFor time.Duration

	// Progress takes a line now and then. Nil discards them.
	Progress io.Writer

	// Logger hears of the private PostgreSQL. Nil discards it.
	Logger *slog.Logger
}

// withDefaults fills the gaps and refuses sections that there are not.
func (c Config) withDefaults() (Config, error) {
	names := Sections()
	for _, name := range c.Only {
		if !slices.Contains(names, name) {
			return c, fmt.Errorf("bench: there is no section %q, but %s", name, strings.Join(names, ", "))
		}
	}
	choose(c.Quick, &c.Events, 50_000, 20_000)
	choose(c.Quick, &c.Endpoints, 1000, 1000)
	choose(c.Quick, &c.Rounds, 5, 2)
	choose(c.Quick, &c.LatencyFor, 10*time.Second, 4*time.Second)
	choose(c.Quick, &c.IsolationFor, 20*time.Second, 5*time.Second)
	choose(c.Quick, &c.ProducerFor, 2*time.Second, 500*time.Millisecond)
	choose(c.Quick, &c.Backlog, 1_000_000, 100_000)
	choose(c.Quick, &c.Stored, 1_000_000, 100_000)
	choose(c.Quick, &c.IdleFor, 10*time.Second, 4*time.Second)
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func choose[T comparable](quick bool, field *T, usual, less T) {
	var zero T
	if *field != zero {
		return
	}
	*field = usual
	if quick {
		*field = less
	}
}
