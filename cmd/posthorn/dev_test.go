package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// devProcess is posthorn dev with what its guide says.
type devProcess struct {
	*process

	api, shop, subscriber string
	key, databaseURL, dir string
	postgres              int
}

func startDev(t *testing.T, env []string, args ...string) *devProcess {
	t.Helper()
	p := &devProcess{process: start(t, env, append([]string{"dev"}, args...)...)}
	p.await(p.out, `Ctrl-C ends all of it`)
	p.key = p.await(p.out, `(?m)^operator key: (\S+)$`)[1]
	p.api = p.await(p.out, `(?m)^  API +(http://\S+)$`)[1]
	p.dir = p.await(p.out, `(?m)^  database +(\S+) +private`)[1]
	p.databaseURL = p.await(p.out, `'(postgres://[^']+)'`)[1]
	text, err := os.ReadFile(filepath.Join(p.dir, "data", "postmaster.pid"))
	must(t, err)
	line, _, _ := strings.Cut(string(text), "\n")
	p.postgres, err = strconv.Atoi(line)
	must(t, err)
	if shop := regexp.MustCompile(`(?m)^  sample shop +(http://\S+)`).FindStringSubmatch(p.out.String()); shop != nil {
		p.shop = shop[1]
		p.subscriber = p.await(p.out, `(?m)^  sample subscriber +(http://\S+)`)[1]
	}
	return p
}

// call makes a request with the operator's key and decodes the answer.
func (p *devProcess) call(method, url, body string, into any) int {
	p.t.Helper()
	request, err := http.NewRequestWithContext(p.t.Context(), method, url, strings.NewReader(body))
	must(p.t, err)
	request.Header.Set("Authorization", "Bearer "+p.key)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	must(p.t, err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	must(p.t, err)
	if into != nil {
		if err := json.Unmarshal(answer, into); err != nil {
			p.t.Fatalf("%s %s: %s", method, url, answer)
		}
	}
	return response.StatusCode
}

func (p *devProcess) publish(payload string) {
	p.t.Helper()
	conn, err := pgx.Connect(p.t.Context(), p.databaseURL)
	must(p.t, err)
	defer conn.Close(p.t.Context())
	_, err = conn.Exec(p.t.Context(), `INSERT INTO posthorn.outbox (event_type, payload) VALUES ('test.event', $1::text::json)`, payload)
	must(p.t, err)
}

// ledger is what GET /v1/ledger says.
type ledger struct {
	Unaccounted int64
}

const order = `{"customer": "Ada", "amount_cents": 1999, "fail": %t}`

func TestDevDeliversWhatTheShopCommitsAndNothingElse(t *testing.T) {
	t.Parallel()
	p := startDev(t, nil)
	if status := p.call(http.MethodPost, p.shop+"/orders", fmt.Sprintf(order, true), nil); status != http.StatusPaymentRequired {
		t.Fatalf("the order that fails is answered with %d", status)
	}
	lost := p.await(p.err, `msg="order (\d+) rolled back"`)[1]
	var kept struct {
		ID int64 `json:"order_id"`
	}
	if status := p.call(http.MethodPost, p.shop+"/orders", fmt.Sprintf(order, false), &kept); status != http.StatusCreated {
		t.Fatalf("the order is answered with %d", status)
	}
	p.await(p.out, fmt.Sprintf(`received order\.created evt_\w{26} \{"order_id":%d,.*\(verified\)`, kept.ID))
	p.publish(`{"by": "psql"}`)
	p.await(p.out, `received test\.event evt_\w{26} \{"by":"psql"\} \(verified\)`)
	if strings.Contains(p.out.String(), `{"order_id":`+lost+`,`) {
		t.Errorf("order %s arrived, which was rolled back", lost)
	}
	var books ledger
	if status := p.call(http.MethodGet, p.api+"/v1/ledger", "", &books); status != http.StatusOK || books.Unaccounted != 0 {
		t.Errorf("the ledger: status %d, %+v", status, books)
	}
	if strings.Contains(p.out.String(), "refused") || strings.Contains(p.err.String(), "level=ERROR") {
		t.Error("something went wrong")
	}

	if status := p.end(os.Interrupt); status != 0 {
		t.Errorf("the end has the status %d", status)
	}
	gone(t, p.postgres)
	if _, err := os.Stat(p.dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", p.dir, err)
	}
}

func TestDevShowsRetriesADeadLetterAndItsReplay(t *testing.T) {
	t.Parallel()
	p := startDev(t, []string{"POSTHORN_RETRY_SCHEDULE=10ms,20ms"})
	if status := p.call(http.MethodPost, p.subscriber+"/break?status=503", "", nil); status != http.StatusOK {
		t.Fatalf("break: %d", status)
	}
	p.publish(`{"number": 1}`)
	id := p.await(p.out, `failed +test\.event (evt_\w+) with status 503`)[1]
	p.await(p.out, `(?s)(failed +test\.event `+id+`.*){3}`)
	deadLetter := p.awaitDeadLetter("test.event")
	if status := p.call(http.MethodPost, p.subscriber+"/repair", "", nil); status != http.StatusOK {
		t.Fatalf("repair: %d", status)
	}
	if status := p.call(http.MethodPost, p.api+"/v1/dead-letters/"+deadLetter+"/replay", "", nil); status/100 != 2 {
		t.Fatalf("replay: %d", status)
	}
	p.await(p.out, `received test\.event `+id+` \{"number":1\} \(verified\)`)
	if n := strings.Count(p.out.String(), "failed   test.event "+id); n != 3 {
		t.Errorf("%d attempts failed, the schedule gives three", n)
	}
}

// awaitDeadLetter waits for one, which is written after the last answer.
func (p *devProcess) awaitDeadLetter(eventType string) (id string) {
	p.t.Helper()
	eventually(p.t, "a dead letter", func() bool {
		var list struct {
			Data []struct {
				ID        string
				EventType string `json:"event_type"`
			}
		}
		if status := p.call(http.MethodGet, p.api+"/v1/dead-letters?limit=100", "", &list); status != http.StatusOK {
			p.t.Fatalf("dead letters: %d", status)
		}
		for _, d := range list.Data {
			if d.EventType == eventType {
				id = d.ID
			}
		}
		return id != ""
	})
	return id
}

func TestDevKilledLeavesNoPostgreSQL(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		return // elsewhere the next start ends it, as devdb's tests show
	}
	p := startDev(t, nil)
	p.end(syscall.SIGKILL)
	gone(t, p.postgres)
	must(t, os.RemoveAll(p.dir))
}

func TestDevKeepsTheDatabase(t *testing.T) {
	t.Parallel()
	// Not t.TempDir: PostgreSQL's account can't reach below that when root runs it.
	dir, err := os.MkdirTemp("", "posthorn-dev-test-")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	env := []string{"POSTHORN_OPERATOR_KEY=my-own-key"}

	first := startDev(t, env, "--data", dir, "--addr", "127.0.0.1:0")
	if first.key != "my-own-key" {
		t.Errorf("the key is %s", first.key)
	}
	first.publish(`{"run": 1}`)
	first.await(first.out, `received test\.event .*"run":1`)
	first.end(syscall.SIGKILL) // its endpoint stays

	second := startDev(t, env, "--data", dir)
	second.publish(`{"run": 2}`)
	second.await(second.out, `received test\.event .*"run":2`)
	var endpoints, events struct{ Data []json.RawMessage }
	second.call(http.MethodGet, second.api+"/v1/events?event_type=test.event", "", &events)
	if len(events.Data) != 2 {
		t.Errorf("%d events are there, of two runs", len(events.Data))
	}
	if status := second.end(syscall.SIGTERM); status != 0 {
		t.Errorf("the end has the status %d", status)
	}

	third := startDev(t, env, "--data", dir, "--no-sample")
	if third.shop != "" {
		t.Error("--no-sample has a shop")
	}
	third.call(http.MethodGet, third.api+"/v1/endpoints", "", &endpoints)
	// The second has removed its own, and the first's if it got the same port.
	if n := len(endpoints.Data); first.subscriber == second.subscriber && n != 0 || n > 1 {
		t.Errorf("%d endpoints are left", n)
	}
	if status := third.end(os.Interrupt); status != 0 {
		t.Errorf("the end has the status %d", status)
	}
}

func TestDevRefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { must(t, taken.Close()) }) // after the subtests, which are parallel
	for _, c := range []struct {
		name, want string
		env, args  []string
	}{
		{"AnAddressInUse", "POSTHORN_ADDR", nil, []string{"--addr", taken.Addr().String()}},
		{"TwoDatabases", "DATABASE_URL", []string{"DATABASE_URL=postgres://x"}, []string{"--data", "/nowhere"}},
		{"AKeyThatCannotBeSent", "POSTHORN_OPERATOR_KEY", []string{"POSTHORN_OPERATOR_KEY=a b"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := command(t, c.env, append([]string{"dev", "--no-sample"}, c.args...)...)
			if r.status != exitFailure || !strings.Contains(r.err, c.want) {
				t.Errorf("status %d: %s", r.status, r.err)
			}
		})
	}
}

func TestListenNearTakesTheNextFreePort(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	if port+portsTried > 65535 {
		port -= portsTried // too near the end: from a little below it
	}
	next, err := listenNear(t.Context(), fmt.Sprintf("127.0.0.1:%d", port))
	must(t, err)
	defer next.Close()
	got := next.Addr().(*net.TCPAddr).Port
	if got == taken.Addr().(*net.TCPAddr).Port || got < port || got > port+portsTried {
		t.Errorf("from %d it took %d", port, got)
	}
}
