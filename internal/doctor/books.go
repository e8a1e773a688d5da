package doctor

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/dispatcher"
)

func ledger(ctx context.Context, p *patient, c *Check) error {
	l, err := dispatcher.ReadLedger(ctx, p.pool)
	if err != nil {
		return err
	}
	p.ledger = &l
	c.balance(l)
	return nil
}

func deepLedger(ctx context.Context, p *patient, c *Check) error {
	l, err := dispatcher.ReadLedgerDeep(ctx, p.pool)
	if err != nil {
		return err
	}
	c.balance(l)
	return nil
}

// balance says whether a ledger does.
func (c *Check) balance(l dispatcher.Ledger) {
	var deliveries int64
	for _, n := range l.Deliveries {
		deliveries += n
	}
	switch {
	case l.Unaccounted == 0:
		c.is(OK, "%s and %s, every one accounted for.", several(l.Events, "event"), several(deliveries, "delivery"))
	case l.Unaccounted == l.Unowned:
		c.is(Failure, "%s without a job: a running dispatcher's sweep gives them new ones within minutes; "+
			"ask again then.", several(l.Unowned, "unfinished delivery"))
	default:
		c.is(Failure, "%d unaccounted for (%d of them without a job): rows were changed by hand or lost. "+
			"Compare posthorn doctor --deep, look for who did, and report it otherwise.", l.Unaccounted, l.Unowned)
	}
}

const auditSQL = `SELECT extract(epoch FROM now() - audited_to)::float8 FROM posthorn.ledger_state`

// longAudit is how far the audit may be behind; it is two to three minutes as a rule.
const longAudit = 10 * time.Minute

func audit(ctx context.Context, p *patient, c *Check) error {
	behind, err := seconds(ctx, p.pool, auditSQL)
	if err != nil {
		return err
	}
	c.is(OK, "Accounted for up to %s ago.", show(behind))
	if behind > longAudit {
		c.is(Warning, "Accounted for only up to %s ago, so that reading the ledger costs more: "+
			"a running dispatcher catches up by itself; if it does not, look at its log for the job audit.", show(behind))
	}
	return nil
}

const sweepSQL = `SELECT extract(epoch FROM now() - swept_to)::float8 FROM posthorn.sweep_state`

// longSweep is how far the sweep may be behind; it is one to two minutes as a rule.
const longSweep = 10 * time.Minute

func sweep(ctx context.Context, p *patient, c *Check) error {
	behind, err := seconds(ctx, p.pool, sweepSQL)
	if err != nil {
		return err
	}
	c.is(OK, "Looked for lost work up to %s ago.", show(behind))
	if behind > longSweep {
		c.is(Warning, "Nobody has looked for lost work for %s: a running dispatcher does every half minute; "+
			"look at its log for the job sweep.", show(behind))
	}
	return nil
}

func seconds(ctx context.Context, pool *pgxpool.Pool, sql string) (time.Duration, error) {
	var s float64
	err := pool.QueryRow(ctx, sql).Scan(&s)
	return time.Duration(s * float64(time.Second)), err
}

// longestSchedule is longer than the default retry schedule, which lasts three days.
const longestSchedule = 4 * 24 * time.Hour

func oldestUnsent(_ context.Context, p *patient, c *Check) error {
	if p.ledger == nil {
		return errors.New("the ledger could not be read")
	}
	switch age := p.ledger.OldestUnsent; {
	case age == 0:
		c.is(OK, "Nothing waits.")
	case age > longestSchedule:
		c.is(Warning, "The oldest unsent event is of %s ago, longer than retries last by default: "+
			"see which endpoint it waits for under backlog and held.", show(age))
	default:
		c.is(OK, "The oldest unsent event is of %s ago.", show(age))
	}
	return nil
}
