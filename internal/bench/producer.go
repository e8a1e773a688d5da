package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// producerSchema holds the tables of the producers' business.
const producerSchema = "posthorn_bench"

// The ordinary table has the outbox's columns with their defaults, the id's included,
// so that both get the same row; of its own it has a primary key and nothing else.
const producerTablesSQL = `
	CREATE SCHEMA ` + producerSchema + `;
	CREATE TABLE ` + producerSchema + `.orders (
		id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		customer   text        NOT NULL,
		cents      bigint      NOT NULL,
		created_at timestamptz NOT NULL DEFAULT now()
	);
	CREATE TABLE ` + producerSchema + `.plain_events (LIKE posthorn.outbox INCLUDING DEFAULTS, PRIMARY KEY (id))`

const (
	orderSQL  = `INSERT INTO ` + producerSchema + `.orders (customer, cents) VALUES ($1, $2)`
	plainSQL  = `INSERT INTO ` + producerSchema + `.plain_events (event_type, payload) VALUES ($1, $2)`
	outboxSQL = `INSERT INTO posthorn.outbox (event_type, payload) VALUES ($1, $2)`
	// So that no turn finds larger tables than another. Of the outbox's partitions only
	// today's has anything; all of them would take a second.
	clearSQL = `TRUNCATE ` + producerSchema + `.orders, ` + producerSchema + `.plain_events, posthorn.outbox_pending;
		DO $$
		DECLARE
			day regclass;
		BEGIN
			FOR day IN SELECT inhrelid FROM pg_inherits
				WHERE inhparent = 'posthorn.outbox'::regclass AND pg_relation_size(inhrelid) > 0
			LOOP
				EXECUTE format('TRUNCATE %s', day);
			END LOOP;
		END $$`
)

const (
	producerPairs = 5 // turns of each kind
	// producerWarmUp is how many transactions of each connection are not counted: the
	// first ones read the catalogue anew, after the tables were cleared.
	producerWarmUp = 5
)

// producerConns are the numbers of connections at once.
var producerConns = []int{1, 8, 32}

// measureProducer counts the transactions that insert an order and an event, into an
// ordinary table and into the outbox in turns. Nothing is sent meanwhile.
func measureProducer(ctx context.Context, s *suite) error {
	s.say("producer: %d turns of %s for each number of connections", 2*producerPairs, s.config.ProducerFor)
	l, err := newLab(ctx, s)
	if err != nil {
		return err
	}
	defer l.close()
	if _, err := l.pool.Exec(ctx, producerTablesSQL); err != nil {
		return fmt.Errorf("make the producers' tables: %w", err)
	}
	for _, n := range producerConns {
		measured, err := l.produce(ctx, n)
		if err != nil {
			return err
		}
		s.say("%d connections: plain %.0f/s, outbox %.0f/s, ratio %.2f", n, measured.PlainPerSecond, measured.OutboxPerSecond, measured.Ratio)
		s.report.Producer = append(s.report.Producer, measured)
	}
	return nil
}

// produce measures one number of connections.
func (l *lab) produce(ctx context.Context, conns int) (p Producer, err error) {
	open := make([]*pgx.Conn, conns)
	defer func() {
		for _, conn := range open {
			if conn != nil {
				err = errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
			}
		}
	}()
	for i := range open {
		if open[i], err = pgx.Connect(ctx, l.url); err != nil {
			return Producer{}, err
		}
	}
	var plain, outbox, ratios []float64
	for pair := range producerPairs {
		rates := map[string]float64{}
		kinds := []string{plainSQL, outboxSQL}
		if pair%2 == 1 {
			slices.Reverse(kinds)
		}
		for _, sql := range kinds {
			if rates[sql], err = l.produceWith(ctx, open, sql); err != nil {
				return Producer{}, err
			}
		}
		plain, outbox = append(plain, rates[plainSQL]), append(outbox, rates[outboxSQL])
		ratios = append(ratios, rates[outboxSQL]/rates[plainSQL])
	}
	return Producer{
		Connections: conns, PlainPerSecond: median(plain), OutboxPerSecond: median(outbox),
		Ratio: median(ratios), LowestRatio: slices.Min(ratios), HighestRatio: slices.Max(ratios),
	}, nil
}

// produceWith is one turn: transactions per second.
func (l *lab) produceWith(ctx context.Context, conns []*pgx.Conn, eventSQL string) (float64, error) {
	if _, err := l.pool.Exec(ctx, clearSQL); err != nil {
		return 0, err
	}
	payload := payloadOf(payloadBytes)
	ordersOf := func(more func(done int) bool) (int64, error) {
		var all atomic.Int64
		group, ctx := errgroup.WithContext(ctx)
		for _, conn := range conns {
			group.Go(func() error {
				for done := 0; more(done); done++ {
					if err := order(ctx, conn, eventSQL, payload); err != nil {
						return err
					}
					all.Add(1)
				}
				return nil
			})
		}
		err := group.Wait()
		return all.Load(), err
	}
	if _, err := ordersOf(func(done int) bool { return done < producerWarmUp }); err != nil {
		return 0, err
	}
	begin := time.Now()
	n, err := ordersOf(func(done int) bool { return done == 0 || time.Since(begin) < l.suite.config.ProducerFor })
	return float64(n) / time.Since(begin).Seconds(), err
}

// order is a producer's transaction.
func order(ctx context.Context, conn *pgx.Conn, eventSQL, payload string) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, orderSQL, "customer-17", 4200); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, eventSQL, "order.paid", payload)
		return err
	})
}
