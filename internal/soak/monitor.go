package soak

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// monitor looks at the deliveries and at the ledger while everything is running. It
// is one goroutine.
type monitor struct {
	url      string
	client   *client
	interval time.Duration

	finished map[string]Sighting // the first of each, in a terminal state
	underway map[string]Sighting // the last of each, before that
	since    time.Time
	ledgers  []Ledger
}

const (
	finishedSQL = `SELECT id::text, status, attempts, finished_at FROM posthorn.deliveries WHERE finished_at > $1`
	underwaySQL = `SELECT id::text, status, attempts FROM posthorn.deliveries
		WHERE attempts > 0 AND status IN ('pending', 'retrying', 'held')`
)

func newMonitor(url string, client *client, interval time.Duration) *monitor {
	return &monitor{url: url, client: client, interval: interval, finished: map[string]Sighting{}, underway: map[string]Sighting{}}
}

// run looks until ctx is done. What can't be seen, because the database or a
// process is away, is not seen.
func (m *monitor) run(ctx context.Context) {
	for turn := 0; ctx.Err() == nil; turn++ {
		m.look(ctx)
		// The ledger counts everything there is: less often, the more there is.
		if turn%max(1, len(m.finished)/2000) == 0 {
			if l, err := m.client.ledger(ctx, m.client.nodes[turn%len(m.client.nodes)].url()); err == nil {
				m.ledgers = append(m.ledgers, l)
			}
		}
		pause(ctx, m.interval)
	}
}

func (m *monitor) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, m.url)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is open on it
	now := time.Now()
	// The overlap is for what was finished and not committed at the last look.
	rows, err := conn.Query(ctx, finishedSQL, m.since.Add(-10*time.Second))
	if err != nil {
		return
	}
	var s Sighting
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&s.Delivery, &s.Status, &s.Attempts, &at}, func() error {
		s.At = now
		if _, known := m.finished[s.Delivery]; !known {
			m.finished[s.Delivery] = s
		}
		if at.After(m.since) {
			m.since = at
		}
		return nil
	})
	if err != nil {
		return
	}
	rows, err = conn.Query(ctx, underwaySQL)
	if err != nil {
		return
	}
	_, _ = pgx.ForEachRow(rows, []any{&s.Delivery, &s.Status, &s.Attempts}, func() error { // what was read counts
		s.At = now
		if s.Attempts >= m.underway[s.Delivery].Attempts {
			m.underway[s.Delivery] = s
		}
		return nil
	})
}

// sightings are all that were seen, to be compared with the end.
func (m *monitor) sightings() []Sighting {
	all := make([]Sighting, 0, len(m.finished)+len(m.underway))
	for _, s := range m.finished {
		all = append(all, s)
	}
	for _, s := range m.underway {
		all = append(all, s)
	}
	return all
}
