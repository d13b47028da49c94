package store

import (
	"encoding/json"
	"math"
	"strconv"
)

// Kind is the type of an attribute value.
type Kind uint8

const (
	KindNull Kind = iota
	KindInt
	KindFloat
	KindText
)

// Value is one attribute of one row: null, int64, float64 or string. The zero
// Value is null. Values of equal kind and content are ==, except NaN payloads,
// which compare by their bits.
type Value struct {
	kind Kind
	bits uint64
	text string
}

// Int, Float and Text make a Value.
func Int(v int64) Value     { return Value{kind: KindInt, bits: uint64(v)} }
func Float(v float64) Value { return Value{kind: KindFloat, bits: math.Float64bits(v)} }
func Text(v string) Value   { return Value{kind: KindText, text: v} }

// Kind says which of the accessors has the content.
func (v Value) Kind() Kind { return v.kind }

// IsNull reports whether the row has no such attribute.
func (v Value) IsNull() bool { return v.kind == KindNull }

// Int, Float and Text return the content, zero if the kind is another.
func (v Value) Int() int64 {
	if v.kind != KindInt {
		return 0
	}
	return int64(v.bits)
}

func (v Value) Float() float64 {
	if v.kind != KindFloat {
		return 0
	}
	return math.Float64frombits(v.bits)
}

func (v Value) Text() string { return v.text }

// Any returns nil, an int64, a float64 or a string.
func (v Value) Any() any {
	switch v.kind {
	case KindInt:
		return v.Int()
	case KindFloat:
		return v.Float()
	case KindText:
		return v.text
	}
	return nil
}

// String formats the value for people; null is "".
func (v Value) String() string {
	switch v.kind {
	case KindInt:
		return strconv.FormatInt(v.Int(), 10)
	case KindFloat:
		return strconv.FormatFloat(v.Float(), 'g', -1, 64)
	}
	return v.text
}

// JSONSchema describes what MarshalJSON writes.
func (Value) JSONSchema() map[string]any {
	return map[string]any{"type": []string{"number", "string", "null"}}
}

// MarshalJSON writes null, a number or a string; NaN and Inf, which JSON lacks,
// become null.
func (v Value) MarshalJSON() ([]byte, error) {
	if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
		return []byte("null"), nil
	}
	return json.Marshal(v.Any())
}
