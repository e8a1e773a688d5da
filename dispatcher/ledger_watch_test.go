package dispatcher

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
)

func TestLedgerWatch_ShowsTheLastReadingAndTellsOfDamage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	b.relayed(t, n, 3)
	reader := metric.NewManualReader()
	var log bytes.Buffer
	w := &ledgerWatch{pool: b.Pool, logger: slog.New(slog.NewTextHandler(&log, nil))}
	must(t, w.observe(metric.NewMeterProvider(metric.WithReader(reader)).Meter("test")))
	if got := measured(t, reader); len(got) != 0 {
		t.Errorf("before the first reading: %v", got)
	}
	for _, step := range []struct {
		damage      string
		unaccounted float64
		says        string
	}{
		{`SELECT 1`, 0, ""},
		{`CREATE TABLE taken AS SELECT * FROM posthorn.routings LIMIT 1; DELETE FROM posthorn.routings WHERE event_id = (SELECT event_id FROM taken)`, 1, "does not balance"},
		{`SELECT 1`, 1, ""},
		{`INSERT INTO posthorn.routings SELECT * FROM taken`, 0, "balances again"},
	} {
		b.exec(t, `DO $$ BEGIN EXECUTE '`+strings.ReplaceAll(step.damage, "'", "''")+`'; END $$`)
		log.Reset()
		w.read(t.Context())
		got := measured(t, reader)
		if got["posthorn.ledger.unaccounted"] != step.unaccounted || got["posthorn.ledger.deliveries{status=pending}"] != 3 ||
			got["posthorn.ledger.deliveries{status=dead}"] != 0 || got["posthorn.ledger.oldest_unsent"] <= 0 {
			t.Errorf("%s: %v", step.damage, got)
		}
		if !strings.Contains(log.String(), step.says) || step.says == "" && log.Len() > 0 {
			t.Errorf("%s: the log says %q", step.damage, log.String())
		}
	}
	w.last.Load().at = time.Now().Add(-watchStale - time.Second)
	if got := measured(t, reader); len(got) != 0 {
		t.Errorf("an old reading is shown: %v", got)
	}
}
