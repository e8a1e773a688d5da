package devdb

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func TestAKilledParentLeavesNoServer(t *testing.T) {
	t.Parallel()
	tmp := openDir(t)
	program, err := os.Executable()
	noError(t, err)
	inTmp := func(c *exec.Cmd) { c.Env = append(c.Env, "TMPDIR="+tmp) }

	c, _ := startChild(t, program, "-", inTmp)
	if !strings.HasPrefix(c.home, tmp) {
		t.Fatalf("the child's directory is %s, not in %s", c.home, tmp)
	}
	running, _ := startChild(t, program, "-", inTmp)

	noError(t, c.cmd.Process.Kill())
	_ = c.cmd.Wait() // the lock goes with the process
	if runtime.GOOS == "linux" {
		waitGone(t, c.pid, c.home) // the kernel's doing; elsewhere it is the sweep's
	}
	sweepStale(t.Context(), []string{tmp})
	waitGone(t, c.pid, c.home)

	t.Run("AndTheSweepRemovesItsDirectory", func(t *testing.T) {
		if _, err := os.Stat(c.home); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", c.home, err)
		}
	})
	t.Run("ButNotALivingOnes", func(t *testing.T) {
		connect(t, running.url)
		if _, err := os.Stat(running.home); err != nil {
			t.Error(err)
		}
	})
}

func TestAKilledParentsKeptDirCanBeUsedAtOnce(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openDir(t), "kept")
	program, err := os.Executable()
	noError(t, err)
	c, _ := startChild(t, program, dir, nil)
	exec1(t, connect(t, c.url), "CREATE TABLE kept AS SELECT 'still here' AS v")

	noError(t, c.cmd.Process.Kill())
	_ = c.cmd.Wait() // the lock goes with the process
	s := start(t, Config{Dir: dir})
	if got := one(t, connect(t, s.URL()), "SELECT v FROM kept"); got != "still here" {
		t.Errorf("the row is %q", got)
	}
	waitGone(t, c.pid, dir+"/data ")
}

func TestAnOrphanIsEndedAndItsEndLogged(t *testing.T) {
	t.Parallel()
	told := make(chan string, 1)
	s := start(t, Config{Logger: slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		told <- string(p)
		return len(p), nil
	}), nil))})
	pid := s.proc.cmd.Process.Pid
	noError(t, endOrphan(t.Context(), s.home.data()))
	waitGone(t, pid, s.home.path)
	if got := <-told; !strings.Contains(got, "ended by itself") {
		t.Errorf("the log says %q", got)
	}
	// Nothing to end: the process has gone, and there is no lock file.
	noError(t, endOrphan(t.Context(), s.home.data()))
}

// writerFunc is an io.Writer that is a function.
type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestTheSweepSparesWhatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	tmp := openDir(t)
	kept := `{"program":"` + markerProgram + `","temporary":false}`
	for name, content := range map[string]string{
		temporaryPrefix + "no-marker":      "",
		temporaryPrefix + "foreign-marker": `{"program":"another","temporary":true}`,
		temporaryPrefix + "kept":           kept,
		"other-name":                       `{"program":"` + markerProgram + `","temporary":true}`,
	} {
		dir := filepath.Join(tmp, name)
		noError(t, os.Mkdir(dir, 0o755))
		if content != "" {
			noError(t, os.WriteFile(filepath.Join(dir, markerName), []byte(content), 0o600))
		}
	}
	stale := filepath.Join(tmp, temporaryPrefix+"stale")
	noError(t, os.Mkdir(stale, 0o755))
	noError(t, os.WriteFile(filepath.Join(stale, markerName), []byte(`{"program":"`+markerProgram+`","temporary":true}`), 0o600))

	sweepStale(t.Context(), []string{tmp})
	entries, err := os.ReadDir(tmp)
	noError(t, err)
	if len(entries) != 4 {
		t.Errorf("left are %v", entries)
	}
	if _, err := os.Stat(stale); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the stale directory is still there: %v", err)
	}
}

func TestAnOrdinaryUserCanRunIt(t *testing.T) {
	t.Parallel()
	tmp := openDir(t)
	noError(t, os.Chmod(tmp, 0o1777))
	program := filepath.Join(tmp, "devdb.test")
	copyProgram(t, program)

	c, stop := startChild(t, program, "-", func(c *exec.Cmd) {
		c.Dir = tmp
		c.Env = append(c.Env, "TMPDIR="+tmp, "HOME="+tmp)
		if os.Geteuid() == 0 {
			c.SysProcAttr = childAttr(&account{uid: 65534, gid: 65534}, 9)
		}
	})
	connect(t, c.url)
	info, err := os.Stat(filepath.Join(c.home, "data"))
	noError(t, err)
	if os.Geteuid() == 0 && ownerOf(info).uid != 65534 {
		t.Errorf("the cluster belongs to %s", ownerOf(info).name)
	}
	stop()
	noError(t, c.cmd.Wait())
	if _, err := os.Stat(c.home); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", c.home, err)
	}
}

// copyProgram copies this test binary to where other users can run it.
func copyProgram(t *testing.T, to string) {
	t.Helper()
	syscall.ForkLock.RLock() // as in script
	defer syscall.ForkLock.RUnlock()
	from, err := os.Executable()
	noError(t, err)
	in, err := os.Open(from)
	noError(t, err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	noError(t, err)
	_, err = io.Copy(out, in)
	noError(t, err)
	noError(t, out.Close())
	noError(t, os.Chmod(to, 0o755))
}
