package devdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	// aptClusterConfig is read by Debian's package when it is installed.
	aptClusterConfig = "/etc/postgresql-common/createcluster.conf"
	// aptTimeout bounds one run of apt-get.
	aptTimeout = 10 * time.Minute
)

// fromApt installs Debian's package, for root only, and returns the directory of
// its programs. It is the last way because it changes the system.
func (f *finder) fromApt(ctx context.Context) (string, error) {
	apt, err := f.lookUp("apt-get")
	if err != nil {
		return "", err
	}
	if os.Geteuid() != 0 {
		return "", errors.New("only root can install PostgreSQL with apt-get")
	}
	f.logger.Info("installing the package postgresql with apt-get")
	if err := aptInstall(ctx, apt, "postgresql-common"); err != nil {
		// A fresh container has no package lists yet.
		if updateErr := aptGet(ctx, apt, "update"); updateErr != nil {
			return "", errors.Join(err, updateErr)
		}
		if err := aptInstall(ctx, apt, "postgresql-common"); err != nil {
			return "", err
		}
	}
	if err := f.withoutMainCluster(func() error { return aptInstall(ctx, apt, "postgresql") }); err != nil {
		return "", err
	}
	dirs := f.installed()
	if len(dirs) == 0 {
		return "", errors.New("apt-get installed postgresql, but its programs are not where Debian keeps them")
	}
	return dirs[0], nil
}

// withoutMainCluster runs the installation while Debian's configuration says not
// to make a cluster, which would start a second server that nobody asked for, and
// then puts the configuration back as it was.
func (f *finder) withoutMainCluster(install func() error) error {
	before, err := os.ReadFile(f.aptConfig)
	if err != nil {
		return install() // not Debian's packaging: there is nothing to prevent
	}
	with := append([]byte(nil), before...)
	with = append(with, "\ncreate_main_cluster = false\n"...)
	if err := os.WriteFile(f.aptConfig, with, 0o644); err != nil {
		return err
	}
	return errors.Join(install(), os.WriteFile(f.aptConfig, before, 0o644))
}

func aptInstall(ctx context.Context, apt, pkg string) error {
	return aptGet(ctx, apt, "install", "-y", "--no-install-recommends", pkg)
}

func aptGet(ctx context.Context, apt string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, aptTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, apt, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		text := strings.TrimSpace(string(out))
		return fmt.Errorf("apt-get %s: %w: %s", strings.Join(args, " "), err, text[max(0, len(text)-1000):])
	}
	return nil
}
