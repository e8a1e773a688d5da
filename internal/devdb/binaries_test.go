package devdb

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testFinder returns a finder that sees nothing of this machine.
func testFinder(t *testing.T, dir string) *finder {
	t.Helper()
	a, err := serverAccount("")
	noError(t, err)
	return &finder{
		path:      filepath.Join(dir, "path"),
		cacheDir:  filepath.Join(dir, "cache"),
		platform:  "linux-x64",
		release:   release{version: "17.1.0", major: 17},
		account:   a,
		logger:    slog.New(slog.DiscardHandler),
		aptConfig: filepath.Join(dir, "createcluster.conf"),
	}
}

// fakePostgres writes programs that know their version and nothing else.
func fakePostgres(t *testing.T, dir, version string) {
	t.Helper()
	script(t, dir, "postgres", `echo "postgres (PostgreSQL) `+version+`"`)
	script(t, dir, "initdb", "exit 1")
}

func TestFind(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		have     map[string]string // version by directory
		explicit string
		major    int
		want     string // "" for an error
		err      string
	}{
		"TheExplicitDirComesFirst": {
			have: map[string]string{"own": "15.3", "path": "17.2"}, explicit: "own", want: "own"},
		"AnExplicitDirIsNotPassedOver": {
			have: map[string]string{"own": "13.9", "path": "17.2"}, explicit: "own",
			err: "PG_BIN: DIR/own has PostgreSQL 13, which is too old: 14 or newer is needed"},
		"ThePathComesBeforeInstalledOnes": {
			have: map[string]string{"path": "15.3", "installed/17/bin": "17.2"}, want: "path"},
		"TheNewestInstalledOneIsTaken": {
			have: map[string]string{"installed/9/bin": "9.6", "installed/16/bin": "16.1", "installed/18/bin": "18beta1"}, want: "installed/18/bin"},
		"OldOnesArePassedOver": {
			have: map[string]string{"path": "13.9", "installed/14/bin": "14.0"}, want: "installed/14/bin"},
		"AClusterNeedsItsOwnVersion": {
			have: map[string]string{"path": "15.3", "installed/16/bin": "16.1", "installed/17/bin": "17.2"}, major: 16, want: "installed/16/bin"},
		"TheCacheComesLast": {
			have: map[string]string{"path": "13.9", "cache/postgres-17.1.0-linux-x64/bin": "17.1"}, want: "cache/postgres-17.1.0-linux-x64/bin"},
		"NothingIsAnErrorWithEveryWay": {
			err: "DATABASE_URL"},
		"TheErrorSaysWhyOnesWereRefused": {
			have: map[string]string{"path": "15.3"}, major: 16, err: "DIR/path has PostgreSQL 15, but the existing cluster was made by 16"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := openDir(t)
			for sub, version := range c.have {
				fakePostgres(t, filepath.Join(dir, sub), version)
			}
			f := testFinder(t, dir)
			f.places = []string{filepath.Join(dir, "installed/*/bin")}
			f.major = c.major
			if c.explicit != "" {
				f.explicit = filepath.Join(dir, c.explicit)
			}
			got, err := f.find(t.Context())
			if c.want == "" {
				if err == nil || !strings.Contains(err.Error(), strings.ReplaceAll(c.err, "DIR", dir)) {
					t.Fatalf("found %q, error %v", got, err)
				}
				return
			}
			noError(t, err)
			if want := filepath.Join(dir, c.want); got != want {
				t.Errorf("found %s, want %s", got, want)
			}
		})
	}
}

func TestFindFollowsLinksToTheRealDirectory(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	fakePostgres(t, filepath.Join(dir, "real"), "16.1")
	f := testFinder(t, dir)
	noError(t, os.Mkdir(f.path, 0o755))
	noError(t, os.Symlink(filepath.Join(dir, "real/postgres"), filepath.Join(f.path, "postgres")))
	got, err := f.find(t.Context())
	noError(t, err)
	if want := filepath.Join(dir, "real"); got != want {
		t.Errorf("found %s, want %s", got, want)
	}
}

func TestNotFoundNamesEveryWay(t *testing.T) {
	t.Parallel()
	_, err := testFinder(t, openDir(t)).find(t.Context())
	if _, ok := errors.AsType[*NotFoundError](err); !ok {
		t.Fatalf("error is %v", err)
	}
	for _, way := range []string{"DATABASE_URL", "PG_BIN", "apt-get", "dnf", "apk", "brew", "npm"} {
		if !strings.Contains(err.Error(), way) {
			t.Errorf("the error does not mention %s: %v", way, err)
		}
	}
}

func TestApt(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	f := testFinder(t, dir)
	f.places = []string{filepath.Join(dir, "installed/*/bin")}
	noError(t, os.WriteFile(f.aptConfig, []byte("#create_main_cluster = true\n"), 0o644))
	calls := filepath.Join(dir, "calls")
	// The first install fails, as it does without package lists.
	script(t, f.path, "apt-get", `
echo "$@" $(tail -n 1 `+f.aptConfig+`) >> `+calls+`
[ "$(wc -l < `+calls+`)" -gt 1 ] || exit 100
mkdir -p `+dir+`/installed/15/bin
`)
	got, err := f.fromApt(t.Context())
	if os.Geteuid() != 0 {
		if err == nil || !strings.Contains(err.Error(), "only root") {
			t.Errorf("found %q, error %v", got, err)
		}
		return
	}
	noError(t, err)
	if want := filepath.Join(dir, "installed/15/bin"); got != want {
		t.Errorf("it gave %s, want %s", got, want)
	}
	raw, err := os.ReadFile(calls)
	noError(t, err)
	want := `install -y --no-install-recommends postgresql-common #create_main_cluster = true
update #create_main_cluster = true
install -y --no-install-recommends postgresql-common #create_main_cluster = true
install -y --no-install-recommends postgresql create_main_cluster = false
`
	if string(raw) != want {
		t.Errorf("the calls were\n%swant\n%s", raw, want)
	}
	raw, err = os.ReadFile(f.aptConfig)
	noError(t, err)
	if string(raw) != "#create_main_cluster = true\n" {
		t.Errorf("the configuration was left as %q", raw)
	}
}
