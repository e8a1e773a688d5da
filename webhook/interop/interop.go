// Package interop holds Posthorn's signatures against the libraries that
// receivers really use: npm's standardwebhooks and svix, run by Node.js. Tests
// alone use it.
//
// The libraries are pinned in package-lock.json and installed once into the
// user's cache directory, never into the source tree.
package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
)

// Case is one signed message as a receiver gets it.
type Case struct {
	Name      string // names the case in a failure
	Secret    string // the receiver's secret, "whsec_…"
	ID        string // header webhook-id
	Timestamp string // header webhook-timestamp; within 5 minutes of the real clock
	Signature string // header webhook-signature
	Body      []byte // JSON in UTF-8: the libraries decode it
}

// verdict is what verify.mjs says of one case: true, or why it was refused.
type verdict struct {
	OK               bool `json:"ok"`
	StandardWebhooks any  `json:"standardwebhooks"`
	Svix             any  `json:"svix"`
}

// Verify fails t for each case that one of the libraries refuses. It ends the
// test at once if there is no case, or if the libraries cannot be run: without
// Node.js and npm there is no answer, and no answer is not a pass.
func Verify(t testing.TB, cases []Case) {
	t.Helper()
	if len(cases) == 0 {
		t.Fatal("interop: no case to verify")
	}
	node := lookUp(t, "node")
	npm := lookUp(t, "npm")
	cache, err := cacheDir()
	if err != nil {
		t.Fatalf("interop: no place for the npm libraries: %v", err)
	}
	dir, err := install(t.Context(), npm, cache)
	if err != nil {
		t.Fatalf("interop: installing the npm libraries: %v", err)
	}
	verdicts, err := run(t.Context(), node, dir, cases)
	if err != nil {
		t.Fatalf("interop: running verify.mjs: %v", err)
	}
	for i, v := range verdicts {
		if !v.OK {
			t.Errorf("interop: case %q refused: standardwebhooks %v, svix %v",
				cases[i].Name, v.StandardWebhooks, v.Svix)
		}
	}
}

func lookUp(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("interop: %v; this test needs Node.js 20 or later with npm: "+
			"Debian, Ubuntu: apt-get install nodejs npm; macOS: brew install node; others: https://nodejs.org", err)
	}
	return path
}

// run gives the cases to verify.mjs, one a line, and reads as many verdicts.
func run(ctx context.Context, node, dir string, cases []Case) ([]verdict, error) {
	var in, out, stderr bytes.Buffer
	lines := json.NewEncoder(&in)
	for _, c := range cases {
		if err := lines.Encode(map[string]any{
			"secret":      c.Secret,
			"id":          c.ID,
			"timestamp":   c.Timestamp,
			"signature":   c.Signature,
			"body_base64": c.Body, // encoding/json writes []byte in base64
		}); err != nil {
			return nil, fmt.Errorf("encode case %q: %w", c.Name, err)
		}
	}
	cmd := exec.CommandContext(ctx, node, filepath.Join(dir, "verify.mjs"))
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, &in, &out, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, stderr.Bytes())
	}
	verdicts := make([]verdict, 0, len(cases))
	for decoder := json.NewDecoder(&out); decoder.More(); {
		var v verdict
		if err := decoder.Decode(&v); err != nil {
			return nil, fmt.Errorf("decode verdict %d: %w", len(verdicts)+1, err)
		}
		verdicts = append(verdicts, v)
	}
	if len(verdicts) != len(cases) {
		return nil, fmt.Errorf("%d verdicts for %d cases", len(verdicts), len(cases))
	}
	return verdicts, nil
}
