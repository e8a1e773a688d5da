package subscriptions

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	keepKeysetSQL = `INSERT INTO posthorn.keysets (keyset) VALUES ($1) ON CONFLICT DO NOTHING`
	keptKeysetSQL = `SELECT keyset FROM posthorn.keysets`
)

// KeptKeyset gives the keyset that the database keeps, making it at the first
// call. It is for services without a configured keyset: secrets are encrypted,
// but the key lies beside them.
func KeptKeyset(ctx context.Context, pool *pgxpool.Pool) (string, error) {
	json, err := NewKeyset()
	if err != nil {
		return "", err
	}
	if _, err := pool.Exec(ctx, keepKeysetSQL, json); err != nil {
		return "", fmt.Errorf("keep keyset: %w", err)
	}
	if err := pool.QueryRow(ctx, keptKeysetSQL).Scan(&json); err != nil {
		return "", fmt.Errorf("read kept keyset: %w", err)
	}
	return json, nil
}
