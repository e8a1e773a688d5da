package bench

import "fmt"

// cpuColumns are the names of what CPU.cells are.
var cpuColumns = []string{"sender", "database", "receiver"}

func (c CPU) cells() []string {
	return []string{known(c.SenderUS, "%.0f µs"), known(c.DatabaseUS, "%.0f µs"), known(c.ReceiverUS, "%.0f µs")}
}

func (t *Throughput) grid() grid {
	g := grid{
		title: fmt.Sprintf("Throughput: waiting events of 1 KB, commit to last received, in turns with raw; medians of %d rounds;\nCPU per delivery; Posthorn's process had at most %s in memory", t.Rounds, megabytes(t.PeakMemoryBytes)),
		rows:  [][]string{append([]string{"", "per second", "raw beside it", "ratio", "lowest–highest", "recorded"}, cpuColumns...)},
	}
	g.rows = append(g.rows, append([]string{"raw net/http, signed, no database", whole(t.RawPerSecond), "", "", "", ""}, t.RawCPU.cells()...))
	for _, c := range t.Cases {
		g.rows = append(g.rows, append([]string{c.title(), whole(c.DeliveriesPerSecond), whole(c.RawPerSecond),
			ratio(c.Ratio), spread(c.LowestRatio, c.HighestRatio), fmt.Sprintf("%.2f s", c.RecordedSeconds)}, c.CPU.cells()...))
	}
	return g
}

// title says whose figures these are.
func (c Case) title() string {
	switch c.Name {
	case caseNaive:
		return caseNaive
	case caseMany:
		return fmt.Sprintf("posthorn, %s endpoints of as many tenants", grouped(fmt.Sprint(c.Endpoints)))
	}
	return "posthorn, " + c.Name
}

func payloadsGrid(cases []Case) grid {
	g := grid{
		title: "Payloads: as above, 1 endpoint; MB/s of payload",
		rows:  [][]string{append([]string{"", "per second", "MB/s", "raw beside it", "ratio", "lowest–highest"}, cpuColumns...)},
	}
	for _, c := range cases {
		g.rows = append(g.rows, append([]string{c.title(), whole(c.DeliveriesPerSecond), whole(c.MegabytesPerSecond), whole(c.RawPerSecond),
			ratio(c.Ratio), spread(c.LowestRatio, c.HighestRatio)}, c.CPU.cells()...))
	}
	return g
}

func latencyGrid(all []Latency) grid {
	g := grid{
		title: "Latency: commit asked for to received, open loop, 1 endpoint;\nCPU per event, the producers' transactions included in the database's",
		rows:  [][]string{append([]string{"", "p50", "p99", "max", "begun late, p99", "max"}, cpuColumns...)},
	}
	for _, l := range all {
		name := whole(l.PerSecond) + " events/s"
		if l.AchievedPerSecond < 0.99*l.PerSecond {
			name += fmt.Sprintf(" (only %s were published)", whole(l.AchievedPerSecond))
		}
		g.rows = append(g.rows, append([]string{name, millis(l.P50MS), millis(l.P99MS), millis(l.MaxMS),
			millis(l.LateP99MS), millis(l.LateMaxMS)}, l.CPU.cells()...))
	}
	return g
}

func (i *Idle) grid() grid {
	return grid{
		title: fmt.Sprintf("Idle: %.0f s of nothing, in per cent of one core", i.Seconds),
		rows: [][]string{
			{"", "CPU", "memory"},
			{"posthorn", known(i.SenderPercent, "%.1f %%"), megabytes(i.MemoryBytes)},
			{"its database", known(i.DatabasePercent, "%.1f %%"), ""},
		},
	}
}

func producerGrid(all []Producer) grid {
	g := grid{
		title: fmt.Sprintf("Producer: transactions per second of an order and its event of 1 KB, the event in an ordinary table\nand in the outbox; medians of %d pairs of turns", producerPairs),
		rows:  [][]string{{"", "plain", "outbox", "ratio", "lowest–highest"}},
	}
	for _, p := range all {
		g.rows = append(g.rows, []string{plural(p.Connections, "connection"), whole(p.PlainPerSecond), whole(p.OutboxPerSecond),
			ratio(p.Ratio), spread(p.LowestRatio, p.HighestRatio)})
	}
	return g
}

func isolationGrid(all []Isolation) grid {
	g := grid{
		title: fmt.Sprintf("Isolation: commit asked for to received at the healthy endpoints, %d events/s each", isolationRate),
		rows:  [][]string{{"", "p50", "p99", "max", "begun late, p99"}},
	}
	for _, i := range all {
		g.rows = append(g.rows, []string{i.Case, millis(i.P50MS), millis(i.P99MS), millis(i.MaxMS), millis(i.LateP99MS)})
	}
	return g
}

func (b *Backlog) grid() grid {
	return grid{
		title: fmt.Sprintf("Backlog: %s events wait for 1 endpoint", grouped(fmt.Sprint(b.Events))),
		rows: [][]string{
			append([]string{"", "per second", "recorded"}, cpuColumns...),
			append([]string{"posthorn", whole(b.DeliveriesPerSecond), fmt.Sprintf("%.1f s", b.RecordedSeconds)}, b.CPU.cells()...),
			{},
			{"its memory, at most, with backlogs of " + grouped(fmt.Sprint(b.SmallEvents)), megabytes(b.SmallPeakBytes)},
			{"just before the large one", megabytes(b.BeforeBytes)},
			{"at most, to the end", megabytes(b.PeakBytes), known(b.GrowthPercent, "%+.0f %%")},
		},
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
