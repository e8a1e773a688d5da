package main

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/posthorn/posthorn/dispatcher"
)

// parse reads a command line without running it.
func parse(t *testing.T, args ...string) cli {
	t.Helper()
	var c cli
	parser, err := kong.New(&c)
	must(t, err)
	_, err = parser.Parse(args)
	must(t, err)
	return c
}

func TestDefaultsAreTheContracts(t *testing.T) {
	t.Parallel()
	serve := parse(t, "serve").Serve
	if !slices.Equal([]time.Duration(serve.RetrySchedule), dispatcher.DefaultSchedule) {
		t.Errorf("serve's schedule is %v", serve.RetrySchedule)
	}
	if serve.addr() != ":8080" || serve.AllowHTTP || len(serve.AllowPrivateNetworks) != 0 || !serve.Handoff ||
		time.Duration(serve.AttemptTimeout) != 15*time.Second || serve.Roles != (roles{true, true}) {
		t.Errorf("serve's defaults are %+v", serve)
	}
	if dev := parse(t, "dev").Dev; dev.RetrySchedule.String() != "1s,2s,4s" {
		t.Errorf("dev's schedule is %v", dev.RetrySchedule)
	}
}

func TestNoRetriesAreNotTheDefaultSchedule(t *testing.T) {
	t.Parallel()
	s := parse(t, "serve", "--retry-schedule=none").Serve.RetrySchedule
	// nil would mean the default to the dispatcher.
	if s == nil || len(s) != 0 || s.String() != "none" {
		t.Errorf("none is %#v", s)
	}
}

func TestSchedulesPrintAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"5s,5m,30m,2h,5h,10h,14h,20h,24h", "100ms,1m30s,1h30m,1h0m5s"} {
		var s retrySchedule
		must(t, s.UnmarshalText([]byte(text)))
		if s.String() != text {
			t.Errorf("%s is printed as %s", text, s)
		}
	}
}

func TestNetworksAreReadWithBlanks(t *testing.T) {
	t.Parallel()
	var n networks
	must(t, n.UnmarshalText([]byte("10.0.0.0/8, fd00::/8")))
	if !slices.Equal(n, networks{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}) {
		t.Errorf("read %v", n)
	}
}

func TestLeasesOutlastAttempts(t *testing.T) {
	t.Parallel()
	for timeout, want := range map[time.Duration]time.Duration{
		time.Second: 30 * time.Second, 15 * time.Second: 30 * time.Second, time.Minute: 75 * time.Second,
	} {
		if got := attemptTimeout(timeout).lease(); got != want {
			t.Errorf("for %s it is %s", timeout, got)
		}
	}
}

func TestALeaseIsAsAskedForOrLongEnough(t *testing.T) {
	t.Parallel()
	second := attemptTimeout(time.Second)
	if got, err := lease(0).orFor(second); err != nil || got != 30*time.Second {
		t.Errorf("by default it is %s, %v", got, err)
	}
	if got, err := parse(t, "serve", "--lease=5s").Serve.Lease.orFor(second); err != nil || got != 5*time.Second {
		t.Errorf("of 5s it is %s, %v", got, err)
	}
	if _, err := lease(time.Second).orFor(second); err == nil {
		t.Error("an attempt may last as long as a lease")
	}
	for _, text := range []string{"", "30", "10ms"} {
		if err := new(lease).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestRolesAreOneOrBoth(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]roles{"api": {api: true}, "dispatch": {dispatch: true}, "dispatch,api": {true, true}} {
		var r roles
		must(t, r.UnmarshalText([]byte(text)))
		if r != want {
			t.Errorf("%s is %v", text, r)
		}
	}
	for _, text := range []string{"", "API", "api,", "api,web"} {
		if err := new(roles).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestReachableIsAnAddressToCall(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"": "localhost", "0.0.0.0": "localhost", "::": "localhost", "127.0.0.1": "127.0.0.1", "example.com": "example.com",
	} {
		if got := reachable(host); got != want {
			t.Errorf("%q is reached at %q", host, got)
		}
	}
}

func TestWhatIsDoneAboutFailingEndpoints(t *testing.T) {
	t.Parallel()
	if got := parse(t, "serve").Serve.faults(); got != (faultConfig{breakerFailures: 10, disableAfter: 120 * time.Hour, drainRate: 100}) {
		t.Errorf("serve's defaults are %+v", got)
	}
	// A first user is to see a dead letter within seconds.
	if got := parse(t, "dev").Dev.faults().breakerFailures; got != 50 {
		t.Errorf("dev's breaker opens after %d failures", got)
	}
	off := parse(t, "serve", "--breaker-failures=0", "--disable-after=never").Serve.faults()
	if off.breakerFailures >= 0 || off.disableAfter >= 0 {
		t.Errorf("switched off they are %+v", off)
	}
	for _, bad := range []string{"0", "-1", "1.5", "many", "1000001", ""} {
		if new(positive).UnmarshalText([]byte(bad)) == nil {
			t.Errorf("a drain rate of %q is accepted", bad)
		}
	}
	for _, bad := range []string{"", "5", "1s", "-1h", "forever"} {
		if new(disableAfter).UnmarshalText([]byte(bad)) == nil {
			t.Errorf("disabling after %q is accepted", bad)
		}
	}
}
