package devdb

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	// nativeRoot is the part of the package that holds PostgreSQL.
	nativeRoot = "package/native/"
	// symlinkList names the links that the package needs and that npm's tarballs
	// cannot hold.
	symlinkList = "pg-symlinks.json"
	// maxUnpacked bounds what a tarball may unpack to, in bytes; PostgreSQL takes
	// some 60 MB.
	maxUnpacked = 1 << 30
)

// unpack writes the PostgreSQL in an npm tarball to the new directory dir. Names
// that lead out of it, links and special files are errors. os.Root makes sure of
// the first even when a name passes through a link.
func unpack(tarball, dir string) error {
	f, err := os.Open(tarball)
	if err != nil {
		return err
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()

	entries := tar.NewReader(gz)
	for left := int64(maxUnpacked); ; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if left -= h.Size; left < 0 {
			return fmt.Errorf("the tarball unpacks to more than %d bytes", int64(maxUnpacked))
		}
		if err := unpackEntry(root, h, entries); err != nil {
			return err
		}
	}
	return errors.Join(makeSymlinks(root), openUp(dir))
}

// unpackEntry writes one entry, unless it is outside nativeRoot.
func unpackEntry(root *os.Root, h *tar.Header, body io.Reader) error {
	if !filepath.IsLocal(h.Name) {
		return fmt.Errorf("entry %q leads out of the directory", h.Name)
	}
	name, ok := strings.CutPrefix(path.Clean(h.Name), nativeRoot)
	if !ok {
		return nil
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeReg:
	default:
		return fmt.Errorf("entry %q is neither a file nor a directory", h.Name)
	}
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if h.FileInfo().Mode()&0o111 != 0 || path.Dir(name) == "bin" {
		mode = 0o755
	}
	// A child started meanwhile elsewhere in this process would hold the program
	// open for writing for a moment, and it could not be executed.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, body)
	return errors.Join(err, out.Chmod(mode), out.Close())
}

// openUp lets everyone pass through the directories, whatever the umask: the
// server may run as another user.
func openUp(dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return os.Chmod(name, 0o755)
	})
}

// makeSymlinks makes the links of symlinkList, whose paths begin with "native/".
// Each is relative, so that the whole directory can be moved, and must lead to a
// file in it.
func makeSymlinks(root *os.Root) error {
	raw, err := root.ReadFile(symlinkList)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(raw, &links); err != nil {
		return fmt.Errorf("%s: %w", symlinkList, err)
	}
	for _, l := range links {
		source, okSource := strings.CutPrefix(path.Clean(l.Source), "native/")
		target, okTarget := strings.CutPrefix(path.Clean(l.Target), "native/")
		if !okSource || !okTarget || !filepath.IsLocal(source) || !filepath.IsLocal(target) {
			return fmt.Errorf("%s: the link %q to %q leads out of the directory", symlinkList, l.Target, l.Source)
		}
		to, err := filepath.Rel(path.Dir(target), source)
		if err != nil {
			return err
		}
		if err := root.Symlink(to, target); err != nil {
			return err
		}
		if _, err := root.Stat(target); err != nil {
			return fmt.Errorf("%s: %w", symlinkList, err)
		}
	}
	return nil
}
