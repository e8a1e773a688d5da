package dispatcher

import (
	"testing"
	"time"

	"github.com/posthorn/posthorn/outbox"
)

func TestBacklog_CountsWhatWaits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := b.stillNode(t)
	ds := b.relayed(t, n, 3)
	read := func() Backlog {
		backlog, err := ReadBacklog(t.Context(), b.Pool)
		must(t, err)
		return backlog
	}
	if got := read(); got != (Backlog{}) {
		t.Errorf("handed off: %+v", got)
	}
	n.recorder.record(t.Context(), []result{n.answered(ds[0], 500), n.answered(ds[1], 500), n.answered(ds[2], 200)})
	b.publish(t, outbox.Event{})
	b.exec(t, `UPDATE posthorn.outbox_pending SET created_at = now() - interval '1 minute'`)
	got := read()
	if got.Events != 1 || got.Deliveries != 2 || got.Oldest < time.Minute || got.Oldest > time.Minute+patience {
		t.Errorf("%+v", got)
	}
}
