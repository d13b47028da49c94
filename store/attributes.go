package store

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"
)

// An attribute record holds one attribute of one block, so that a later command
// can add an attribute without rewriting anything. A block that has no record of
// a bank's attribute is null there throughout. The payload, little endian, n rows:
//
//	u8  kind[n]   0 null, 1 int64, 2 float64, 3 text
//	u64 word[n]   the integer, the float's bits, or where the text ends; null 0
//	    text      the texts in row order, end to end
const maxTextBytes = 1 << 20

func encodeAttribute(values []Value) []byte {
	size := headerSize + 9*len(values)
	for _, v := range values {
		size += len(v.text)
	}
	b := make([]byte, headerSize, size)
	for _, v := range values {
		b = append(b, byte(v.kind))
	}
	end := uint64(0)
	for _, v := range values {
		word := v.bits
		if v.kind == KindText {
			end += uint64(len(v.text))
			word = end
		}
		b = binary.LittleEndian.AppendUint64(b, word)
	}
	for _, v := range values {
		b = append(b, v.text...)
	}
	return b
}

// decodeAttribute is the inverse of encodeAttribute; values is reused.
func decodeAttribute(values []Value, payload []byte, rows int) ([]Value, error) {
	f := &fields{b: payload}
	kinds := f.take(rows)
	words := f.take(8 * rows)
	if f.err != nil {
		return nil, f.err
	}
	text, end := string(f.b), uint64(0)
	values = values[:0]
	for i, k := range kinds {
		word := binary.LittleEndian.Uint64(words[8*i:])
		v := Value{kind: Kind(k), bits: word}
		switch v.kind {
		case KindInt, KindFloat:
		case KindNull:
			if word != 0 {
				return nil, fmt.Errorf("row %d is null and holds %x", i, word)
			}
		case KindText:
			if word < end || word > uint64(len(text)) {
				return nil, fmt.Errorf("row %d: text from %d to %d of %d bytes", i, end, word, len(text))
			}
			v.bits, v.text = 0, text[end:word]
			end = word
		default:
			return nil, fmt.Errorf("row %d has kind %d", i, k)
		}
		values = append(values, v)
	}
	if end != uint64(len(text)) {
		return nil, fmt.Errorf("%d bytes of text left over", uint64(len(text))-end)
	}
	return values, nil
}

// checkAttributeName returns an ErrBadName unless the name can be one: UTF-8 of
// 1 to 255 bytes without control characters.
func checkAttributeName(name string) error {
	if name == "" || len(name) > 255 || !printable(name) {
		return fmt.Errorf("%w: attribute %.80q: 1 to 255 bytes of UTF-8 without control characters", ErrBadName, name)
	}
	return nil
}

// checkValue returns what is wrong with an attribute value.
func checkValue(v Value) error {
	if v.kind != KindText {
		return nil
	}
	switch {
	case len(v.text) > maxTextBytes:
		return fmt.Errorf("%w: a text of %d bytes, at most %d are allowed", ErrBadRow, len(v.text), maxTextBytes)
	case !utf8.ValidString(v.text):
		return fmt.Errorf("%w: text %.40q is not UTF-8", ErrBadRow, v.text)
	}
	return nil
}

// checkKey returns an ErrBadRow unless key can be one: UTF-8 of 1 to 4096 bytes
// without newlines and NUL.
func checkKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: its key is empty", ErrBadRow)
	case len(key) > maxKeyBytes:
		return fmt.Errorf("%w: key %.40q… has %d bytes, at most %d are allowed", ErrBadRow, key, len(key), maxKeyBytes)
	case !utf8.ValidString(key):
		return fmt.Errorf("%w: key %.80q is not UTF-8", ErrBadRow, key)
	}
	for i := range len(key) {
		if c := key[i]; c == '\n' || c == '\r' || c == 0 {
			return fmt.Errorf("%w: key %.80q contains %q", ErrBadRow, key, c)
		}
	}
	return nil
}

func printable(s string) bool {
	for _, c := range s {
		if c < ' ' || c == 0x7f || c == utf8.RuneError {
			return false
		}
	}
	return true
}

// isFinite reports whether a norm can be stored with its square as float32.
func isFinite(norm float64) bool { return norm <= maxNorm && !math.IsNaN(norm) }
