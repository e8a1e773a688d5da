// Package outbox is the producers' side of Posthorn: it puts an event into the
// table posthorn.outbox in the transaction of the business change that the
// event tells of. Both commit or neither does.
//
//	tx, err := pool.Begin(ctx)
//	…
//	_, err = tx.Exec(ctx, `INSERT INTO orders …`)
//	id, err := outbox.Publish(ctx, tx, outbox.Event{
//		Type:    "order.paid",
//		Payload: json.RawMessage(`{"order_id": 17}`),
//	})
//	…
//	err = tx.Commit(ctx)
//
// Programs in other languages insert the row themselves or call
// posthorn.publish(); this package does no more than that. It needs only pgx,
// so that importing it costs a producer nothing else.
//
// The relay's half, taking committed events out of the pending table, is Claim.
package outbox
