package eval

import (
	"bytes"
	"encoding/json"
	"math"
)

// Figure is one named number of a diagnosis or comparison.
type Figure struct {
	Name  string
	Value any // float64, int64, string, bool or []float64; nil: see Missing
	// Missing says why there is no value: the rows do not suffice, or it is
	// undefined for them. A figure is never NaN or infinite.
	Missing string
	// Reading tells a person what the number means and where healthy ones lie.
	Reading string
}

// Figures are named numbers in the order in which they are printed. As JSON they
// are one flat object; a missing one is null, and its name with "_missing" behind it
// says why.
type Figures []Figure

// number adds a figure; one that is no number is missing.
func (f *Figures) number(name string, v float64, reading string) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		f.missing(name, "undefined for these rows", reading)
		return
	}
	*f = append(*f, Figure{Name: name, Value: v, Reading: reading})
}

// add adds a count, a text, a list or a truth.
func (f *Figures) add(name string, v any, reading string) {
	*f = append(*f, Figure{Name: name, Value: v, Reading: reading})
}

func (f *Figures) missing(name, why, reading string) {
	*f = append(*f, Figure{Name: name, Missing: why, Reading: reading})
}

// Lookup finds a number by its name; counts are numbers, too.
func (f Figures) Lookup(name string) (float64, bool) {
	for _, g := range f {
		if g.Name == name {
			switch v := g.Value.(type) {
			case float64:
				return v, true
			case int64:
				return float64(v), true
			}
		}
	}
	return 0, false
}

// JSONSchema describes what MarshalJSON writes: an object whose values are numbers,
// texts, booleans, lists of numbers, or null where name_missing says why.
func (Figures) JSONSchema() map[string]any {
	return map[string]any{"type": "object", "additionalProperties": map[string]any{
		"type": []string{"number", "string", "boolean", "array", "null"}, "items": map[string]any{"type": "number"}}}
}

// MarshalJSON writes one flat object.
func (f Figures) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	field := func(name string, v any) error {
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		for i, part := range []any{name, v} {
			text, err := json.Marshal(part)
			if err != nil {
				return err
			}
			if i == 1 {
				b.WriteByte(':')
			}
			b.Write(text)
		}
		return nil
	}
	for _, g := range f {
		if err := field(g.Name, g.Value); err != nil {
			return nil, err
		}
		if g.Missing != "" {
			if err := field(g.Name+"_missing", g.Missing); err != nil {
				return nil, err
			}
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
