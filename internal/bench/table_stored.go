package bench

import "fmt"

func (s *Stored) grid() grid {
	row := func(name string, perSecond float64, cpu CPU) []string {
		return append([]string{name, whole(perSecond), "", ""}, cpu.cells()...)
	}
	full := row("beside what is stored", s.FullPerSecond, s.FullCPU)
	full[2], full[3] = ratio(s.Ratio), spread(s.LowestRatio, s.HighestRatio)
	return grid{
		title: fmt.Sprintf("Stored: %s deliveries, stored in %.0f s, to empty tables, by turns; medians of %d rounds",
			grouped(fmt.Sprint(s.Deliveries)), s.FillSeconds, s.Rounds),
		rows: [][]string{
			append([]string{"", "per second", "ratio", "lowest–highest"}, cpuColumns...),
			row("in empty tables", s.EmptyPerSecond, s.EmptyCPU),
			full,
		},
	}
}

// latencyGrid has the medians of the rounds, and what all rounds make together.
func (s *Stored) latencyGrid() grid {
	g := grid{
		title: "Commit to received, in empty tables and beside what is stored",
		rows:  [][]string{{"", "empty", "full", "ratio", "empty, all rounds", "full, all rounds", "ratio"}},
	}
	row := func(name string, empty, full, emptyPooled, fullPooled float64) {
		g.rows = append(g.rows, []string{name, millis(empty), millis(full), ratio(full / empty),
			millis(emptyPooled), millis(fullPooled), ratio(fullPooled / emptyPooled)})
	}
	for _, l := range s.Latency {
		rate := whole(l.PerSecond) + " events/s, "
		row(rate+"p50", l.Empty.P50MS, l.Full.P50MS, l.Empty.PooledP50MS, l.Full.PooledP50MS)
		row(rate+"p99", l.Empty.P99MS, l.Full.P99MS, l.Empty.PooledP99MS, l.Full.PooledP99MS)
	}
	return g
}

func (s *Stored) listsGrid() grid {
	g := grid{
		title: "Lists of a hundred at the database, beside what is stored; the slower of the next two",
		rows:  [][]string{{"", "first", "next"}},
	}
	for _, l := range s.Lists {
		g.rows = append(g.rows, []string{l.Name, millis(l.FirstMS), millis(l.NextMS)})
	}
	return g
}
