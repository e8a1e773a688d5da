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
