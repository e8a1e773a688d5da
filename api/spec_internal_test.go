package api

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/posthorn/posthorn/api/keys"
)

// The type's methods are not called: the routes alone are looked at.
func routesOnly(t *testing.T) *Server {
	t.Helper()
	spec, err := loadSpec()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{config: Config{Keys: keys.NewStore(nil)}, spec: spec}
	s.echo = s.newEcho()
	return s
}

func TestTheMountedRoutesAreThoseOfTheDocument(t *testing.T) {
	t.Parallel()
	s := routesOnly(t)
	var mounted, documented []string
	for _, r := range s.echo.Routes() {
		mounted = append(mounted, r.Method+" "+r.Path)
	}
	for route := range s.spec.operations {
		documented = append(documented, route)
	}
	slices.Sort(mounted)
	slices.Sort(documented)
	if !slices.Equal(mounted, documented) {
		t.Errorf("mounted:    %q\ndocumented: %q", mounted, documented)
	}
	if len(mounted) < 18 {
		t.Errorf("only %d routes", len(mounted))
	}
}

func TestEveryErrorHasAStatus(t *testing.T) {
	t.Parallel()
	for code, kind := range codes {
		if kind.status < 400 || kind.status > 599 || kind.title == "" {
			t.Errorf("%s: status %d, title %q", code, kind.status, kind.title)
		}
	}
	for _, s := range sentinels {
		if _, ok := codes[s.code]; !ok || s.detail == "" {
			t.Errorf("%v has the code %q, which has no status, or no words", s.err, s.code)
		}
	}
}

func TestTheDocumentIsServedWithoutTheGeneratorsHints(t *testing.T) {
	t.Parallel()
	spec, err := loadSpec()
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(spec.json) || bytes.Contains(spec.json, []byte("x-go-")) {
		t.Errorf("%.300s", spec.json)
	}
}

func TestNumbersOfAnySizeAreChecked(t *testing.T) {
	t.Parallel()
	v, err := decode([]byte(`{"a":[1e999999999,-1e999999999,12345678901234567890]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range v.(map[string]any)["a"].([]any) {
		if _, ok := n.(float64); !ok {
			t.Errorf("%v is a %T", n, n)
		}
	}
}
