package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// hangs is how long the tests of one planted bug may take.
const hangs = 2 * time.Minute

func main() {
	only := flag.String("only", "", "the number of the one planted bug to run")
	check := flag.Bool("check", false, "see only whether each planted bug applies and compiles")
	verbose := flag.Bool("v", false, "show what the tests say of the planted bugs that they catch")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	all, err := readMutants(os.DirFS("internal/mutants/patches"))
	if err == nil && *only != "" {
		all = slices.DeleteFunc(all, func(m mutant) bool { return m.number != *only })
	}
	switch {
	case err != nil:
	case len(all) == 0:
		err = fmt.Errorf("there is no planted bug %q in internal/mutants/patches: is this the top of the tree?", *only)
	case *check:
		err = checkAll(".", all)
	default:
		err = runAll(ctx, ".", all, *verbose)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// checkAll sees whether each planted bug applies and compiles, in memory.
func checkAll(tree string, all []mutant) error {
	tree, err := filepath.Abs(tree)
	if err != nil {
		return err
	}
	var dirs []string
	for _, m := range all {
		dirs = append(dirs, m.packages()...)
	}
	slices.Sort(dirs)
	c, err := newCompiler(tree, slices.Compact(dirs))
	if err != nil {
		return err
	}
	bad := 0
	for _, m := range all {
		if err := m.compiles(c); err != nil {
			bad++
			fmt.Printf("%s-%s: %v\n", m.number, m.name, err)
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d planted bugs can't be planted any more", bad, len(all))
	}
	return nil
}

func (m mutant) compiles(c *compiler) error {
	patched, err := m.apply(os.DirFS(c.tree))
	if err != nil {
		return err
	}
	for _, dir := range m.packages() {
		if err := c.compile(dir, patched); err != nil {
			return err
		}
	}
	return nil
}

// runAll plants each bug in a copy of the tree and prints the table.
func runAll(ctx context.Context, tree string, all []mutant, verbose bool) error {
	dir, err := os.MkdirTemp("", "posthorn-mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := copyTree(tree, dir); err != nil {
		return err
	}
	if err := runBaseline(ctx, dir, all); err != nil {
		return err
	}
	fmt.Printf("| # | planted bug | verdict | by | s |\n|---|---|---|---|---|\n")
	bad := 0
	for _, m := range all {
		begin := time.Now()
		v, output := m.run(ctx, dir)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fmt.Printf("| %s | %s | %s | `%s` | %.0f |\n", m.number, m.bug, v, m.caughtBy.test(), time.Since(begin).Seconds())
		if v != caught {
			bad++
		}
		if v != caught || verbose {
			fmt.Fprintln(os.Stderr, output)
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d planted bugs were not caught", bad, len(all))
	}
	fmt.Printf("\n%d planted bugs, all caught.\n", len(all))
	return nil
}

// runBaseline sees that the tests pass as long as no bug is planted, those that can
// together at once.
func runBaseline(ctx context.Context, dir string, all []mutant) error {
	var groups []command
	for _, m := range all {
		i := slices.IndexFunc(groups, m.caughtBy.alike)
		if i < 0 {
			groups, i = append(groups, m.caughtBy), len(groups)
			groups[i].run = ""
		}
		// -run takes a / for the border of subtests: the tests whole, then.
		test, _, _ := strings.Cut(m.caughtBy.run, "/")
		groups[i].run = strings.TrimPrefix(groups[i].run+"|"+test, "|")
	}
	for _, c := range groups {
		if output, err := c.exec(ctx, dir); err != nil {
			return fmt.Errorf("the tests of %s fail with no bug planted: %w\n%s", c.pkg, err, output)
		}
	}
	return nil
}

// run plants the bug, has its test run, and takes it out again.
func (m mutant) run(ctx context.Context, dir string) (v verdict, output string) {
	patched, err := m.apply(os.DirFS(dir))
	if err != nil {
		return doesNotApply, err.Error()
	}
	whole, err := readFiles(dir, patched)
	if err != nil {
		return doesNotApply, err.Error()
	}
	if err := writeFiles(dir, patched); err != nil {
		return doesNotApply, err.Error()
	}
	output, err = m.caughtBy.exec(ctx, dir)
	v = judge(output, err)
	if err := writeFiles(dir, whole); err != nil { // the next would meet this one
		return doesNotApply, err.Error()
	}
	return v, output
}
