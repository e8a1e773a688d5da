package dispatcher

import (
	"testing"
	"time"

	"github.com/posthorn/posthorn/subscriptions"
)

// What is kept for the record is kept for a time, each with its number in
// docs/operations.md.
func TestMaintain_ForgetsWhatIsPast(t *testing.T) {
	t.Parallel()
	b := setup(t)
	gone, _ := b.endpoint(t, nowhere, "gone")
	kept, _ := b.endpoint(t, nowhere, "kept")
	changed, _ := b.endpoint(t, nowhere, "changed")
	for _, id := range []subscriptions.EndpointID{gone.ID, kept.ID} {
		must(t, b.store.Delete(t.Context(), subscriptions.Scope{}, id))
	}
	_, err := b.store.Pause(t.Context(), subscriptions.Scope{}, changed.ID)
	must(t, err)
	oldDay(t, b, 10)
	execute(t, b, `INSERT INTO posthorn.deliveries (id, event_id, event_created_at, endpoint_id, tenant_id, event_type, status)
		VALUES (posthorn.uuid_v7(now() - interval '10 days'), gen_random_uuid(), now() - interval '10 days', $1, 'default', 'kept', 'held')`, kept.ID)
	execute(t, b, `UPDATE posthorn.endpoint_versions SET created_at = now() - interval '40 days'`)
	execute(t, b, `UPDATE posthorn.endpoints SET deleted_at = now() - interval '40 days' WHERE deleted_at IS NOT NULL`)
	execute(t, b, `UPDATE posthorn.endpoint_secrets SET expires_at = now() - interval '40 days' WHERE expires_at IS NOT NULL`)
	execute(t, b, `INSERT INTO posthorn.outbox_keys VALUES ('a', 'young', gen_random_uuid(), now() - interval '47 hours'), ('a', 'old', gen_random_uuid(), now() - interval '49 hours')`)
	for age, resolved := range map[int]bool{89: true, 91: true, 900: false} {
		execute(t, b, `INSERT INTO posthorn.dead_letters (id, delivery_id, event_id, event_created_at, endpoint_id, tenant_id, event_type, attempts,
				last_error_kind, last_error, fingerprint, dead_at, resolved_at)
			VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), $1, gen_random_uuid(), 'a', 'a', 1, 'timeout', '', '', $1, CASE WHEN $2 THEN $1::timestamptz END)`,
			time.Now().AddDate(0, 0, -age), resolved)
	}

	m := &maintainer{pool: b.Pool}
	must(t, m.Work(t.Context(), nil))
	m.retention = 5 * 24 * time.Hour
	must(t, m.forgetEndpoints(t.Context()))
	for what, sql := range map[string]string{
		"keys":                `SELECT string_agg(idempotency_key, ' ') = 'young' FROM posthorn.outbox_keys`,
		"dead letters":        `SELECT count(*) = 2 FROM posthorn.dead_letters WHERE resolved_at IS NULL OR resolved_at > now() - interval '90 days'`,
		"old dead letters":    `SELECT count(*) = 2 FROM posthorn.dead_letters`,
		"endpoints":           `SELECT string_agg(event_types[1], ' ' ORDER BY event_types) = 'changed kept' FROM posthorn.endpoints`,
		"versions in use":     `SELECT count(*) = 2 FROM posthorn.endpoint_versions WHERE 'kept' = ANY(event_types)`,
		"superseded versions": `SELECT count(*) = 1 AND min(version) = 2 FROM posthorn.endpoint_versions WHERE 'changed' = ANY(event_types)`,
		"secrets":             `SELECT count(*) = 1 FROM posthorn.endpoint_secrets`,
	} {
		if !value[bool](t, b.Pool, sql) {
			t.Errorf("%s: not what is to stay", what)
		}
	}
}
