package sample

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/outbox/outboxotel"
)

// The event types that the shop publishes.
const (
	OrderCreated = "order.created"
	OrderPaid    = "order.paid"
)

// The statuses of an order.
const (
	StatusOpen = "open" // committed, not paid yet
	StatusPaid = "paid"
)

// The reasons for which the shop refuses.
var (
	// ErrNoSuchOrder reports an id that no committed order has.
	ErrNoSuchOrder = errors.New("no such order")
	// ErrAlreadyPaid reports a second payment.
	ErrAlreadyPaid = errors.New("the order is paid already")
	// ErrCardDeclined reports an order that was rolled back, its event with it.
	ErrCardDeclined = errors.New("the card was declined")
)

// ShopConfig is what a Shop needs.
type ShopConfig struct {
	// DatabaseURL is the database to connect to. Only RunShop uses it.
	DatabaseURL string

	// Addr is where to listen, such as ":8081". Only RunShop uses it.
	Addr string

	// TenantID is the tenant of the events. Empty means outbox.DefaultTenant.
	TenantID string

	// Interval is the time from one order of Run to the next. Zero or less means
	// 2 seconds.
	Interval time.Duration

	// Logger receives a line for each order. Nil means slog.Default().
	Logger *slog.Logger
}

const defaultInterval = 2 * time.Second

// Order is a row of shop.orders and, as JSON, the payload of its events.
type Order struct {
	ID          int64     `json:"order_id" db:"id"`
	Customer    string    `json:"customer"`
	AmountCents int64     `json:"amount_cents"`
	Currency    string    `json:"currency"`
	Status      string    `json:"status"`
	CreatedAt   time.Time `json:"created_at"`
}

// NewOrder is what a customer orders.
type NewOrder struct {
	Customer    string // 1 to 200 characters
	AmountCents int64  // in hundredths of the currency; at least 1
	Currency    string // ISO 4217, such as "EUR"
}

// Shop keeps orders and publishes what happens to them. It is safe for
// concurrent use.
type Shop struct {
	pool     *pgxpool.Pool
	tenant   string
	interval time.Duration
	log      *slog.Logger
}

// schemaSQL is safe to run at every start and by several shops at once: IF NOT
// EXISTS alone fails when two find it missing together, hence the lock.
const schemaSQL = `
	SELECT pg_advisory_xact_lock(hashtextextended('posthorn sample shop', 0));
	CREATE SCHEMA IF NOT EXISTS shop;
	CREATE TABLE IF NOT EXISTS shop.orders (
		id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		customer     text        NOT NULL CHECK (length(customer) BETWEEN 1 AND 200),
		amount_cents bigint      NOT NULL CHECK (amount_cents > 0),
		currency     text        NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
		status       text        NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'paid')),
		created_at   timestamptz NOT NULL DEFAULT now()
	)`

// NewShop makes a shop on a database where Posthorn's migrations have run, and
// the shop's own schema, shop, if it is missing. The pool stays the caller's.
func NewShop(ctx context.Context, pool *pgxpool.Pool, cfg ShopConfig) (*Shop, error) {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, schemaSQL)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sample shop: create its schema: %w", err)
	}
	s := &Shop{pool: pool, tenant: cfg.TenantID, interval: cfg.Interval, log: cfg.Logger}
	if s.interval <= 0 {
		s.interval = defaultInterval
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	return s, nil
}

const insertOrderSQL = `
	INSERT INTO shop.orders (customer, amount_cents, currency) VALUES ($1, $2, $3)
	RETURNING id, customer, amount_cents, currency, status, created_at`

// PlaceOrder commits an order together with its event order.created.
//
// With declined set the card is declined after both have been inserted: the
// transaction is rolled back, and PlaceOrder returns the order that is not to be
// and an error for which errors.Is(err, ErrCardDeclined) is true.
func (s *Shop) PlaceOrder(ctx context.Context, n NewOrder, declined bool) (Order, error) {
	var order Order
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var err error
		if order, err = one(ctx, tx, insertOrderSQL, n.Customer, n.AmountCents, n.Currency); err != nil {
			return err
		}
		if err := s.publish(ctx, tx, OrderCreated, order); err != nil {
			return err
		}
		if declined {
			return ErrCardDeclined // BeginFunc rolls back
		}
		return nil
	})
	switch {
	case errors.Is(err, ErrCardDeclined):
		s.log.InfoContext(ctx, fmt.Sprintf("order %d rolled back", order.ID))
		return order, fmt.Errorf("order %d: %w", order.ID, err)
	case err != nil:
		return Order{}, fmt.Errorf("place an order: %w", err)
	}
	s.log.InfoContext(ctx, fmt.Sprintf("order %d committed", order.ID))
	return order, nil
}

const payOrderSQL = `
	UPDATE shop.orders SET status = 'paid' WHERE id = $1 AND status = 'open'
	RETURNING id, customer, amount_cents, currency, status, created_at`

// PayOrder commits the payment of an order together with its event order.paid.
// It returns an error for which errors.Is is true of ErrNoSuchOrder or
// ErrAlreadyPaid.
func (s *Shop) PayOrder(ctx context.Context, id int64) (Order, error) {
	var order Order
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var err error
		order, err = one(ctx, tx, payOrderSQL, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return whyNotPaid(ctx, tx, id)
		}
		if err != nil {
			return err
		}
		return s.publish(ctx, tx, OrderPaid, order)
	})
	if err != nil {
		return Order{}, fmt.Errorf("pay order %d: %w", id, err)
	}
	s.log.InfoContext(ctx, fmt.Sprintf("order %d paid", id))
	return order, nil
}

const orderExistsSQL = `SELECT EXISTS (SELECT FROM shop.orders WHERE id = $1)`

func whyNotPaid(ctx context.Context, tx pgx.Tx, id int64) error {
	var exists bool
	if err := tx.QueryRow(ctx, orderExistsSQL, id).Scan(&exists); err != nil {
		return err
	}
	if exists {
		return ErrAlreadyPaid
	}
	return ErrNoSuchOrder
}

const listOrdersSQL = `
	SELECT id, customer, amount_cents, currency, status, created_at
	FROM shop.orders ORDER BY id DESC LIMIT 100`

// Orders returns the latest 100 orders, newest first.
func (s *Shop) Orders(ctx context.Context) ([]Order, error) {
	rows, err := s.pool.Query(ctx, listOrdersSQL)
	if err != nil {
		return nil, fmt.Errorf("list orders: %w", err)
	}
	orders, err := pgx.CollectRows(rows, pgx.RowToStructByName[Order])
	if err != nil {
		return nil, fmt.Errorf("list orders: %w", err)
	}
	return orders, nil
}

// publish is the whole of what a producer does for Posthorn. (Without
// OpenTelemetry it is outbox.Publish, with the same arguments.) The ordering key
// makes endpoints that ask for it receive an order's events in their order.
func (s *Shop) publish(ctx context.Context, tx pgx.Tx, eventType string, order Order) error {
	payload, err := json.Marshal(order)
	if err != nil {
		return err
	}
	_, err = outboxotel.Publish(ctx, tx, outbox.Event{
		TenantID:    s.tenant,
		Type:        eventType,
		Payload:     payload,
		OrderingKey: "order-" + strconv.FormatInt(order.ID, 10),
	})
	return err
}

func one(ctx context.Context, tx pgx.Tx, sql string, args ...any) (Order, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return Order{}, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Order])
}
