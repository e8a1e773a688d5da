package bench

import "fmt"

// charts are what is worth drawing of the sections that ran.
func (r *Report) charts() []chart {
	var all []chart
	if r.Throughput != nil {
		all = append(all, r.Throughput.chart())
	}
	if r.Payloads != nil {
		all = append(all, payloadsChart(r.Payloads))
	}
	if r.Latency != nil {
		all = append(all, latencyChart(r.Latency))
	}
	if r.Producer != nil {
		all = append(all, producerChart(r.Producer))
	}
	if r.Isolation != nil {
		all = append(all, isolationChart(r.Isolation))
	}
	if r.Stored != nil {
		all = append(all, r.Stored.throughputChart(), r.Stored.latencyChart())
	}
	return all
}

func (t *Throughput) chart() chart {
	c := chart{heading: "Deliveries per second, and the ratio to raw"}
	c.bars = append(c.bars, bar{label: "raw net/http, no database", value: t.RawPerSecond, figure: whole(t.RawPerSecond)})
	for _, one := range t.Cases {
		c.bars = append(c.bars, bar{label: one.title(), value: one.DeliveriesPerSecond, ours: one.Name != caseNaive,
			figure: fmt.Sprintf("%s (%.2f)", whole(one.DeliveriesPerSecond), one.Ratio)})
	}
	return c
}

func payloadsChart(cases []Case) chart {
	c := chart{heading: "Deliveries per second by payload, as a share of raw"}
	// A share's scale ends at the whole, not at the largest share.
	c.bars = append(c.bars, bar{label: "raw net/http with the same payload", value: 1, figure: "1"})
	for _, one := range cases {
		c.bars = append(c.bars, bar{label: one.title(), value: one.Ratio, ours: true,
			figure: fmt.Sprintf("%.2f of %s/s", one.Ratio, whole(one.RawPerSecond))})
	}
	return c
}

func latencyChart(all []Latency) chart {
	c := chart{heading: "Commit to received"}
	for _, l := range all {
		rate := whole(l.PerSecond) + " events/s, "
		c.bars = append(c.bars,
			bar{label: rate + "p50", value: l.P50MS, figure: millis(l.P50MS), ours: true},
			bar{label: rate + "p99", value: l.P99MS, figure: millis(l.P99MS), ours: true})
	}
	return c
}

func producerChart(all []Producer) chart {
	c := chart{heading: "Producers' transactions per second"}
	for _, p := range all {
		conns := plural(p.Connections, "connection") + ", "
		c.bars = append(c.bars,
			bar{label: conns + "ordinary table", value: p.PlainPerSecond, figure: whole(p.PlainPerSecond)},
			bar{label: conns + "outbox", value: p.OutboxPerSecond, ours: true,
				figure: fmt.Sprintf("%s (%.2f)", whole(p.OutboxPerSecond), p.Ratio)})
	}
	return c
}

func isolationChart(all []Isolation) chart {
	c := chart{heading: "Commit to received at healthy endpoints, p99"}
	for _, i := range all {
		c.bars = append(c.bars, bar{label: i.Case, value: i.P99MS, figure: millis(i.P99MS), ours: true})
	}
	return c
}

func (s *Stored) throughputChart() chart {
	return chart{heading: fmt.Sprintf("Deliveries per second beside %s stored ones, and the ratio to empty tables", grouped(fmt.Sprint(s.Deliveries))), bars: []bar{
		{label: "empty tables", value: s.EmptyPerSecond, figure: whole(s.EmptyPerSecond)},
		{label: "full tables", value: s.FullPerSecond, ours: true, figure: fmt.Sprintf("%s (%.2f)", whole(s.FullPerSecond), s.Ratio)},
	}}
}

func (s *Stored) latencyChart() chart {
	c := chart{heading: "Commit to received beside them, p99"}
	for _, l := range s.Latency {
		rate := whole(l.PerSecond) + " events/s, "
		c.bars = append(c.bars,
			bar{label: rate + "empty tables", value: l.Empty.PooledP99MS, figure: millis(l.Empty.PooledP99MS)},
			bar{label: rate + "full tables", value: l.Full.PooledP99MS, ours: true, figure: millis(l.Full.PooledP99MS)})
	}
	return c
}
