package bench

import (
	"context"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5"
)

// Report is what was measured; in JSON as it stands here. Units are in the names:
// ms and us are milliseconds and microseconds, rates are per second. Sections that
// did not run are absent; a figure that the system does not tell is null.
type Report struct {
	StartedAt time.Time `json:"started_at"`
	// Seconds is how long the whole run took.
	Seconds float64 `json:"seconds"`
	Machine Machine `json:"machine"`

	Throughput *Throughput `json:"throughput,omitempty"`
	Payloads   []Case      `json:"payloads,omitempty"`
	Latency    []Latency   `json:"latency,omitempty"`
	Idle       *Idle       `json:"idle,omitempty"`
	Producer   []Producer  `json:"producer,omitempty"`
	Isolation  []Isolation `json:"isolation,omitempty"`
	Backlog    *Backlog    `json:"backlog,omitempty"`
	Stored     *Stored     `json:"stored,omitempty"`
}

// Machine is where it was measured.
type Machine struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
	CPUs int    `json:"cpus"`
	Go   string `json:"go"`
	// PostgreSQL is the server's version.
	PostgreSQL string `json:"postgresql"`
	// Private is whether the server was the benchmark's own. Of another's the CPU
	// time is not known.
	Private bool `json:"private_postgresql"`
	// Fsync and SynchronousCommit are the server's settings.
	Fsync             string `json:"fsync"`
	SynchronousCommit string `json:"synchronous_commit"`
}

// Throughput is how fast waiting events are delivered, beside the raw ceiling.
type Throughput struct {
	Rounds int `json:"rounds"`
	// RawPerSecond is what bare net/http reaches, the median of all its turns: 64
	// goroutines that sign and POST 1 KB.
	RawPerSecond float64 `json:"raw_per_second"`
	// RawCPU has the ceiling's client as the sender.
	RawCPU CPU    `json:"raw_cpu_per_delivery"`
	Cases  []Case `json:"cases"`
	// PeakMemoryBytes is the most that Posthorn's process had in memory.
	PeakMemoryBytes *int64 `json:"peak_memory_bytes"`
}

// Case is one way of sending that took turns with the raw ceiling. The figures are
// medians over the rounds.
type Case struct {
	Name              string `json:"name"`
	Endpoints         int    `json:"endpoints"`
	EndpointsPerEvent int    `json:"endpoints_per_event"`
	// Events is how many waited.
	Events       int `json:"events"`
	PayloadBytes int `json:"payload_bytes"`
	// RawPerSecond is the ceiling's, right before each turn.
	RawPerSecond float64 `json:"raw_per_second"`
	// DeliveriesPerSecond is from the commit of the waiting events to the last one
	// received.
	DeliveriesPerSecond float64 `json:"deliveries_per_second"`
	// MegabytesPerSecond counts the payloads, in millions of bytes.
	MegabytesPerSecond float64 `json:"megabytes_per_second"`
	// Ratio is the median over the rounds of deliveries to the ceiling's posts.
	Ratio        float64 `json:"ratio"`
	LowestRatio  float64 `json:"lowest_ratio"`
	HighestRatio float64 `json:"highest_ratio"`
	// RecordedSeconds is how long after the commit everything was recorded.
	RecordedSeconds float64 `json:"recorded_seconds"`
	CPU             CPU     `json:"cpu_per_delivery"`
}

// Latency is from the moment at which an event's commit was asked for to its receipt.
type Latency struct {
	// PerSecond is how many events were due in a second, and AchievedPerSecond how
	// many were published.
	PerSecond         float64 `json:"per_second"`
	AchievedPerSecond float64 `json:"achieved_per_second"`
	Events            int     `json:"events"`
	// Publishers is how many connections published.
	Publishers int     `json:"publishers"`
	P50MS      float64 `json:"p50_ms"`
	P99MS      float64 `json:"p99_ms"`
	MaxMS      float64 `json:"max_ms"`
	// LateP99MS and LateMaxMS are how long after their due times events were begun:
	// what the publishers could not keep up with is not in the latencies.
	LateP99MS float64 `json:"late_p99_ms"`
	LateMaxMS float64 `json:"late_max_ms"`
	// CPU is per event; the database's has the producers' transactions in it.
	CPU CPU `json:"cpu_per_event"`
}

// Idle is what a sender and its database use with nothing to do, some seconds after
// the last event.
type Idle struct {
	Seconds float64 `json:"seconds"`
	// SenderPercent and DatabasePercent are of one core.
	SenderPercent   *float64 `json:"sender_percent"`
	DatabasePercent *float64 `json:"database_percent"`
	MemoryBytes     *int64   `json:"memory_bytes"`
}

// Producer is what an event costs who commits it. Each transaction inserts a row of
// business and an event of 1 KB.
type Producer struct {
	Connections int `json:"connections"`
	// PlainPerSecond is transactions with the event in an ordinary table,
	// OutboxPerSecond with the event in the outbox.
	PlainPerSecond  float64 `json:"plain_per_second"`
	OutboxPerSecond float64 `json:"outbox_per_second"`
	// Ratio is the median of outbox to plain over pairs of neighbouring turns.
	Ratio        float64 `json:"ratio"`
	LowestRatio  float64 `json:"lowest_ratio"`
	HighestRatio float64 `json:"highest_ratio"`
}

// Isolation is how healthy endpoints fared beside others, from commit to received.
type Isolation struct {
	// Case says what the others were.
	Case             string `json:"case"`
	HealthyEndpoints int    `json:"healthy_endpoints"`
	Endpoints        int    `json:"endpoints"`
	// Events is how many went to the healthy ones.
	Events    int     `json:"events"`
	P50MS     float64 `json:"p50_ms"`
	P99MS     float64 `json:"p99_ms"`
	MaxMS     float64 `json:"max_ms"`
	LateP99MS float64 `json:"late_p99_ms"`
}

// Backlog is the draining of a large backlog for one endpoint.
type Backlog struct {
	Events              int     `json:"events"`
	DeliveriesPerSecond float64 `json:"deliveries_per_second"`
	RecordedSeconds     float64 `json:"recorded_seconds"`
	CPU                 CPU     `json:"cpu_per_delivery"`
	// SmallEvents is the size of the backlogs drained before, and SmallPeakBytes the
	// most that the sender had in memory until then.
	SmallEvents    int    `json:"small_events"`
	SmallPeakBytes *int64 `json:"small_peak_bytes"`
	// BeforeBytes is its memory just before the large one, PeakBytes the most at the
	// end of it, GrowthPercent how much more that is than SmallPeakBytes.
	BeforeBytes   *int64   `json:"before_bytes"`
	PeakBytes     *int64   `json:"peak_bytes"`
	GrowthPercent *float64 `json:"growth_percent"`
}

// Stored is what sending costs beside much that is stored, to what it costs in empty
// tables: two databases that took turns, of which "full" has it.
type Stored struct {
	// Deliveries is how many were stored, and FillSeconds how long that took, until
	// they were vacuumed and on the disk.
	Deliveries  int     `json:"deliveries"`
	FillSeconds float64 `json:"fill_seconds"`
	Rounds      int     `json:"rounds"`
	// EmptyPerSecond and FullPerSecond are deliveries, from the commit of the waiting
	// events to the last one received.
	EmptyPerSecond float64 `json:"empty_per_second"`
	FullPerSecond  float64 `json:"full_per_second"`
	// Ratio is the median over the rounds of full to empty.
	Ratio        float64 `json:"ratio"`
	LowestRatio  float64 `json:"lowest_ratio"`
	HighestRatio float64 `json:"highest_ratio"`
	EmptyCPU     CPU     `json:"empty_cpu_per_delivery"`
	FullCPU      CPU     `json:"full_cpu_per_delivery"`
	// Latency has an entry for each rate.
	Latency []StoredLatency `json:"latency"`
	// Lists are the API's, on the full database.
	Lists []ListTime `json:"lists"`
}

// StoredLatency is from commit to receipt in both databases.
type StoredLatency struct {
	PerSecond float64     `json:"per_second"`
	Empty     Percentiles `json:"empty"`
	Full      Percentiles `json:"full"`
}

// Percentiles are of several rounds.
type Percentiles struct {
	// P50MS and P99MS are medians over the rounds.
	P50MS float64 `json:"p50_ms"`
	P99MS float64 `json:"p99_ms"`
	// PooledP50MS and PooledP99MS are of the events of all rounds together, which are
	// so many.
	Events      int     `json:"events"`
	PooledP50MS float64 `json:"pooled_p50_ms"`
	PooledP99MS float64 `json:"pooled_p99_ms"`
}

// ListTime is how long a list took at the database.
type ListTime struct {
	// Name is the list with its filters.
	Name string `json:"name"`
	// FirstMS is the first time, when its pages may be on the disk only, and NextMS the
	// slower of the two that follow.
	FirstMS float64 `json:"first_ms"`
	NextMS  float64 `json:"next_ms"`
}

const settingsSQL = `SELECT current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit')`

func (s *suite) machine(ctx context.Context) (Machine, error) {
	m := Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Go: runtime.Version(), Private: s.server.private != nil}
	err := s.server.once(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, settingsSQL).Scan(&m.PostgreSQL, &m.Fsync, &m.SynchronousCommit)
	})
	return m, err
}
