package bench

import (
	"errors"
	"strings"
	"testing"

	"github.com/posthorn/posthorn/internal/pgtest"
	"github.com/posthorn/posthorn/subscriptions"
)

func TestRun_RefusesADatabaseInUse(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	keyset, err := subscriptions.KeptKeyset(t.Context(), db.Pool)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := subscriptions.NewKeyring(keyset)
	if err != nil {
		t.Fatal(err)
	}
	store := subscriptions.NewStore(db.Pool, keys, loopback)
	if _, _, err := store.Create(t.Context(), subscriptions.Draft{TenantID: "shop", URL: "http://127.0.0.1:9999/", EventTypes: []string{"*"}}); err != nil {
		t.Fatal(err)
	}
	c := tiny(t)
	c.DatabaseURL = db.URL
	if _, err := Run(t.Context(), c); !errors.Is(err, ErrInUse) {
		t.Errorf("it says %v", err)
	}
}

func TestRun_SaysWhatIsWrongWithItsConfig(t *testing.T) {
	t.Parallel()
	if _, err := Run(t.Context(), Config{Only: []string{"speed"}}); err == nil || !strings.Contains(err.Error(), "throughput") {
		t.Errorf("of a section that there is not it says %v", err)
	}
	_, err := Run(t.Context(), Config{DatabaseURL: "postgres://posthorn:hush@[::1/x"})
	if err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("of a malformed URL it says %v", err)
	}
}

func TestRun_TellsWhatASenderThatGivesUpHasSaid(t *testing.T) {
	t.Parallel()
	_, err := startPart(t.Context(), "/nonexistent", RoleSender, "")
	if err == nil || !strings.Contains(err.Error(), "start the sender") {
		t.Errorf("of a program that there is not it says %v", err)
	}
	p, err := startPart(t.Context(), tiny(t).Executable, "juggler", "")
	if err == nil {
		_, err = p.say()
	}
	if err == nil || !strings.Contains(err.Error(), "no such role") {
		t.Errorf("it says %v", err)
	}
}
