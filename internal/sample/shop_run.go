package sample

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// customers order in turn.
var customers = []string{"Ada", "Grace", "Linus", "Barbara", "Edsger", "Margaret", "Ken"}

// Of the orders that Run places, every fifth is rolled back; of the others
// every seventh stays open.
const (
	rollBackEvery  = 5
	leaveOpenEvery = 7
)

// Run places an order at once and then one every Interval until ctx ends. It
// pays most of them and rolls every fifth back on purpose. An order that fails
// for another reason is logged, and the next one is tried.
func (s *Shop) Run(ctx context.Context) {
	ticker := time.NewTicker(s.interval)
	defer ticker.Stop()
	for n := 1; ; n++ {
		if err := s.simulate(ctx, n); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "the simulated order failed", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// simulate is the nth customer's visit.
func (s *Shop) simulate(ctx context.Context, n int) error {
	order, err := s.PlaceOrder(ctx, NewOrder{
		Customer:    customers[n%len(customers)],
		AmountCents: int64(499 + n*731%9500), // looks like prices, the same in every run
		Currency:    "EUR",
	}, n%rollBackEvery == 0)
	if errors.Is(err, ErrCardDeclined) {
		return nil // on purpose
	}
	if err != nil {
		return err
	}
	if n%leaveOpenEvery == 0 {
		return nil
	}
	_, err = s.PayOrder(ctx, order.ID)
	return err
}

// RunShop connects to the database, serves the shop at cfg.Addr and places
// orders until ctx ends. It is posthorn sample-shop.
func RunShop(ctx context.Context, cfg ShopConfig) error {
	pool, err := pgxpool.New(ctx, cfg.DatabaseURL)
	if err != nil {
		return fmt.Errorf("sample shop: %w", err)
	}
	defer pool.Close()
	shop, err := NewShop(ctx, pool, cfg)
	if err != nil {
		return err
	}
	return serve(ctx, cfg.Addr, shop.Handler(), func(ctx context.Context, at string) error {
		shop.log.InfoContext(ctx, "the sample shop is open", "url", "http://"+at)
		shop.Run(ctx)
		return nil
	})
}
