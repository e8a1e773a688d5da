package arch

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

func TestThePackagesKeepToTheRules(t *testing.T) {
	t.Parallel()
	sources, err := readSources(os.DirFS(moduleRoot))
	if err != nil {
		t.Fatal(err)
	}
	if sources["cmd/posthorn"] == nil || sources["webhook"] == nil {
		t.Fatalf("only %d packages were found", len(sources))
	}
	for _, v := range violations(sources) {
		t.Error(v)
	}
	for _, name := range stale(sources, "inbox") {
		t.Errorf("there is a rule for %s, but no such package", name)
	}
}

func TestEveryRuleHasAReason(t *testing.T) {
	t.Parallel()
	reasons := []string{environmentReaders.because}
	for _, r := range inModule {
		reasons = append(reasons, r.because)
	}
	for _, r := range importedBy {
		reasons = append(reasons, r.because)
	}
	for _, r := range foreignRules {
		reasons = append(reasons, r.because)
	}
	for _, r := range closed {
		reasons = append(reasons, r.because)
	}
	for _, reason := range reasons {
		if len(reason) < 15 {
			t.Errorf("the reason %q says nothing", reason)
		}
	}
}

// file makes a source tree of one file.
func file(name, text string) fstest.MapFS { return fstest.MapFS{name: {Data: []byte(text)}} }

func TestViolationsAreFound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, file, text, want string
	}{
		{"AnArrowThatPointsUp", "dispatcher/x.go", `package d; import _ "` + module + `/api"`, "dispatcher must not import api"},
		{"ASidewaysArrow", "subscriptions/x.go", `package s; import "` + module + `/outbox"`, "subscriptions must not import outbox"},
		{"AForeignModuleInWebhook", "webhook/x.go", `package w; import "github.com/google/uuid"`, "webhook must not import github.com/google/uuid"},
		{"AnotherThanPgxInOutbox", "outbox/x.go", `package o; import "go.opentelemetry.io/otel"`, "outbox must not import go.opentelemetry.io/otel"},
		{"EchoOutsideTheAPI", "dispatcher/x.go", `package d; import "github.com/labstack/echo/v4/middleware"`, "must not import github.com/labstack/echo/v4/middleware"},
		{"TheCommandAsALibrary", "api/x.go", `package a; import "` + module + `/cmd/posthorn"`, "a command is nobody's library"},
		{"TheSamplesInTheService", "api/x.go", `package a; import "` + module + `/internal/sample"`, "samples must not become part"},
		{"TheEnvironment", "api/x.go", "package a\nimport \"os\"\nvar x = os.Getenv(\"X\")", "must not read the environment (api/x.go:3:9)"},
		{"TheEnvironmentUnderAnotherName", "api/x.go", "package a\nimport sys \"os\"\nvar x, _ = sys.LookupEnv(\"X\")", "must not read the environment"},
		{"APackageWithoutARule", "util/x.go", `package util`, "util is a new package"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			sources, err := readSources(file(c.file, c.text))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(violations(sources), "\n"); !strings.Contains(got, c.want) {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

func TestWhatIsAllowedIsNoViolation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, file, text string }{
		{"AnArrowThatPointsDown", "api/x.go", `package a; import _ "` + module + `/dispatcher"`},
		{"TheStandardLibrary", "webhook/x.go", `package w; import "crypto/hmac"`},
		{"PgxInOutbox", "outbox/x.go", `package o; import "github.com/jackc/pgx/v5/pgxpool"`},
		{"EchoInTheAPI", "api/x.go", `package a; import "github.com/labstack/echo/v4"`},
		{"AnythingInTheCommand", "cmd/posthorn/x.go", "package main\nimport (\n\"os\"\n_ \"" + module + "/internal/sample\"\n)\nvar _ = os.Environ()"},
		{"ATest", "webhook/x_test.go", `package w; import "github.com/google/uuid"`},
		{"TestData", "webhook/testdata/x.go", `package w; import "github.com/google/uuid"`},
		{"AFieldOfTheSameName", "api/x.go", "package a\nimport _ \"os\"\ntype t struct{ Getenv int }\nvar v t\nvar x = v.Getenv"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			sources, err := readSources(file(c.file, c.text))
			if err != nil {
				t.Fatal(err)
			}
			if got := violations(sources); len(got) != 0 {
				t.Errorf("found %q", got)
			}
		})
	}
}

func TestStaleRulesAreFound(t *testing.T) {
	t.Parallel()
	got := stale(map[string]*source{"api": {}}, "inbox")
	if len(got) != len(inModule)-2 {
		t.Errorf("%d of %d rules are called stale", len(got), len(inModule))
	}
}
