package devdb

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// superuser is the role that devdb connects as.
const superuser = "postgres"

// accessRules is the text of pg_hba.conf: the loopback address only, always with
// the password, for replication too.
const accessRules = `# Written by posthorn at every start; changes here are lost.
host all         all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
`

// clusterMajor returns the major version of PostgreSQL that made the data
// directory, or 0 if there is none yet.
func clusterMajor(dataDir string) (int, error) {
	raw, err := os.ReadFile(filepath.Join(dataDir, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(raw)))
}

// prepare makes the cluster unless there is one, writes the configuration files
// and returns the superuser's password.
func (h *home) prepare(ctx context.Context, cfg Config, bin string, a *account) (password string, err error) {
	major, err := clusterMajor(h.data())
	if err != nil {
		return "", err
	}
	if major == 0 {
		if err := h.writePassword(a); err != nil {
			return "", err
		}
		if err := h.initdb(ctx, cfg, bin, a); err != nil {
			return "", err
		}
	}
	settings, err := settingsFile(cfg)
	if err != nil {
		return "", err
	}
	for name, text := range map[string]string{h.settings(): settings, h.access(): accessRules} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return "", err
		}
		// The server's account reads it, whatever the umask.
		if err := os.Chmod(name, 0o644); err != nil {
			return "", err
		}
	}
	raw, err := os.ReadFile(h.password())
	return string(raw), err
}

// writePassword makes a new random password for a new cluster. Its file belongs
// to the server's account because initdb reads it.
func (h *home) writePassword(a *account) error {
	if err := os.WriteFile(h.password(), []byte(rand.Text()), 0o600); err != nil {
		return err
	}
	return a.own(h.password())
}

// initdb makes the cluster. It is moved into place when complete, so that a start
// that is cut short leaves nothing that looks like a cluster.
func (h *home) initdb(ctx context.Context, cfg Config, bin string, a *account) error {
	// C.UTF-8 sorts by bytes, as C does, and knows upper and lower case beyond
	// ASCII; not every system has it.
	locales := []string{"C.UTF-8", "C"}
	if runtime.GOOS == "darwin" {
		locales = locales[1:]
	}
	var err error
	for _, locale := range locales {
		if err = h.initdbLocale(ctx, cfg, bin, a, locale); err == nil {
			return nil
		}
		if !strings.Contains(err.Error(), "invalid locale") {
			break
		}
	}
	return fmt.Errorf("making a PostgreSQL cluster: %w", err)
}

func (h *home) initdbLocale(ctx context.Context, cfg Config, bin string, a *account, locale string) error {
	fresh := h.data() + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	if err := a.own(fresh); err != nil {
		return err
	}
	args := []string{
		"--pgdata=" + fresh, "--username=" + superuser, "--pwfile=" + h.password(),
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=" + locale,
	}
	if !cfg.Durable {
		args = append(args, "--no-sync")
	}
	if _, err := runAs(ctx, a, h.path, filepath.Join(bin, "initdb"), args...); err != nil {
		return err
	}
	return os.Rename(fresh, h.data())
}
