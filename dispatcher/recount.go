package dispatcher

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// auditAge is how long a minute is over when the audit accounts for it. By then
	// most transactions have ended that began in it.
	auditAge = 2 * time.Minute
	// lateAge is the age of an event from which on its minute may have been accounted
	// for when its routing commits: auditAge less a relay's transaction and the
	// difference of two clocks.
	lateAge = 90 * time.Second
)

const recountSQL = `INSERT INTO posthorn.ledger_recounts (minute)
	SELECT DISTINCT date_trunc('minute', at, 'UTC') FROM unnest($1::timestamptz[]) AS at`

// noteLate notes the minutes of the events that are being routed late, which is
// after a long transaction of the producer's or an absence of the relays'.
func noteLate(ctx context.Context, tx pgx.Tx, b *batch) error {
	var late []time.Time
	for _, created := range b.eventTimes {
		if b.at.Sub(created) > lateAge {
			late = append(late, created)
		}
	}
	if late == nil {
		return nil
	}
	if _, err := tx.Exec(ctx, recountSQL, late); err != nil {
		return fmt.Errorf("note %d late events: %w", len(late), err)
	}
	return nil
}
