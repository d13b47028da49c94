package eval

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"membank/store"
)

// coded is a column of a bank as small numbers: code[row] is a place in names, −1 for
// a row without a value.
type coded struct {
	code  []int32
	names []string
}

// Bins turn a column of numbers into groups: with edges 18, 30 those are "<18",
// "18-30" and "30+", each with its lower edge and without its upper.
type Bins []float64

func (b Bins) names() []string {
	text := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	names := []string{"<" + text(b[0])}
	for i := 1; i < len(b); i++ {
		names = append(names, text(b[i-1])+"-"+text(b[i]))
	}
	return append(names, text(b[len(b)-1])+"+")
}

func (b Bins) check(name string) error {
	for i := range b {
		if b[i] != b[i] || i > 0 && b[i] <= b[i-1] {
			return fmt.Errorf("%w: the edges of %q do not ascend", ErrProtocol, name)
		}
	}
	return nil
}

// readColumn codes an attribute of a bank, or its labels under the name "label". The
// names of values ascend, numbers as numbers; those of bins are all bins, also empty
// ones. It holds 4 bytes a row and the distinct values.
func readColumn(ctx context.Context, s *Set, name string, bins Bins) (*coded, error) {
	c := &coded{code: make([]int32, len(s.labels))}
	for i := range c.code {
		c.code[i] = -1
	}
	if err := bins.check(name); err != nil {
		return nil, err
	}
	known := slices.Contains(s.snap.Info().Attributes, name)
	if !known && name != "label" {
		return nil, fmt.Errorf("%w: bank %q has no attribute %q, only %q and label (membank ingest --attributes adds some)", ErrGroups, s.use.Bank, name, s.snap.Info().Attributes)
	}
	places := map[store.Value]int32{}
	var values []store.Value
	r := s.snap.NewReader()
	for b := range s.snap.Blocks() {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		err := r.Columns(b, func(columns *store.Columns) error {
			for i, row := range columns.Row {
				if columns.Dead[i] {
					continue
				}
				v := columns.Attribute(name, i)
				if !known && s.labels[row] != store.NoLabel {
					v = store.Int(s.labels[row])
				}
				if v.IsNull() {
					continue
				}
				if bins != nil {
					at, err := bins.place(v)
					if err != nil {
						return fmt.Errorf("%w: bank %q row %d: %s %q is no number, and is to be cut at %v", ErrGroups, s.use.Bank, row, name, v, []float64(bins))
					}
					c.code[row] = at
					continue
				}
				at, ok := places[v]
				if !ok {
					if at = int32(len(values)); at == groupLimit {
						return fmt.Errorf("%w: bank %q has more than %d values of %s (cut numbers with --bins)", ErrGroups, s.use.Bank, groupLimit, name)
					}
					places[v], values = at, append(values, v)
				}
				c.code[row] = at
			}
			return nil
		}, name)
		if err != nil {
			return nil, err
		}
	}
	if bins != nil {
		c.names = bins.names()
		return c, nil
	}
	c.sort(values)
	if !known {
		for i, text := range c.names {
			if label, err := strconv.ParseInt(text, 10, 64); err == nil && nameOf(s.names, label) != "" {
				c.names[i] = nameOf(s.names, label)
			}
		}
	}
	return c, nil
}

func (b Bins) place(v store.Value) (int32, error) {
	if v.Kind() == store.KindText {
		return 0, ErrGroups
	}
	number := v.Float()
	if v.Kind() == store.KindInt {
		number = float64(v.Int())
	}
	at, found := slices.BinarySearch(b, number)
	if found {
		at++
	}
	return int32(at), nil
}

// sort renumbers the values so that they ascend.
func (c *coded) sort(values []store.Value) {
	order := make([]int32, len(values))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return compareValues(values[a], values[b]) })
	to := make([]int32, len(values))
	for place, old := range order {
		to[old] = int32(place)
		c.names = append(c.names, values[old].String())
	}
	for i, old := range c.code {
		if old >= 0 {
			c.code[i] = to[old]
		}
	}
}

// compareValues orders numbers before texts.
func compareValues(a, b store.Value) int {
	number := func(v store.Value) float64 {
		if v.Kind() == store.KindInt {
			return float64(v.Int())
		}
		return v.Float()
	}
	at, bt := a.Kind() == store.KindText, b.Kind() == store.KindText
	switch {
	case at && bt:
		return slices.Compare([]byte(a.Text()), []byte(b.Text()))
	case at:
		return 1
	case bt:
		return -1
	case number(a) < number(b):
		return -1
	case number(a) > number(b):
		return 1
	}
	return 0
}

// cross is the groups of rows that agree in several columns, in the order of the
// columns; a row that lacks one value is in none. All combinations are there, also
// those of no row, unless they are more than groupLimit.
func cross(columns []*coded) (*coded, error) {
	whole := columns[0]
	for _, next := range columns[1:] {
		n := len(whole.names) * len(next.names)
		if n > groupLimit {
			return nil, fmt.Errorf("%w: %d combinations of values, and %d is the most (cross fewer attributes, or cut numbers with --bins)", ErrGroups, n, groupLimit)
		}
		made := &coded{code: make([]int32, len(whole.code))}
		for _, a := range whole.names {
			for _, b := range next.names {
				made.names = append(made.names, a+" × "+b)
			}
		}
		for i := range made.code {
			made.code[i] = -1
			if whole.code[i] >= 0 && next.code[i] >= 0 {
				made.code[i] = whole.code[i]*int32(len(next.names)) + next.code[i]
			}
		}
		whole = made
	}
	return whole, nil
}

const groupLimit = 10_000
