package interop

import (
	"context"
	"crypto/sha256"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// files is all that an installation is made from.
//
//go:embed package.json package-lock.json .npmrc verify.mjs
var files embed.FS

// cacheDir is where installations are kept from one test run to the next.
func cacheDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "posthorn"), nil
}

// install returns a directory below parent with verify.mjs and the locked
// libraries, made by npm ci the first time. The directory's name tells its
// content, so what exists is current; it takes its name only when complete, so
// a killed installation leaves nothing that looks finished.
func install(ctx context.Context, npm, parent string) (string, error) {
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", err
	}
	name, err := directoryName()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(parent, name)

	// go test runs the packages' tests in processes of their own, at once.
	unlock, err := lock(dir + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	partial, err := os.MkdirTemp(parent, name+".partial-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(partial) // gone already if the installation succeeded
	if err := os.CopyFS(partial, files); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund")
	cmd.Dir = partial
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w\n%s", err, output)
	}
	return dir, os.Rename(partial, dir)
}

// directoryName is "interop-" and a hash of the embedded files.
func directoryName() (string, error) {
	entries, err := files.ReadDir(".")
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	for _, entry := range entries {
		content, err := files.ReadFile(entry.Name())
		if err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%s %d\n%s", entry.Name(), len(content), content)
	}
	return fmt.Sprintf("interop-%x", hash.Sum(nil)[:8]), nil
}
