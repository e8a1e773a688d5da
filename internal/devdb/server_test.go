package devdb

import (
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func TestTemporary(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Settings: map[string]string{"work_mem": "5MB", "application_name": `it's a \ test`}})
	conn := connect(t, s.URL())

	t.Run("HasTheDatabaseAndSettings", func(t *testing.T) {
		for query, want := range map[string]string{
			"SELECT current_database()": Database,
			"SHOW server_encoding":      "UTF8",
			"SHOW fsync":                "off",
			"SHOW synchronous_commit":   "off",
			"SHOW max_connections":      "300",
			"SHOW work_mem":             "5MB",
			"SHOW timezone":             "UTC",
			"SHOW application_name":     `it's a \ test`,
		} {
			if got := one(t, conn, query); got != want {
				t.Errorf("%s is %q, want %q", query, got, want)
			}
		}
	})
	t.Run("ListensOnLoopbackOnly", func(t *testing.T) {
		if got := one(t, conn, "SHOW listen_addresses"); got != "127.0.0.1" {
			t.Errorf("it listens on %q", got)
		}
		if got := one(t, conn, "SHOW unix_socket_directories"); got != "" {
			t.Errorf("it has sockets in %q", got)
		}
	})
	t.Run("RefusesAWrongPassword", func(t *testing.T) {
		u, err := url.Parse(s.URL())
		noError(t, err)
		u.User = url.UserPassword(superuser, "guess")
		_, err = pgx.Connect(t.Context(), u.String())
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "28P01" {
			t.Errorf("error is %v, want SQLSTATE 28P01", err)
		}
	})
	t.Run("NeverRunsAsRoot", func(t *testing.T) {
		info, err := os.Stat(s.home.data())
		noError(t, err)
		owner := ownerOf(info)
		if owner.uid == 0 {
			t.Error("the cluster belongs to root")
		}
		if me := os.Geteuid(); me != 0 && int(owner.uid) != me {
			t.Errorf("the cluster belongs to %s", owner.name)
		}
	})
	t.Run("LeavesNothing", func(t *testing.T) {
		pid, dir := s.proc.cmd.Process.Pid, s.Dir()
		noError(t, s.Stop())
		noError(t, s.Stop())
		waitGone(t, pid, dir)
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", dir, err)
		}
		if err := s.Restart(t.Context()); err == nil {
			t.Error("a stopped server restarted")
		}
	})
}

func TestInMemoryIsUsedWhereThereIsRoom(t *testing.T) {
	t.Parallel()
	s := start(t, Config{InMemory: true})
	want := "tmpfs"
	if freeBytes(memoryDir) < memoryNeeded {
		want = "disk"
	}
	got := "disk"
	if filepath.Dir(s.Dir()) == memoryDir {
		got = "tmpfs"
	}
	if got != want {
		t.Errorf("%s is on %s, want %s", s.Dir(), got, want)
	}
	connect(t, s.URL())
}

func TestKept(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openDir(t), "kept")
	first := start(t, Config{Dir: dir, Durable: true})
	conn := connect(t, first.URL())
	if got := one(t, conn, "SHOW fsync") + one(t, conn, "SHOW synchronous_commit"); got != "onon" {
		t.Errorf("fsync and synchronous_commit are %s", got)
	}
	exec1(t, conn, "CREATE TABLE kept AS SELECT 'still here' AS v")
	exec1(t, conn, "CREATE DATABASE other")

	_, err := Start(t.Context(), Config{Dir: dir})
	wantError(t, err, ErrDirInUse)

	noError(t, first.Stop())
	second := start(t, Config{Dir: dir, Durable: true})
	if got := one(t, connect(t, second.URL()), "SELECT v FROM kept"); got != "still here" {
		t.Errorf("the row is %q", got)
	}
	if got := one(t, connect(t, second.URLFor("other")), "SELECT current_database()"); got != "other" {
		t.Errorf("URLFor leads to %q", got)
	}
	info, err := os.Stat(filepath.Join(dir, "password"))
	noError(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the password's mode is %v", info.Mode())
	}
	noError(t, second.Stop())
	if _, err := os.Stat(filepath.Join(dir, "data", "PG_VERSION")); err != nil {
		t.Errorf("Stop removed a kept cluster: %v", err)
	}
}

func TestForeignDirsAreRefusedUntouched(t *testing.T) {
	t.Parallel()
	for name, files := range map[string][]string{
		"AnyFile":       {"notes.txt"},
		"AForeignDB":    {"PG_VERSION", "postgresql.conf"},
		"ADataDir":      {"data/PG_VERSION"},
		"AnotherMarker": {markerName, "data/PG_VERSION"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := openDir(t)
			for _, f := range files {
				noError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o755))
				noError(t, os.WriteFile(filepath.Join(dir, f), []byte("{}"), 0o644))
			}
			before := list(t, dir)
			_, err := Start(t.Context(), Config{Dir: dir})
			wantError(t, err, ErrForeignDir)
			if after := list(t, dir); !slices.Equal(before, after) {
				t.Errorf("before %v, after %v", before, after)
			}
		})
	}
}

// list returns every name below the directory, with its mode and time.
func list(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	noError(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		names = append(names, name+info.Mode().String()+info.ModTime().String())
		return nil
	}))
	return names
}

func TestCrash(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Settings: map[string]string{"synchronous_commit": "on"}})
	before := s.URL()
	conn := connect(t, before)
	exec1(t, conn, "CREATE TABLE survivors AS SELECT 'committed' AS v")
	exec1(t, conn, "BEGIN")
	exec1(t, conn, "INSERT INTO survivors VALUES ('uncommitted')")
	if err := s.Restart(t.Context()); err == nil {
		t.Fatal("a running server restarted")
	}

	noError(t, s.Kill())
	if _, err := conn.Exec(t.Context(), "COMMIT"); err == nil {
		t.Error("a session outlived the crash")
	}
	if _, err := pgx.Connect(t.Context(), before); err == nil {
		t.Error("the server takes connections after the crash")
	}
	noError(t, s.Kill())
	noError(t, s.Restart(t.Context()))
	if s.URL() != before {
		t.Errorf("the URL changed from %s to %s", before, s.URL())
	}
	if got := one(t, connect(t, s.URL()), "SELECT string_agg(v, ',') FROM survivors"); got != "committed" {
		t.Errorf("after the crash there is %q", got)
	}
	if raw, err := os.ReadFile(s.home.log()); err != nil || !strings.Contains(string(raw), "was not properly shut down") {
		t.Errorf("the log does not tell of a recovery: %v", err)
	}
}

func TestATakenPortIsAnErrorThatNamesIt(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	t.Cleanup(func() { l.Close() })
	port := l.Addr().(*net.TCPAddr).Port
	_, err = Start(t.Context(), Config{Port: port})
	wantError(t, err, errPortTaken)
	if !strings.Contains(err.Error(), strconv.Itoa(port)) || !strings.Contains(err.Error(), "Address already in use") {
		t.Errorf("the error is %v", err)
	}
}

func TestAFailedStartShowsTheServersLog(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), Config{Settings: map[string]string{"shared_buffers": "much"}})
	if err == nil || !strings.Contains(err.Error(), `invalid value for parameter "shared_buffers"`) {
		t.Errorf("the error is %v", err)
	}
}

func TestAnUnreachableDirIsRefusedByName(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	info, err := os.Stat(dir)
	noError(t, err)
	mine := ownerOf(info)
	closed := filepath.Join(dir, "closed")
	noError(t, os.Mkdir(closed, 0o700))

	stranger := &account{name: "stranger", uid: mine.uid + 1, gid: mine.gid + 1}
	if err := stranger.reach(closed); err == nil || !strings.Contains(err.Error(), closed) {
		t.Errorf("a stranger's error is %v", err)
	}
	noError(t, stranger.reach(dir))
	noError(t, mine.reach(closed))
	noError(t, (*account)(nil).reach(closed))

	if os.Geteuid() == 0 {
		if _, err := Start(t.Context(), Config{Dir: filepath.Join(closed, "db")}); err == nil || !strings.Contains(err.Error(), closed) {
			t.Errorf("the error is %v", err)
		}
	}
}
