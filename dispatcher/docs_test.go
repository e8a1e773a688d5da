package dispatcher

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestTelemetry_IsWhatTheDocumentationSays holds docs/telemetry.md to the metrics
// that the package makes, both ways.
func TestTelemetry_IsWhatTheDocumentationSays(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	must(t, err)
	var source []byte
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		source = append(source, text...)
	}
	page, err := os.ReadFile("../docs/telemetry.md")
	must(t, err)
	made := names(source, `(?:counter|histogram|ObservableGauge)\("(posthorn\.[a-z._]+)", (?:metric\.WithUnit\()?"`)
	made = append(made, names(source, `histogram\("(posthorn\.[a-z._]+)"`)...)
	documented := names(page, "(?m)^\\| `(posthorn\\.[a-z._]+)` \\| (?:counter|histogram|gauge)")
	slices.Sort(made)
	slices.Sort(documented)
	made = slices.Compact(made)
	if len(made) < 10 || !slices.Equal(made, documented) {
		t.Errorf("made %q\ndocumented %q", made, documented)
	}
}

func names(in []byte, pattern string) (list []string) {
	for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(in, -1) {
		list = append(list, string(m[1]))
	}
	return list
}

// TestErrorKinds_AreExplainedToOperators holds the table of docs/operations.md to
// the kinds that there are, both ways.
func TestErrorKinds_AreExplainedToOperators(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("status.go")
	must(t, err)
	page, err := os.ReadFile("../docs/operations.md")
	must(t, err)
	made := names(source, `Kind\w+\s+ErrorKind = "(\w+)"`)
	_, section, _ := strings.Cut(string(page), "| `error_kind` |")
	section, _, _ = strings.Cut(section, "\n\n")
	told := names([]byte(section), "(?m)^\\| `(\\w+)` \\|")
	slices.Sort(made)
	slices.Sort(told)
	if len(made) == 0 || !slices.Equal(made, told) {
		t.Errorf("there are %v, the page explains %v", made, told)
	}
}
