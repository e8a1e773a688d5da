package main

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

const aPatch = `Bug: two is taken for one
Harm: the sums are wrong
Caught-by: go test -race -run '^TestSum$/^small$' ./sums -args -patience 5s

--- a/sums/sum.go
+++ b/sums/sum.go
@@ -7,3 +7,4 @@ func one() int {
 func one() int {
-	return 1
+	// -- and more
+	return 2
 }
`

func TestParseMutant_ReadsHeaderAndDiff(t *testing.T) {
	t.Parallel()
	m, err := parseMutant(aPatch)
	if err != nil {
		t.Fatal(err)
	}
	if m.bug != "two is taken for one" || m.harm != "the sums are wrong" {
		t.Errorf("%+v", m)
	}
	if c := m.caughtBy; c.pkg != "./sums" || c.run != "^TestSum$/^small$" || c.test() != "TestSum/small" ||
		!slices.Equal(c.flags, []string{"-race"}) || !slices.Equal(c.toTests, []string{"-patience", "5s"}) {
		t.Errorf("%+v", c)
	}
	if got := m.packages(); !slices.Equal(got, []string{"sums"}) {
		t.Errorf("packages %v", got)
	}
	patched, err := m.apply(fstest.MapFS{"sums/sum.go": {Data: []byte("package sums\n\nfunc one() int {\n\treturn 1\n}\n")}})
	if want := "package sums\n\nfunc one() int {\n\t// -- and more\n\treturn 2\n}\n"; err != nil || patched["sums/sum.go"] != want {
		t.Errorf("%q, %v", patched, err)
	}
}

func TestParseMutant_RefusesWhatIsIncomplete(t *testing.T) {
	t.Parallel()
	for _, missing := range []string{"Bug: two is taken for one\n", "Harm: the sums are wrong\n", " ./sums", "--- a/sums/sum.go\n"} {
		if m, err := parseMutant(strings.Replace(aPatch, missing, "", 1)); err == nil {
			t.Errorf("without %q: %+v", missing, m)
		}
	}
	if _, err := parseMutant("Bugs: many\n" + aPatch); err == nil {
		t.Error("an unknown line of the header is passed over")
	}
}

func TestApply_WantsOnePlaceForEachHunk(t *testing.T) {
	t.Parallel()
	m, err := parseMutant(aPatch)
	if err != nil {
		t.Fatal(err)
	}
	const place = "func one() int {\n\treturn 1\n}\n"
	for name, text := range map[string]string{"none": "package sums\n", "two": place + place, "the end of a line": "// " + place} {
		if _, err := m.files[0].apply(text); err == nil {
			t.Errorf("it applies to a text with %s", name)
		}
	}
}

func TestJudge_CountsOnlyATestThatFails(t *testing.T) {
	t.Parallel()
	failed := errors.New("exit status 1")
	for _, c := range []struct {
		output string
		err    error
		want   verdict
	}{
		{"ok  \tp\t1.2s\n", nil, survived},
		{"ok  \tp\t1.2s [no tests to run]\n", nil, noTest},
		{"--- FAIL: TestSum (0.1s)\n    sum_test.go:3: 2\nFAIL\n", failed, caught},
		{"--- FAIL: TestSum (0.1s)\n    --- FAIL: TestSum/small (0.1s)\nFAIL\n", failed, caught},
		{"# p\nsum.go:3: undefined: x\nFAIL\tp [build failed]\n", failed, doesNotBuild},
		{"panic: test timed out after 2m0s\n\trunning tests:\n", failed, hung},
		{"pgtest: no PostgreSQL\nFAIL\tp\n", failed, notFailed},
	} {
		if got := judge(c.output, c.err); got != c.want {
			t.Errorf("%q is %s, want %s", c.output, got, c.want)
		}
	}
}

// The table in the documentation is printed by make mutants; this holds it to the patches.
func TestPlantedBugs_StandInTheDocumentation(t *testing.T) {
	t.Parallel()
	all, err := readMutants(os.DirFS("patches"))
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Errorf("%d planted bugs, want at least 20", len(all))
	}
	doc, err := os.ReadFile("../../docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if row := "| " + m.number + " | " + m.bug + " | caught | `" + m.caughtBy.test() + "` |"; !strings.Contains(string(doc), row) {
			t.Errorf("docs/faults.md has no row %s", row)
		}
	}
	if n := strings.Count(string(doc), " | caught | `"); n != len(all) {
		t.Errorf("docs/faults.md has %d planted bugs, there are %d", n, len(all))
	}
}
