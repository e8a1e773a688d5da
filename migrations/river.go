package migrations

import (
	"log/slog"

	"github.com/jackc/pgx/v5"
)

// riverTx is the transaction type of River's driver for pgx.
type riverTx = pgx.Tx

// quiet drops River's line per statement: errors come back as errors.
var quiet = slog.New(slog.DiscardHandler)
