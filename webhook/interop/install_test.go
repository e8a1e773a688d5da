package interop

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestInstall(t *testing.T) {
	t.Parallel()

	t.Run("LeavesOneInstallationWhenSeveralStartAtOnce", func(t *testing.T) {
		t.Parallel()
		npm, parent := lookUp(t, "npm"), filepath.Join(t.TempDir(), "new")
		var group sync.WaitGroup
		var dirs [3]string
		for i := range dirs {
			group.Go(func() {
				var err error
				if dirs[i], err = install(t.Context(), npm, parent); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()

		for _, dir := range dirs {
			if _, err := os.Stat(filepath.Join(dir, "node_modules", "svix")); err != nil {
				t.Errorf("an incomplete installation was returned: %v", err)
			}
		}
		entries, err := os.ReadDir(parent)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != 2 { // the installation and its lock
			t.Errorf("%s holds %v, want one installation and its lock", parent, entries)
		}
	})

	t.Run("LeavesNothingThatLooksFinishedWhenItFails", func(t *testing.T) {
		t.Parallel()
		parent := t.TempDir()
		if _, err := install(t.Context(), lookUp(t, "false"), parent); err == nil {
			t.Fatal("a failed npm was taken for a success")
		}
		entries, err := os.ReadDir(parent)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if !strings.HasSuffix(entry.Name(), ".lock") {
				t.Errorf("%s is left behind", entry.Name())
			}
		}
	})
}

func TestLockFileNamesNoRegistry(t *testing.T) {
	t.Parallel()
	locked, err := files.ReadFile("package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(locked), "://") {
		t.Error("package-lock.json holds a URL; make it again with the .npmrc beside it")
	}
}
