package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/posthorn/posthorn/internal/doctor"
	"github.com/posthorn/posthorn/internal/pgtest"
)

func TestDoctorFindsNothingWhileServeRuns(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	env := []string{"DATABASE_URL=" + db.URL}
	p, _ := startServe(t, append(env, "POSTHORN_ENCRYPTION_KEYSET="+strings.TrimSpace(succeed(t, nil, "keyset", "create").out)))
	eventually(t, "the node and its audit", func() bool {
		r := command(t, env, "doctor", "--deep")
		return r.status == 0 && !strings.Contains(r.out, "warn")
	})
	var report doctorJSON
	must(t, json.Unmarshal([]byte(succeed(t, env, "doctor", "--json").out), &report))
	if !report.Healthy || len(report.Checks) < 10 {
		t.Errorf("as JSON: %+v", report)
	}
	if status := p.end(os.Interrupt); status != 0 {
		t.Errorf("serve ends with %d", status)
	}
	r := command(t, env, "doctor")
	if r.status != exitFailure || !strings.Contains(r.out, "start posthorn serve") || !strings.Contains(r.err, "1 of ") {
		t.Errorf("without a node: status %d:\n%s%s", r.status, r.out, r.err)
	}
}

func TestDoctorSaysThatTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	r := command(t, []string{"DATABASE_URL=postgres://posthorn:hush@127.0.0.1:1/away"}, "doctor", "--json")
	var report doctorJSON
	must(t, json.Unmarshal([]byte(r.out), &report))
	if r.status != exitFailure || report.Healthy || len(report.Checks) != 1 || report.Checks[0].State != doctor.Failure {
		t.Errorf("status %d: %+v", r.status, report)
	}
	if strings.Contains(r.out+r.err, "hush") {
		t.Errorf("a secret is shown: %s%s", r.out, r.err)
	}
}
