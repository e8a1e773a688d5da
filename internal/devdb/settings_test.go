package devdb

import (
	"strings"
	"testing"
)

func TestSettingsFile(t *testing.T) {
	t.Parallel()
	t.Run("QuotesValuesAndLetsTheCallerOverride", func(t *testing.T) {
		t.Parallel()
		text, err := settingsFile(Config{Durable: true, Settings: map[string]string{
			"max_connections": "7", "app.name": `a'b\c`,
		}})
		noError(t, err)
		for _, want := range []string{"fsync = 'on'\n", "max_connections = '7'\n", `app.name = 'a''b\\c'` + "\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
		if strings.Count(text, "max_connections") != 1 {
			t.Errorf("max_connections is there twice:\n%s", text)
		}
	})
	t.Run("RefusesWhatCouldAddALine", func(t *testing.T) {
		t.Parallel()
		for name, value := range map[string]string{"work_mem": "1\nfsync = off", "a = b\nc": "1", "": "1", "a b": "1"} {
			if text, err := settingsFile(Config{Settings: map[string]string{name: value}}); err == nil {
				t.Errorf("%q = %q was taken:\n%s", name, value, text)
			}
		}
	})
}

func TestTheCommentsGiveTheDefaults(t *testing.T) {
	t.Parallel()
	cfg := Config{}.withDefaults()
	if cfg.StartTimeout.Seconds() != 60 || cfg.Logger == nil {
		t.Errorf("the defaults are %+v", cfg)
	}
}
