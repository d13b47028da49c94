package dump

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

const (
	npyMagic     = "\x93NUMPY"
	headerLimit  = 1 << 16 // bytes of header text; numpy's own limit is 10,000
	maxDims      = 32      // dimensions of an array, as in numpy
	dimLimit     = 65536   // elements of an embedding
	elementLimit = 1 << 20 // bytes of one element: only strings are longer than 8
)

// header is what the first bytes of an .npy file say.
//
//	offset  bytes  content
//	0       6      \x93NUMPY
//	6       2      version: 1.0, 2.0 or 3.0
//	8       2 | 4  length of the text, little endian; 4 bytes from version 2 on
//	10 | 12 n      {'descr': '<f4', 'fortran_order': False, 'shape': (1000, 256), } spaces \n
//
// The text is a Python literal. Three keys, each once, and nothing else is
// accepted: numpy writes nothing else, and whoever does wants us to guess.
type header struct {
	kind    byte             // f float, i integer, u unsigned, b bool, U unicode string, S byte string
	size    int64            // bytes of an element
	order   binary.ByteOrder // of elements wider than a byte
	descr   string           // as written, for people
	brain   bool             // bfloat16, which only safetensors has
	fortran bool
	shape   []int64
	offset  int64 // of the first element
}

// readHeader reads and checks a header. It allocates at most headerLimit bytes
// and says nothing about what follows the header.
func readHeader(r io.Reader) (header, error) {
	var lead [12]byte
	if n, err := io.ReadFull(r, lead[:8]); err != nil {
		if readFault(err) {
			return header{}, err
		}
		return header{}, bad("ends after %d bytes, inside the .npy magic", n).fix("the file is cut short: copy or save it again")
	}
	if string(lead[:6]) != npyMagic {
		return header{}, bad("does not begin as an .npy file does").fix("save it again with np.save")
	}
	major, minor := lead[6], lead[7]
	width := 4
	switch {
	case minor != 0 || major == 0 || major > 3:
		return header{}, bad("is .npy version %d.%d, and 1.0, 2.0 and 3.0 are known", major, minor).fix("save it again with np.save")
	case major == 1:
		width = 2
	}
	if _, err := io.ReadFull(r, lead[8:8+width]); err != nil {
		if readFault(err) {
			return header{}, err
		}
		return header{}, bad("ends inside the .npy header").fix("the file is cut short: copy or save it again")
	}
	length := int64(binary.LittleEndian.Uint16(lead[8:]))
	if width == 4 {
		length = int64(binary.LittleEndian.Uint32(lead[8:]))
	}
	if length > headerLimit {
		return header{}, bad("claims an .npy header of %d bytes, and %d is the most", length, headerLimit).fix("the file is damaged, or not an array of numbers")
	}
	text := make([]byte, length)
	if n, err := io.ReadFull(r, text); err != nil {
		if readFault(err) {
			return header{}, err
		}
		return header{}, bad("ends after %d of %d bytes of the .npy header", n, length).fix("the file is cut short: copy or save it again")
	}
	h, err := parseHeader(text)
	h.offset = int64(8+width) + length
	return h, err
}

// readFault reports whether err is a failure to read rather than a file's end.
func readFault(err error) bool {
	return err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF)
}

// elements is the number of elements, and whether it and its size in bytes fit int64.
func (h header) elements() (int64, bool) {
	n := int64(1)
	for _, d := range h.shape {
		if d == 0 {
			return 0, true
		}
	}
	for _, d := range h.shape {
		if n > math.MaxInt64/d {
			return 0, false
		}
		n *= d
	}
	return n, h.size == 0 || n <= math.MaxInt64/h.size
}

// shapeString writes the shape as Python does.
func (h header) shapeString() string { return shapeString(h.shape) }

func shapeString(shape []int64) string {
	s := make([]string, len(shape))
	for i, d := range shape {
		s[i] = strconv.FormatInt(d, 10)
	}
	if len(s) == 1 {
		return "(" + s[0] + ",)"
	}
	return "(" + strings.Join(s, ", ") + ")"
}

// checkSize compares what the header promises with the bytes that follow it,
// before anyone allocates by it. Bytes after the last element are refused as
// well: numpy reads over them in silence, but two arrays in one file, or a
// header whose shape was edited, look just so.
func (h header) checkSize(have int64) error {
	n, ok := h.elements()
	if !ok {
		return bad("claims the impossible shape %s", h.shapeString()).fix("the header is damaged: save the array again")
	}
	need := n * h.size
	switch {
	case have == need:
		return nil
	case have > need:
		return bad("has %d bytes after the last of %s elements", have-need, h.shapeString()).
			fix("save one array a file with np.save, or several with np.savez")
	case len(h.shape) == 0 || h.fortran:
		return bad("the header promises %d bytes of data, %d are there", need, have).fix("the file is cut short: copy or save it again")
	}
	row := n / h.shape[0] * h.size
	return bad("the header promises %d rows of %d bytes, %d are there", h.shape[0], row, have/row).
		fix("the file is cut short: copy or save it again")
}

// parseHeader reads the Python literal of a header.
func parseHeader(text []byte) (header, error) {
	var h header
	if !bytes.HasSuffix(text, []byte("\n")) {
		return h, bad("the .npy header does not end in a newline").fix("the file is damaged: save it again")
	}
	p := literal{text: string(text)}
	seen := map[string]bool{}
	err := p.expect('{')
	for err == nil {
		if p.peek() == '}' {
			break
		}
		var key string
		if key, err = p.str(); err != nil {
			break
		}
		if seen[key] {
			return h, bad("the .npy header has %s twice", quote(key)).fix("the file is damaged: save it again")
		}
		seen[key] = true
		if err = p.expect(':'); err != nil {
			break
		}
		switch key {
		case "descr":
			err = p.descr(&h)
		case "fortran_order":
			h.fortran, err = p.boolean()
		case "shape":
			h.shape, err = p.shape()
		default:
			return h, bad("the .npy header has the unknown key %s", quote(key)).fix("save it again with np.save")
		}
		if err == nil && p.peek() != '}' {
			err = p.expect(',')
		}
	}
	if err == nil {
		err = p.expect('}')
	}
	if err != nil {
		return h, err
	}
	if rest := strings.TrimSpace(p.text[p.at:]); rest != "" {
		return h, bad("the .npy header goes on after its end: %s", quote(rest)).fix("the file is damaged: save it again")
	}
	for _, key := range []string{"descr", "fortran_order", "shape"} {
		if !seen[key] {
			return h, bad("the .npy header lacks %q", key).fix("the file is damaged: save it again")
		}
	}
	return h, nil
}

// literal is a cursor over the text of a header.
type literal struct {
	text string
	at   int
}

// peek skips blanks and shows the next byte, 0 at the end.
func (p *literal) peek() byte {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
	if p.at == len(p.text) {
		return 0
	}
	return p.text[p.at]
}

func (p *literal) wrong(want string) error {
	return bad("the .npy header has %s where %s belongs", quote(p.text[p.at:]), want).fix("the file is damaged: save it again")
}

func (p *literal) expect(c byte) error {
	if p.peek() != c {
		return p.wrong("'" + string(c) + "'")
	}
	p.at++
	return nil
}

// str reads a quoted string; numpy never needs an escape in one.
func (p *literal) str() (string, error) {
	q := p.peek()
	if q != '\'' && q != '"' {
		return "", p.wrong("a string")
	}
	s, _, ok := strings.Cut(p.text[p.at+1:], string(q))
	if !ok || strings.ContainsAny(s, "\\\n") {
		return "", p.wrong("a plain string")
	}
	p.at += len(s) + 2
	return s, nil
}

func (p *literal) boolean() (bool, error) {
	p.peek()
	for _, word := range []string{"True", "False"} {
		if strings.HasPrefix(p.text[p.at:], word) {
			p.at += len(word)
			return word == "True", nil
		}
	}
	return false, p.wrong("True or False")
}

// shape reads a tuple of sizes; Python 2 wrote them as 1000L.
func (p *literal) shape() ([]int64, error) {
	if err := p.expect('('); err != nil {
		return nil, err
	}
	shape := []int64{}
	comma := true
	for p.peek() != ')' {
		if len(shape) == maxDims {
			return nil, bad("claims more than %d dimensions", maxDims).fix("the file is damaged: save it again")
		}
		end := p.at
		for end < len(p.text) && strings.IndexByte("-0123456789", p.text[end]) >= 0 {
			end++
		}
		digits := p.text[p.at:end]
		d, err := strconv.ParseInt(digits, 10, 64)
		switch {
		case errors.Is(err, strconv.ErrRange):
			return nil, bad("claims the impossible size %s in its shape", quote(digits)).fix("the header is damaged: save the array again")
		case err != nil:
			return nil, p.wrong("a size")
		case d < 0:
			return nil, bad("claims the negative size %d in its shape", d).fix("the header is damaged: save the array again")
		}
		shape = append(shape, d)
		p.at = end
		if p.at < len(p.text) && p.text[p.at] == 'L' {
			p.at++
		}
		if comma = p.peek() == ','; comma {
			p.at++
		} else if p.text[min(p.at, len(p.text)-1)] != ')' {
			return nil, p.wrong("',' or ')'")
		}
	}
	if len(shape) == 1 && !comma {
		return nil, p.wrong("',' (the shape is a number, not a tuple)")
	}
	return shape, p.expect(')')
}

const castRemedy = "np.save(path, x.astype(np.float32))"

// descr reads the element type: byte order, kind, bytes.
func (p *literal) descr(h *header) error {
	if c := p.peek(); c == '[' || c == '(' {
		return bad("is a structured array, with named fields").fix("save the field that holds the embeddings: np.save(path, x['name'].astype(np.float32))")
	}
	s, err := p.str()
	if err != nil {
		return err
	}
	h.descr = s
	unknown := bad("has the element type %s, which is not one of numbers or strings", quote(s)).fix(castRemedy)
	if len(s) < 2 {
		return unknown
	}
	switch s[0] {
	case '<':
		h.order = binary.LittleEndian
	case '>':
		h.order = binary.BigEndian
	case '=', '|':
		h.order = binary.LittleEndian
		if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
			h.order = binary.BigEndian
		}
	default:
		return unknown
	}
	h.kind = s[1]
	switch h.kind {
	case 'O':
		return bad("is an array of Python objects (pickled), which only Python can read").fix("np.save(path, np.stack(x).astype(np.float32))")
	case 'V':
		if s[1:] == "V2" {
			return bad("has elements of type V2: bfloat16, which numpy has no name for").fix(castRemedy)
		}
		return bad("has elements of type %s: raw bytes", quote(s)).fix(castRemedy)
	case 'c':
		return bad("holds complex numbers (%s)", s).fix("np.save(path, x.real.astype(np.float32)), or view the pairs as two columns")
	}
	size, err := strconv.ParseUint(s[2:], 10, 32)
	if err != nil || size == 0 || size > elementLimit {
		return unknown
	}
	h.size = int64(size)
	known := false
	switch h.kind {
	case 'f':
		if size == 16 || size == 12 {
			return bad("holds long doubles (%s)", s).fix(castRemedy)
		}
		known = size == 2 || size == 4 || size == 8
	case 'i', 'u':
		known = size == 1 || size == 2 || size == 4 || size == 8
	case 'b':
		known = size == 1
	case 'U':
		known = true
		h.size *= 4
	case 'S':
		known = true
	}
	if !known {
		return unknown
	}
	return nil
}

// kindName says in words what the elements are.
func (h header) kindName() string {
	switch h.kind {
	case otherTensor:
		return "elements"
	case 'f', 'i', 'u':
		return fmt.Sprintf("%s%d", map[byte]string{'f': "float", 'i': "int", 'u': "uint"}[h.kind], 8*h.size)
	case 'b':
		return "bool"
	}
	return "strings"
}

// dtype is the element type of embeddings in one word.
func (h header) dtype() string {
	if h.brain {
		return "bf16"
	}
	return fmt.Sprintf("f%d", 8*h.size)
}
