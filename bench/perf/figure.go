package perf

import (
	"context"
	"encoding/json"
	"strconv"
	"time"
)

// Figure is one measured number.
type Figure struct {
	Name  string
	Value float64
	Unit  string
	// Limit is what the machine can do, in the same unit, and OfPeak is Value/Limit.
	// Both are 0 for a figure that has no limit.
	Limit  float64
	OfPeak float64
}

// MarshalJSON writes {"name","value","unit","limit","of_peak"}, with null for the
// limit and the share of it where there is none.
func (f Figure) MarshalJSON() ([]byte, error) {
	object := struct {
		Name   string   `json:"name"`
		Value  float64  `json:"value"`
		Unit   string   `json:"unit"`
		Limit  *float64 `json:"limit"`
		OfPeak *float64 `json:"of_peak"`
	}{Name: f.Name, Value: f.Value, Unit: f.Unit}
	if f.Limit > 0 {
		object.Limit, object.OfPeak = &f.Limit, &f.OfPeak
	}
	return json.Marshal(object)
}

// within sets the limit.
func (f Figure) within(limit float64) Figure {
	if limit > 0 {
		f.Limit, f.OfPeak = limit, f.Value/limit
	}
	return f
}

// Progress is told what a benchmark does and how far it is. It may be nil; calls do
// not overlap.
type Progress func(stage string, done, total int64)

func (p Progress) tell(stage string, done, total int64) {
	if p != nil {
		p(stage, done, total)
	}
}

// measure is one rate to be measured, and which other is its limit.
type measure struct {
	name, unit string
	limit      *measure                // nil: none
	run        func() (float64, error) // one round: the rate
	best       float64
}

// takeTurns runs all measures once a round and keeps the best of each.
func takeTurns(ctx context.Context, rounds int, p Progress, all ...*measure) error {
	for round := range rounds {
		for i, m := range all {
			if err := ctx.Err(); err != nil {
				return err
			}
			v, err := m.run()
			if err != nil {
				return err
			}
			m.best = max(m.best, v)
			p.tell("measuring", int64(round*len(all)+i+1), int64(rounds*len(all)))
		}
	}
	return ctx.Err()
}

func (m *measure) figure() Figure {
	f := Figure{Name: m.name, Value: m.best, Unit: m.unit}
	if m.limit != nil {
		f = f.within(m.limit.best)
	}
	return f
}

// rate repeats f, which returns how much it did, for at least d, and returns the
// amount a second.
func rate(ctx context.Context, d time.Duration, f func() float64) float64 {
	amount, start := 0.0, time.Now()
	for {
		amount += f()
		if spent := time.Since(start); spent >= d || ctx.Err() != nil {
			return amount / max(spent.Seconds(), 1e-9)
		}
	}
}

// or is v, or the default where v is zero.
func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// counted is "1 thread" or "2 threads".
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}
