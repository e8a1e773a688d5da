package outbox_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posthorn/posthorn/outbox"
)

// The order and its event are committed together, or neither is.
func ExamplePublish() {
	pay := func(ctx context.Context, pool *pgxpool.Pool, orderID int64) error {
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `UPDATE orders SET paid = true WHERE id = $1`, orderID); err != nil {
				return err
			}
			payload, err := json.Marshal(map[string]any{"order_id": orderID})
			if err != nil {
				return err
			}
			_, err = outbox.Publish(ctx, tx, outbox.Event{
				TenantID: "shop_1",
				Type:     "order.paid",
				Payload:  payload,
			})
			return err
		})
	}
	_ = pay
}

// With an idempotency key a job that runs twice publishes once.
func ExamplePublish_idempotencyKey() {
	importOrder := func(ctx context.Context, tx pgx.Tx, number string, placedAt time.Time, order json.RawMessage) (outbox.EventID, error) {
		return outbox.Publish(ctx, tx, outbox.Event{
			Type:           "order.imported",
			Payload:        order,
			IdempotencyKey: "import-" + number,
			OrderingKey:    "order-" + number,
			OccurredAt:     placedAt,
		})
	}
	_ = importOrder
}

// A refused event aborts the transaction; in a savepoint it leaves the rest be.
func ExamplePublish_savepoint() {
	publishIfValid := func(ctx context.Context, tx pgx.Tx, e outbox.Event) error {
		err := pgx.BeginFunc(ctx, tx, func(savepoint pgx.Tx) error {
			_, err := outbox.Publish(ctx, savepoint, e)
			return err
		})
		if errors.Is(err, outbox.ErrInvalid) {
			return nil // the business goes on without it
		}
		return err
	}
	_ = publishIfValid
}

// The same for database/sql.
func ExamplePublishSQL() {
	pay := func(ctx context.Context, db *sql.DB, orderID int64) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() // does nothing after Commit
		if _, err := tx.ExecContext(ctx, `UPDATE orders SET paid = true WHERE id = $1`, orderID); err != nil {
			return err
		}
		_, err = outbox.PublishSQL(ctx, tx, outbox.Event{
			Type:    "order.paid",
			Payload: json.RawMessage(fmt.Sprintf(`{"order_id": %d}`, orderID)),
		})
		if err != nil {
			return err
		}
		return tx.Commit()
	}
	_ = pay
}

func ExampleParseEventID() {
	id, err := outbox.ParseEventID("evt_01h455vb4pex5vsknk084sn02q")
	fmt.Println(id, id.Time().Format(time.DateOnly), err)
	_, err = outbox.ParseEventID("order-17")
	fmt.Println(err)
	// Output:
	// evt_01h455vb4pex5vsknk084sn02q 2023-06-30 <nil>
	// "order-17" is not an id of the form evt_ and 26 base32 characters
}
