package devdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// oldestMajor is the oldest PostgreSQL that Posthorn works with.
const oldestMajor = 14

// installedPlaces are the directories where packages put PostgreSQL's server
// programs when they keep them off the PATH.
var installedPlaces = []string{
	"/usr/lib/postgresql/*/bin", // Debian, Ubuntu
	"/usr/pgsql-*/bin",          // PostgreSQL's own packages for Red Hat and Fedora
	"/usr/libexec/postgresql*",  // Alpine
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin", // Homebrew on Intel
	"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// finder looks for PostgreSQL's programs and gets them when there are none.
type finder struct {
	explicit  string   // the only directory to look in; "" to search
	path      string   // a list of directories, as in the environment variable PATH
	places    []string // glob patterns of more directories
	cacheDir  string   // "" for none
	platform  string
	release   release
	major     int // the major version needed; 0 for any
	account   *account
	logger    *slog.Logger
	aptConfig string // the file that keeps Debian's package from making a cluster
}

// newFinder returns the finder for the configuration. The major version is that
// of an existing cluster, or 0.
func newFinder(cfg Config, a *account, major int) *finder {
	f := &finder{
		explicit:  cfg.BinDir,
		path:      os.Getenv("PATH"),
		places:    installedPlaces,
		cacheDir:  cfg.CacheDir,
		platform:  platform(),
		release:   pinned,
		major:     major,
		account:   a,
		logger:    cfg.Logger,
		aptConfig: aptClusterConfig,
	}
	if f.explicit == "" {
		f.explicit = os.Getenv("PG_BIN")
	}
	if f.cacheDir == "" {
		f.cacheDir = defaultCacheDir()
	}
	return f
}

// defaultCacheDir returns where downloaded binaries are kept, or "" if there is no
// such place. Root's own cache directory is closed to the user the server runs as.
func defaultCacheDir() string {
	if os.Geteuid() == 0 {
		return "/var/cache/posthorn"
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "posthorn")
}

// platform names this machine as the downloadable packages do, such as linux-x64.
func platform() string {
	arch := runtime.GOARCH
	if arch == "amd64" {
		arch = "x64"
	}
	return runtime.GOOS + "-" + arch
}

// find returns the directory of usable programs. Its error names everything that
// was tried, and every way to get PostgreSQL.
func (f *finder) find(ctx context.Context) (string, error) {
	if f.explicit != "" {
		dir, err := filepath.Abs(f.explicit)
		if err == nil {
			err = f.check(ctx, dir)
		}
		if err != nil {
			return "", fmt.Errorf("the PostgreSQL named by PG_BIN: %w", err)
		}
		return dir, nil
	}
	var refused []error
	for _, dir := range f.candidates() {
		err := f.check(ctx, dir)
		if err == nil {
			return dir, nil
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		refused = append(refused, err)
	}
	for _, get := range []func(context.Context) (string, error){f.fromNPM, f.fromApt} {
		dir, err := get(ctx)
		if err == nil {
			if err = f.check(ctx, dir); err == nil {
				return dir, nil
			}
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		refused = append(refused, err)
	}
	return "", &NotFoundError{Major: f.major, Refused: refused}
}

// candidates lists the directories that hold a postgres program, best first.
func (f *finder) candidates() []string {
	var dirs []string
	add := func(dir string) {
		// A link in a directory of the PATH leads to the real one, which also has
		// initdb and the libraries.
		program, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
		if err != nil {
			return
		}
		if real := filepath.Dir(program); !slices.Contains(dirs, real) {
			dirs = append(dirs, real)
		}
	}
	for _, dir := range filepath.SplitList(f.path) {
		if filepath.IsAbs(dir) {
			add(dir)
		}
	}
	for _, dir := range f.installed() {
		add(dir)
	}
	if f.cacheDir != "" {
		add(filepath.Join(f.cached(), "bin"))
	}
	return dirs
}

// installed lists the directories that match the places, newest version first.
func (f *finder) installed() []string {
	var dirs []string
	for _, pattern := range f.places {
		found, err := filepath.Glob(pattern)
		if err != nil {
			continue // only a malformed pattern
		}
		slices.SortStableFunc(found, func(a, b string) int { return versionIn(b) - versionIn(a) })
		dirs = append(dirs, found...)
	}
	return dirs
}

// lastNumber finds the version in a path such as /usr/lib/postgresql/17/bin.
var lastNumber = regexp.MustCompile(`(\d+)[^\d]*$`)

func versionIn(path string) int {
	m := lastNumber.FindStringSubmatch(path)
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return 0
	}
	return n
}

// check returns nil if the directory's PostgreSQL runs here, as the server's
// account, and its version will do.
func (f *finder) check(ctx context.Context, dir string) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	if err := f.account.reach(real); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return fmt.Errorf("%s has no initdb: only a part of PostgreSQL is installed", dir)
	}
	out, err := runAs(ctx, f.account, "/", filepath.Join(dir, "postgres"), "--version")
	if err != nil {
		return err
	}
	major := majorIn(out)
	switch {
	case major == 0:
		return fmt.Errorf("%s: unknown version %q", dir, out)
	case major < oldestMajor:
		return fmt.Errorf("%s has PostgreSQL %d, which is too old: %d or newer is needed", dir, major, oldestMajor)
	case f.major != 0 && major != f.major:
		return fmt.Errorf("%s has PostgreSQL %d, but the existing cluster was made by %d", dir, major, f.major)
	}
	return nil
}

// versionLine matches what "postgres --version" prints.
var versionLine = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// majorIn returns the major version in the output of "postgres --version", or 0.
func majorIn(out string) int {
	m := versionLine.FindStringSubmatch(out)
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return 0
	}
	return n
}

// lookUp returns the path of a program in the finder's PATH.
func (f *finder) lookUp(program string) (string, error) {
	for _, dir := range filepath.SplitList(f.path) {
		file := filepath.Join(dir, program)
		if info, err := os.Stat(file); err == nil && filepath.IsAbs(dir) && !info.IsDir() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s is not on the PATH", program)
}

// NotFoundError is returned by Start when no usable PostgreSQL was found and none
// could be got.
type NotFoundError struct {
	// Major is the major version that an existing cluster needs, or 0 for any.
	Major int
	// Refused says, for each place that was tried, why it would not do.
	Refused []error
}

// Error lists what was tried and every way to get PostgreSQL.
func (e *NotFoundError) Error() string {
	var b strings.Builder
	b.WriteString("no usable PostgreSQL was found. Tried:")
	for _, err := range e.Refused {
		fmt.Fprintf(&b, "\n  - %s", strings.ReplaceAll(err.Error(), "\n", "\n    "))
	}
	version := fmt.Sprintf("version %d or newer", oldestMajor)
	if e.Major != 0 {
		version = fmt.Sprintf("version %d, which made the existing cluster", e.Major)
	}
	fmt.Fprintf(&b, `
Any one of these helps (%s):
  - set DATABASE_URL to a server of your own
  - set PG_BIN to the directory of the programs postgres and initdb
  - install PostgreSQL: "apt-get install postgresql" (Debian, Ubuntu), "dnf install postgresql-server" (Fedora),
    "apk add postgresql" (Alpine), "brew install postgresql@17" (macOS)
  - install npm, with which the binaries are downloaded`, version)
	return b.String()
}

// Unwrap returns the reasons, for errors.Is and errors.As.
func (e *NotFoundError) Unwrap() []error { return e.Refused }

var errNoCache = errors.New("there is no cache directory to download PostgreSQL to")
