package devdb

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// commonSettings hold for every server.
var commonSettings = map[string]string{
	"timezone":         "UTC",
	"log_timezone":     "UTC",
	"log_min_messages": "warning",
	"log_checkpoints":  "off",
	"lc_messages":      "C", // portTaken reads the log in English
	"max_wal_size":     "2GB",
}

// durableSettings keep PostgreSQL's promises, as production does.
var durableSettings = map[string]string{
	"fsync":              "on",
	"synchronous_commit": "on",
	"full_page_writes":   "on",
	"shared_buffers":     "256MB",
	"max_connections":    "200",
}

// testSettings trade safety against power failure for speed. A crash of the
// server alone still loses nothing but the last moments of asynchronous commits.
var testSettings = map[string]string{
	"fsync":              "off",
	"synchronous_commit": "off",
	"full_page_writes":   "off",
	"shared_buffers":     "128MB",
	"max_connections":    "300",
}

// settingName matches the names PostgreSQL takes, extensions' included.
var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)

// settingsFile returns the text of the settings file, in a stable order.
func settingsFile(cfg Config) (string, error) {
	all := maps.Clone(commonSettings)
	if cfg.Durable {
		maps.Copy(all, durableSettings)
	} else {
		maps.Copy(all, testSettings)
	}
	maps.Copy(all, cfg.Settings)

	var b strings.Builder
	b.WriteString("# Written by posthorn at every start; changes here are lost.\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !settingName.MatchString(name) {
			return "", fmt.Errorf("%q is not the name of a PostgreSQL setting", name)
		}
		if strings.ContainsAny(all[name], "\n\r\x00") {
			return "", fmt.Errorf("the value of the PostgreSQL setting %s has a line break", name)
		}
		fmt.Fprintf(&b, "%s = '%s'\n", name, settingQuoter.Replace(all[name]))
	}
	return b.String(), nil
}

// settingQuoter escapes what postgresql.conf treats specially between quotes.
var settingQuoter = strings.NewReplacer(`\`, `\\`, `'`, `''`)
