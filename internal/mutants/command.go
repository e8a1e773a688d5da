package main

import (
	"context"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// command is a go test of one package: the flags, what runs, and what the test
// binary is told.
type command struct {
	flags   []string // without -run
	run     string
	pkg     string
	toTests []string
}

// parseCommand reads "go test -race -run '^TestX$' ./package -args …".
func parseCommand(s string) command {
	var c command
	words := strings.Fields(s)
	for i := 0; i < len(words); i++ {
		word := strings.Trim(words[i], "'")
		switch {
		case i < 2 && (word == "go" || word == "test"):
		case word == "-run" && i+1 < len(words):
			i++
			c.run = strings.Trim(words[i], "'")
		case word == "-args":
			c.toTests = words[i+1:]
			return c
		case strings.HasPrefix(word, "./"):
			c.pkg = word
		default:
			c.flags = append(c.flags, word)
		}
	}
	return c
}

// alike reports whether both can run at once.
func (c command) alike(other command) bool {
	return c.pkg == other.pkg && slices.Equal(c.flags, other.flags) && slices.Equal(c.toTests, other.toTests)
}

// test is the name of what runs, for the table.
func (c command) test() string { return strings.NewReplacer("^", "", "$", "").Replace(c.run) }

// go test in the copy. Its compilations are kept for the next time, although
// the copy is another: -trimpath makes them alike. Vet has its own place.
func (c command) exec(ctx context.Context, tree string) (output string, err error) {
	args := append([]string{"test"}, c.flags...)
	args = append(args, "-trimpath", "-vet=off", "-count=1", "-timeout="+hangs.String(), "-run", c.run, c.pkg)
	if len(c.toTests) > 0 {
		args = append(append(args, "-args"), c.toTests...)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = tree
	text, err := cmd.CombinedOutput()
	return string(text), err
}

var (
	failedTest = regexp.MustCompile(`(?m)^\s*--- FAIL: (Test\S+)`)
	noTests    = regexp.MustCompile(`(?m)no tests to run`)
)

// verdict is what became of a planted bug.
type verdict string

// The verdicts. Only caught is well.
const (
	caught       verdict = "caught"
	survived     verdict = "SURVIVED"
	doesNotApply verdict = "does not apply"
	doesNotBuild verdict = "does not build"
	hung         verdict = "hung"
	noTest       verdict = "no such test"
	notFailed    verdict = "broke something else" // go test failed, and no test
)

// judge reads go test's output; err is its exit.
func judge(output string, err error) verdict {
	switch {
	case strings.Contains(output, "[build failed]"), strings.Contains(output, "[setup failed]"):
		return doesNotBuild
	case noTests.MatchString(output):
		return noTest
	case err == nil:
		return survived
	case strings.Contains(output, "panic: test timed out"):
		return hung
	case failedTest.MatchString(output):
		return caught
	}
	return notFailed
}
