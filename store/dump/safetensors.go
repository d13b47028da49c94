package dump

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// A safetensors file is a table of contents and the elements, little endian and in
// C order, of one tensor after another:
//
//	offset  bytes  content
//	0       8      n, the length of the table, little endian
//	8       n      {"features":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},
//	               "__metadata__":{"format":"pt"}} and blanks
//	8+n     ...    elements; the offsets count from here
//
// As in the reference reader the tensors cover the data without holes or overlaps,
// every name occurs once, and the metadata are strings. So nothing can hide in
// such a file, and what a table promises is compared with the file's size.

const (
	tensorsLimit = 8 << 20 // bytes of a table; that of a large language model has 1 MB
	metadataKey  = "__metadata__"
)

// tensor is an entry of the table: header.offset counts from the start of the data.
type tensor struct {
	name string
	header
	bytes int64
}

// tensorTypes are the element types that are read, as kind and size. Others (F8_E4M3,
// C64, …) may stand in a file beside what is read.
var tensorTypes = map[string]struct {
	kind byte
	size int64
}{
	"F16": {'f', 2}, "BF16": {'f', 2}, "F32": {'f', 4}, "F64": {'f', 8},
	"I8": {'i', 1}, "I16": {'i', 2}, "I32": {'i', 4}, "I64": {'i', 8},
	"U8": {'u', 1}, "U16": {'u', 2}, "U32": {'u', 4}, "U64": {'u', 8},
	"BOOL": {'b', 1},
}

// otherTensor is the kind of elements that are not read.
const otherTensor = '?'

// readTensors reads the table at the start of r: its tensors in the order of their
// data. At most tensorsLimit bytes and a multiple of them are allocated. size is
// that of the whole file, −1 if it is not known.
func readTensors(r io.Reader, size int64) (list []tensor, start int64, err error) {
	var lead [8]byte
	if n, err := io.ReadFull(r, lead[:]); err != nil {
		if readFault(err) {
			return nil, 0, err
		}
		return nil, 0, bad("ends after %d bytes, inside the length of its safetensors table", n).fix("the file is cut short: copy or save it again")
	}
	length := binary.LittleEndian.Uint64(lead[:])
	if length > tensorsLimit {
		return nil, 0, bad("claims a safetensors table of %d bytes, and %d is the most", length, tensorsLimit).fix("the file is damaged, or no safetensors file")
	}
	start = 8 + int64(length)
	text := make([]byte, length)
	if n, err := io.ReadFull(r, text); err != nil {
		if readFault(err) {
			return nil, 0, err
		}
		return nil, 0, bad("ends after %d of %d bytes of its safetensors table", n, length).fix("the file is cut short: copy or save it again")
	}
	if list, err = parseTensors(text); err != nil {
		return nil, 0, err
	}
	if size < 0 {
		return list, start, nil
	}
	end := int64(0)
	if len(list) > 0 {
		last := list[len(list)-1]
		end = last.offset + last.bytes
	}
	switch have := size - start; {
	case have < end:
		return nil, 0, bad("the safetensors table promises %d bytes of data, %d are there", end, have).fix("the file is cut short: copy or save it again")
	case have > end:
		return nil, 0, bad("has %d bytes after its last tensor", have-end).fix("the file is damaged: save it again")
	}
	return list, start, nil
}

var errTable = errors.New("not as it should be")

// parseTensors reads the table. It goes token by token: a decoder into a map would
// keep the last of two entries of one name and say nothing.
func parseTensors(text []byte) ([]tensor, error) {
	wrong := func(what string, a ...any) error {
		return bad("the safetensors table "+what, a...).fix("the file is damaged: save it again with safetensors")
	}
	if !utf8.Valid(text) {
		return nil, wrong("is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') || text[0] != '{' {
		return nil, wrong("does not begin with {")
	}
	var list []tensor
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		name, _ := t.(string)
		if err != nil {
			return nil, wrong("is not JSON")
		}
		if seen[name] {
			return nil, wrong("holds %s twice", quote(name))
		}
		seen[name] = true
		if name == metadataKey {
			var metadata map[string]string
			if err := d.Decode(&metadata); err != nil {
				return nil, wrong("has metadata that are not strings by name")
			}
			continue
		}
		entry, err := parseTensor(d, name)
		if errors.Is(err, errTable) {
			return nil, wrong("describes %s by what is no dtype, shape and data_offsets", quote(name))
		}
		if err != nil {
			return nil, err
		}
		list = append(list, entry)
	}
	if t, err := d.Token(); err != nil || t != json.Delim('}') {
		return nil, wrong("is not JSON")
	}
	if rest := bytes.Trim(text[d.InputOffset():], " \t\r\n\x00"); len(rest) > 0 {
		return nil, wrong("goes on after its end: %s", quote(string(rest)))
	}
	slices.SortStableFunc(list, func(a, b tensor) int {
		switch {
		case a.offset != b.offset:
			return int(max(-1, min(1, a.offset-b.offset)))
		case a.bytes != b.bytes:
			return int(max(-1, min(1, a.bytes-b.bytes)))
		}
		return strings.Compare(a.name, b.name)
	})
	end := int64(0)
	for _, t := range list {
		if t.offset != end {
			return nil, wrong("lets %s begin at byte %d, and the tensor before it ends at %d", quote(t.name), t.offset, end)
		}
		end += t.bytes
	}
	return list, nil
}

// parseTensor reads the description of one tensor, key by key for the same reason.
func parseTensor(d *json.Decoder, name string) (tensor, error) {
	e := tensor{name: name}
	e.order = binary.LittleEndian
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return e, errTable
	}
	var offsets []int64
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		key, _ := t.(string)
		if err != nil || seen[key] {
			return e, errTable
		}
		seen[key] = true
		switch key {
		case "dtype":
			err = d.Decode(&e.descr)
		case "shape":
			err = d.Decode(&e.shape)
		case "data_offsets":
			err = d.Decode(&offsets)
		default:
			err = errTable
		}
		if err != nil {
			return e, errTable
		}
	}
	if _, err := d.Token(); err != nil || len(seen) != 3 || e.shape == nil || len(offsets) != 2 || len(e.shape) > maxDims {
		return e, errTable
	}
	if slices.ContainsFunc(e.shape, func(n int64) bool { return n < 0 }) || offsets[0] < 0 || offsets[1] < offsets[0] {
		return e, bad("the safetensors table gives %s the shape %s and the bytes %d to %d", quote(name), shapeString(e.shape), offsets[0], offsets[1]).
			fix("the file is damaged: save it again with safetensors")
	}
	e.offset, e.bytes = offsets[0], offsets[1]-offsets[0]
	e.kind = otherTensor
	e.size = 1
	if known, ok := tensorTypes[e.descr]; ok {
		e.kind, e.size, e.brain = known.kind, known.size, e.descr == "BF16"
	}
	n, ok := e.elements()
	if !ok {
		return e, bad("the safetensors table gives %s the impossible shape %s", quote(name), shapeString(e.shape)).
			fix("the file is damaged: save it again with safetensors")
	}
	if e.kind != otherTensor && n*e.size != e.bytes {
		return e, bad("the safetensors table gives %s %d bytes for %s of %s", quote(name), e.bytes, shapeString(e.shape), e.descr).
			fix("the file is damaged: save it again with safetensors")
	}
	return e, nil
}

// unread refuses an element type that is not read.
func (t tensor) unread() error {
	if t.kind != otherTensor {
		return nil
	}
	return bad("has elements of type %s", quote(t.descr)).fix("save it as float: safetensors.torch.save_file({'features': x.float()}, path)")
}

// tensor opens the named or only fitting tensor of a safetensors file.
func (in input) tensor(name string, w want) (*array, error) {
	list, start, err := readTensors(io.NewSectionReader(in.f, 0, in.size), in.size)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, bad("holds no tensors").fix("save the features with safetensors.torch.save_file")
	}
	at := -1
	var fitting []tensor
	for i, t := range list {
		switch {
		case name != "" && t.name == name:
			at = i
		case name == "" && w.fits(t.header):
			at, fitting = i, append(fitting, t)
		}
	}
	switch {
	case name != "" && at < 0:
		return nil, bad("holds no tensor %s", quote(name)).fix("it holds %s", listTensors(list))
	case len(fitting) > 1:
		return nil, bad("holds more than one %s: %s", w, listTensors(fitting)).fix("say which, by name")
	case at < 0 && len(list) == 1: // say what is wrong with it
		at = 0
	case at < 0:
		return nil, bad("holds no %s, only %s", w, listTensors(list)).fix("say which tensor, by name, or save the right one")
	}
	return in.openTensor(list[at], start)
}

func (in input) openTensor(t tensor, start int64) (*array, error) {
	path := in.path + "[" + strings.Trim(quote(t.name), `"`) + "]"
	if err := t.unread(); err != nil {
		return nil, (err.(*Error)).in(path)
	}
	data := io.NewSectionReader(in.f, start+t.offset, t.bytes)
	return &array{header: t.header, path: path, seq: data, at: data, close: in.f.Close}, nil
}

// listTensors names up to eight tensors with their shapes.
func listTensors(list []tensor) string {
	var s []string
	for i, t := range list {
		if i == 8 {
			s = append(s, fmt.Sprintf("and %d more", len(list)-i))
			break
		}
		s = append(s, fmt.Sprintf("%s (%s %s)", strings.Trim(quote(t.name), `"`), t.descr, t.shapeString()))
	}
	return strings.Join(s, ", ")
}

// isTensors reports whether a file begins as a safetensors file does: the length of
// a table that it has room for, and the table's first byte.
func isTensors(lead []byte, size int64) bool {
	return len(lead) > 8 && lead[8] == '{' && (size < 0 || binary.LittleEndian.Uint64(lead) < uint64(size))
}

// Tensor is one tensor that WriteSafetensors writes: its data are []float32,
// []int64 or, for half precision, []uint16.
type Tensor struct {
	Name  string
	Shape []int64
	Data  any
}

// WriteSafetensors writes tensors that are in memory, in the order given, as
// safetensors.torch.load_file and safetensors.numpy.load_file read them. Metadata
// may be nil. Equal tensors give equal bytes. The elements begin at a multiple of
// eight bytes.
func WriteSafetensors(w io.Writer, tensors []Tensor, metadata map[string]string) error {
	type entry struct {
		DType   string   `json:"dtype"`
		Shape   []int64  `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	var table bytes.Buffer
	table.WriteByte('{')
	add := func(name string, v any) error {
		key, err := json.Marshal(name)
		if err != nil {
			return err
		}
		value, err := json.Marshal(v)
		if table.Len() > 1 {
			table.WriteByte(',')
		}
		table.Write(key)
		table.WriteByte(':')
		table.Write(value)
		return err
	}
	if metadata != nil {
		if err := add(metadataKey, metadata); err != nil {
			return err
		}
	}
	seen, offset := map[string]bool{}, int64(0)
	for _, t := range tensors {
		e, n := entry{Shape: t.Shape, Offsets: [2]int64{offset, offset}}, 0
		if t.Shape == nil {
			e.Shape = []int64{}
		}
		switch x := t.Data.(type) {
		case []float32:
			e.DType, n = "F32", len(x)
		case []int64:
			e.DType, n = "I64", len(x)
		case []uint16:
			e.DType, n = "F16", len(x)
		default:
			return fmt.Errorf("dump: no tensor of %T", t.Data)
		}
		h := header{shape: e.Shape, size: tensorTypes[e.DType].size}
		if slices.ContainsFunc(e.Shape, func(d int64) bool { return d < 0 }) || seen[t.Name] || t.Name == metadataKey || !utf8.ValidString(t.Name) {
			return fmt.Errorf("dump: tensor %s of shape %s: the name is taken or the shape negative", quote(t.Name), shapeString(e.Shape))
		}
		if want, ok := h.elements(); !ok || want != int64(n) {
			return fmt.Errorf("dump: tensor %s of shape %s has %d elements", quote(t.Name), shapeString(e.Shape), n)
		}
		seen[t.Name] = true
		offset += int64(n) * h.size
		e.Offsets[1] = offset
		if err := add(t.Name, e); err != nil {
			return err
		}
	}
	table.WriteByte('}')
	for table.Len()%8 != 0 {
		table.WriteByte(' ')
	}
	if table.Len() > tensorsLimit {
		return fmt.Errorf("dump: a safetensors table of %d bytes, and %d is the most", table.Len(), tensorsLimit)
	}
	if _, err := w.Write(binary.LittleEndian.AppendUint64(nil, uint64(table.Len()))); err != nil {
		return err
	}
	if _, err := w.Write(table.Bytes()); err != nil {
		return err
	}
	for _, t := range tensors {
		if err := writeElements(w, t.Data); err != nil {
			return err
		}
	}
	return nil
}

// writeElements writes a slice little endian, 64 KiB at a time.
func writeElements(w io.Writer, data any) error {
	const each = 8192
	b := make([]byte, 0, 8*each)
	put := func(from, to int) {
		b = b[:0]
		if x, ok := data.([]float32); ok {
			b = b[:4*(to-from)]
			littleFloats(b, x[from:to])
			return
		}
		for i := from; i < to; i++ {
			switch x := data.(type) {
			case []int64:
				b = binary.LittleEndian.AppendUint64(b, uint64(x[i]))
			case []uint16:
				b = binary.LittleEndian.AppendUint16(b, x[i])
			}
		}
	}
	n := 0
	switch x := data.(type) {
	case []float32:
		n = len(x)
	case []int64:
		n = len(x)
	case []uint16:
		n = len(x)
	}
	for from := 0; from < n; from += each {
		put(from, min(from+each, n))
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}
