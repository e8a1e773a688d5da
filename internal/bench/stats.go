package bench

import (
	"slices"
	"time"
)

// median is the middle one, or what lies between the two in the middle. It returns 0
// for none.
func median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// quantile is the value below which the share q of them lies.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// collect takes one figure out of each.
func collect[T, F any](all []T, figure func(T) F) []F {
	values := make([]F, len(all))
	for i, one := range all {
		values[i] = figure(one)
	}
	return values
}

// medianKnown is the median of those that are known; nil where none is.
func medianKnown[T any](all []T, figure func(T) *float64) *float64 {
	var values []float64
	for _, one := range all {
		if v := figure(one); v != nil {
			values = append(values, *v)
		}
	}
	if len(values) == 0 {
		return nil
	}
	m := median(values)
	return &m
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
