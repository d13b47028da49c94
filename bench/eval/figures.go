package eval

import (
	"bytes"
	"encoding/json"
	"math"
)

// Figure is a named value: a string, an int, an int64, a float64, or nil where there
// is none.
type Figure struct {
	Name  string
	Value any
}

// Figures are named values in the order a reader meets them. In JSON they are one
// flat object in that order; NaN and Inf, which JSON lacks, are null.
type Figures []Figure

// Get returns a value by its name, nil if there is none.
func (f Figures) Get(name string) any {
	for _, one := range f {
		if one.Name == name {
			return one.Value
		}
	}
	return nil
}

// Float returns a number by its name, NaN if there is none.
func (f Figures) Float(name string) float64 {
	switch v := f.Get(name).(type) {
	case float64:
		return v
	case int64:
		return float64(v)
	case int:
		return float64(v)
	}
	return math.NaN()
}

func (f *Figures) add(name string, value any) { *f = append(*f, Figure{name, value}) }

// MarshalJSON writes one flat object.
func (f Figures) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, one := range f {
		if i > 0 {
			b.WriteByte(',')
		}
		if v, is := one.Value.(float64); is && (math.IsNaN(v) || math.IsInf(v, 0)) {
			one.Value = nil
		}
		name, err := json.Marshal(one.Name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(one.Value)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
