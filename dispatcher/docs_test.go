package dispatcher

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
