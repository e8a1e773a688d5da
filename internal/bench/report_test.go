package bench

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func pointerTo[T any](v T) *T { return &v }

// full is a report of every section.
func full() *Report {
	cpu := CPU{SenderUS: pointerTo(33.0), DatabaseUS: pointerTo(28.0)}
	return &Report{
		StartedAt: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), Seconds: 480,
		Machine: Machine{OS: "linux", Arch: "amd64", CPUs: 2, Go: "go1.26", PostgreSQL: "15.18", Private: true, Fsync: "on", SynchronousCommit: "on"},
		Throughput: &Throughput{Rounds: 5, RawPerSecond: 40_000, RawCPU: cpu, PeakMemoryBytes: pointerTo(int64(100e6)), Cases: []Case{
			{Name: caseNaive, DeliveriesPerSecond: 1000, CPU: cpu}, {Name: caseOne, DeliveriesPerSecond: 24_000, Ratio: 0.6, CPU: cpu},
			{Name: caseMany, Endpoints: 1000, DeliveriesPerSecond: 10_000, Ratio: 0.25, CPU: cpu},
		}},
		Payloads:  []Case{{Name: "200 KB", PayloadBytes: 200 << 10, DeliveriesPerSecond: 900, MegabytesPerSecond: 184, Ratio: 0.4}},
		Latency:   []Latency{{PerSecond: 1000, AchievedPerSecond: 800, P50MS: 3, P99MS: 6}},
		Idle:      &Idle{Seconds: 10, SenderPercent: pointerTo(1.5)},
		Producer:  []Producer{{Connections: 1, PlainPerSecond: 900, OutboxPerSecond: 850, Ratio: 0.94}, {Connections: 8}},
		Isolation: []Isolation{{Case: "90 of 100 <hang> & more", P99MS: 29}},
		Backlog:   &Backlog{Events: 1_000_000, SmallEvents: 20_000, DeliveriesPerSecond: 22_000, GrowthPercent: pointerTo(7.0)},
		Stored: &Stored{Deliveries: 20_000_000, FillSeconds: 354, Rounds: 5, EmptyPerSecond: 25_000, FullPerSecond: 24_000, Ratio: 0.96,
			Latency: []StoredLatency{{PerSecond: 100, Empty: Percentiles{P99MS: 8}, Full: Percentiles{P99MS: 9}}},
			Lists:   []ListTime{{Name: "deliveries, dead", FirstMS: 12.5, NextMS: 2}}},
	}
}

func TestReport_AsATableHasEverySection(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := full().WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"2 cores", "raw net/http", "40,000", "naive", "posthorn, 1 endpoint ", "1,000 endpoints", "200 KB", "only 800 were published",
		"1.5 %", "8 connections", "90 of 100", "1,000,000 events", "+7 %", "–", "20,000,000 deliveries", "0.96", "100 events/s, p99", "deliveries, dead  12.5 ms  2.0 ms",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &b)
		}
	}
}

func TestReport_AsJSONHasUnitsAndNullsForTheUnknown(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(full())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"raw_per_second":40000`, `"p99_ms":6`, `"receiver_us":null`, `"database_percent":null`, `"growth_percent":7`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the JSON lacks %s:\n%s", want, text)
		}
	}
	if text, err = json.Marshal(&Report{}); err != nil || strings.Contains(string(text), "throughput") {
		t.Errorf("a section that did not run is in %s", text)
	}
}

func TestPlot_IsWellFormed(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]*Report{"Full": full(), "Empty": {}, "Zeros": {Latency: []Latency{{}}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			drawn := r.Plot()
			if !bytes.Contains(drawn, []byte("prefers-color-scheme: dark")) {
				t.Error("nothing is said of dark pages")
			}
			decoder := xml.NewDecoder(bytes.NewReader(drawn))
			for {
				if _, err := decoder.Token(); errors.Is(err, io.EOF) {
					return
				} else if err != nil {
					t.Fatalf("%v:\n%s", err, drawn)
				}
			}
		})
	}
}

// A letter is seven pixels wide at most, on average.
func TestPlot_LabelsEndBeforeTheBars(t *testing.T) {
	t.Parallel()
	r := full()
	for _, c := range isolationCases {
		r.Isolation = append(r.Isolation, Isolation{Case: c.name})
	}
	for _, c := range r.charts() {
		for _, b := range c.bars {
			if plotMargin+7*len(b.label) > plotLabels || plotLabels+plotBars+8+7*len(b.figure) > plotWidth {
				t.Errorf("%q with %q is too long", b.label, b.figure)
			}
		}
	}
}
