package dump

import (
	"bufio"
	"encoding/binary"
	"io"
	"math"
	"strconv"
	"strings"
)

// A pickle is a program for a machine with a stack: it pushes numbers and texts,
// gathers them into lists and dicts, names functions and calls them. Python's own
// machine imports any function by name and calls it, so whoever loads a file runs
// what its author wished. This one knows data, and knows a few functions by name
// alone (calls.go): what torch.save calls to put a tensor together becomes a
// description of that tensor, any other name is an error, and nothing is run.
//
// Its limits hold whatever the file says: texts and numbers take at most the bytes
// that the file has, and pickleLimit of them; there are at most pickleSteps
// instructions; a list that holds itself is a pointer, and is followed once.

const (
	pickleLimit = 128 << 20 // bytes of a pickle; 1.3 million paths have some 64 MB
	pickleSteps = 8 << 20   // instructions
)

// What a pickle can push: nil, bool, int64, float64, string, and these.
type (
	pickleBytes  []byte
	pickleTuple  []any
	pickleList   struct{ items []any }
	pickleDict   struct{ keys, values []any }
	pickleGlobal string              // a function or class by its full name, not called
	pickleOpaque struct{ is string } // of no use here: an argparse.Namespace, a numpy number
)

// unpickler is the machine, for one pickle.
type unpickler struct {
	r     *bufio.Reader
	at    int64 // bytes read
	limit int64 // bytes there are, and that are read
	steps int

	stack []any
	marks []int // heights of the stack
	memo  []any
	far   map[int64]any // of the memo, what was not written in order
	// persistent makes a value of the reference to a storage.
	persistent func(id any) (any, error)
}

// unpickle reads the pickle at the start of r, of at most size bytes, and tells how
// many it has.
func unpickle(r io.Reader, size int64, persistent func(id any) (any, error)) (value any, length int64, err error) {
	p := &unpickler{r: bufio.NewReaderSize(r, 1<<16), limit: min(size, pickleLimit), far: map[int64]any{}, persistent: persistent}
	for {
		if p.steps++; p.steps > pickleSteps {
			return nil, 0, bad("has a pickle of more than %d instructions", pickleSteps).fix(savePlain)
		}
		start := p.at
		op, err := p.byte()
		if err == nil && op == '.' {
			value, err = p.pop()
			return value, p.at, p.locate(err, start)
		}
		if err == nil {
			err = p.step(op)
		}
		if err != nil {
			return nil, 0, p.locate(err, start)
		}
	}
}

const savePlain = "in Python: torch.save({'features': x.float(), 'labels': y}, path)"

// errPickle is what cannot be: the caller adds where.
type errPickle string

func (e errPickle) Error() string { return string(e) }

// locate words an error of the instruction at a byte.
func (p *unpickler) locate(err error, at int64) error {
	if e, ok := err.(errPickle); ok {
		return bad("has a damaged pickle: %s at byte %d of it", string(e), at).fix("copy the file again, or save it again")
	}
	return err
}

// step obeys one instruction.
func (p *unpickler) step(op byte) error {
	switch op {
	case 0x80: // PROTO
		v, err := p.byte()
		if err == nil && v > 5 {
			return bad("has a pickle of protocol %d, and 0 to 5 are known", v).fix("torch.save(x, path, pickle_protocol=2)")
		}
		return err
	case 0x95: // FRAME
		_, err := p.number(8)
		return err
	case '(':
		p.marks = append(p.marks, len(p.stack))
		return nil
	case '0': // POP takes a mark, too, where that is on top
		if n := len(p.marks); n > 0 && p.marks[n-1] == len(p.stack) {
			p.marks = p.marks[:n-1]
			return nil
		}
		_, err := p.pop()
		return err
	case '1':
		_, err := p.popMark()
		return err
	case '2':
		v, err := p.top()
		if err == nil {
			p.push(v)
		}
		return err
	case 'q', 'r', 'p', 0x94, 'h', 'j', 'g':
		return p.remember(op)
	case ']', ')', '}', 0x8f, 't', 0x85, 0x86, 0x87, 'l', 'd', 0x91, 'a', 'e', 's', 'u', 0x90:
		return p.gather(op)
	case 'c', 0x93, 'R', 'b', 0x81, 0x92, 'i', 'o', 'Q':
		return p.name(op)
	case 'P':
		return errPickle("a reference in text")
	case 0x82, 0x83, 0x84:
		return forbidden("an extension that only one program knows", p.at-1)
	case 0x97, 0x98:
		return bad("has a pickle whose data are outside of it").fix(savePlain)
	}
	v, err := p.scalar(op)
	if err == nil {
		p.push(v)
	}
	return err
}

// scalar is the number or text that an instruction holds.
func (p *unpickler) scalar(op byte) (any, error) {
	switch op {
	case 'N':
		return nil, nil
	case 0x88, 0x89:
		return op == 0x88, nil
	case 'K':
		return p.number(1)
	case 'M':
		return p.number(2)
	case 'J':
		v, err := p.number(4)
		return int64(int32(v)), err
	case 'G':
		b, err := p.bytes(8)
		if err != nil {
			return nil, err
		}
		return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
	case 0x8a, 0x8b: // LONG1, LONG4
		b, err := p.counted(map[byte]int{0x8a: 1, 0x8b: 4}[op])
		return long(b), err
	case 'I', 'L', 'F', 'S', 'V':
		return p.textual(op)
	case 'U', 0x8c:
		b, err := p.counted(1)
		return string(b), err
	case 'T', 'X':
		b, err := p.counted(4)
		return string(b), err
	case 0x8d:
		b, err := p.counted(8)
		return string(b), err
	case 'C':
		b, err := p.counted(1)
		return pickleBytes(b), err
	case 'B':
		b, err := p.counted(4)
		return pickleBytes(b), err
	case 0x8e, 0x96:
		b, err := p.counted(8)
		return pickleBytes(b), err
	}
	return nil, errPickle("the unknown instruction " + strconv.Quote(string([]byte{op})))
}

// textual is a value written as a line of text, as protocol 0 does.
func (p *unpickler) textual(op byte) (any, error) {
	line, err := p.line()
	if err != nil {
		return nil, err
	}
	switch op {
	case 'I', 'L':
		if op == 'I' && (line == "00" || line == "01") {
			return line == "01", nil
		}
		v, err := strconv.ParseInt(strings.TrimSuffix(line, "L"), 10, 64)
		if err != nil {
			return nil, errPickle("a number that is none")
		}
		return v, nil
	case 'F':
		v, err := strconv.ParseFloat(line, 64)
		if err != nil {
			return nil, errPickle("a number that is none")
		}
		return v, nil
	case 'S':
		if len(line) < 2 || line[0] != line[len(line)-1] || line[0] != '\'' && line[0] != '"' {
			return nil, errPickle("a text without quotes")
		}
		line = line[1 : len(line)-1]
	}
	if strings.Contains(line, "\\") {
		return nil, bad("has texts with escapes in a pickle of protocol 0").fix("torch.save(x, path), with the protocol it takes by itself")
	}
	return line, nil
}

// long is a little-endian integer in two's complement; one of more than eight bytes
// stays bytes.
func long(b []byte) any {
	if len(b) > 8 {
		return pickleBytes(b)
	}
	var v int64
	for i, x := range b {
		v |= int64(x) << (8 * i)
	}
	if n := len(b); n > 0 && n < 8 && b[n-1] >= 0x80 {
		v -= 1 << (8 * n)
	}
	return v
}

// remember obeys the instructions that write and read the memo.
func (p *unpickler) remember(op byte) error {
	var index int64
	var err error
	switch op {
	case 'q', 'h':
		index, err = p.number(1)
	case 'r', 'j':
		index, err = p.number(4)
	case 'p', 'g':
		var line string
		if line, err = p.line(); err == nil {
			if index, err = strconv.ParseInt(line, 10, 64); err != nil {
				err = errPickle("a number that is none")
			}
		}
	case 0x94:
		index = int64(len(p.memo) + len(p.far))
	}
	if err != nil {
		return err
	}
	if op == 'h' || op == 'j' || op == 'g' {
		v, ok := p.far[index]
		if !ok && (index < 0 || index >= int64(len(p.memo))) {
			return errPickle("a value that is not remembered")
		}
		if !ok {
			v = p.memo[index]
		}
		p.push(v)
		return nil
	}
	v, err := p.top()
	switch {
	case err != nil:
		return err
	case index == int64(len(p.memo)) && len(p.far) == 0:
		p.memo = append(p.memo, v)
	case index >= 0 && index < int64(len(p.memo)):
		p.memo[index] = v
	default:
		p.far[index] = v
	}
	return nil
}

// gather obeys the instructions that make and fill containers.
func (p *unpickler) gather(op byte) error {
	switch op {
	case ']', 0x8f:
		p.push(&pickleList{})
		return nil
	case ')':
		p.push(pickleTuple(nil))
		return nil
	case '}':
		p.push(&pickleDict{})
		return nil
	case 0x85, 0x86, 0x87:
		items, err := p.popN(int(op - 0x84))
		if err == nil {
			p.push(pickleTuple(items))
		}
		return err
	}
	var items []any
	var err error
	switch op {
	case 'a':
		items, err = p.popN(1)
	case 's':
		items, err = p.popN(2)
	default:
		items, err = p.popMark()
	}
	if err != nil {
		return err
	}
	switch op {
	case 't':
		p.push(pickleTuple(items))
	case 'l', 0x91:
		p.push(&pickleList{items})
	case 'd':
		d := &pickleDict{}
		p.push(d)
		return d.set(items)
	default:
		return p.fill(items)
	}
	return nil
}

// fill adds items to the container on top of the stack.
func (p *unpickler) fill(items []any) error {
	v, err := p.top()
	if err != nil {
		return err
	}
	switch v := v.(type) {
	case *pickleList:
		v.items = append(v.items, items...)
	case *pickleDict:
		return v.set(items)
	case pickleOpaque:
	default:
		return errPickle("an item for what is no container")
	}
	return nil
}

// set adds keys and values in turn. A key that comes again replaces its value only
// in what looks keys up, which nothing here does: the later is found twice, and
// said to be ambiguous.
func (d *pickleDict) set(items []any) error {
	if len(items)%2 != 0 {
		return errPickle("a key without a value")
	}
	for i := 0; i < len(items); i += 2 {
		d.keys, d.values = append(d.keys, items[i]), append(d.values, items[i+1])
	}
	return nil
}

func (p *unpickler) push(v any) { p.stack = append(p.stack, v) }

// floor is how far the stack may be emptied.
func (p *unpickler) floor() int {
	if n := len(p.marks); n > 0 {
		return p.marks[n-1]
	}
	return 0
}

func (p *unpickler) top() (any, error) {
	if len(p.stack) <= p.floor() {
		return nil, errPickle("an instruction that lacks its operand")
	}
	return p.stack[len(p.stack)-1], nil
}

func (p *unpickler) pop() (any, error) {
	v, err := p.top()
	if err == nil {
		p.stack = p.stack[:len(p.stack)-1]
	}
	return v, err
}

// popN gives the n values on top, in the order they came.
func (p *unpickler) popN(n int) ([]any, error) {
	if len(p.stack)-p.floor() < n {
		return nil, errPickle("an instruction that lacks its operand")
	}
	at := len(p.stack) - n
	items := append([]any(nil), p.stack[at:]...)
	p.stack = p.stack[:at]
	return items, nil
}

// popMark gives what was pushed since the last mark.
func (p *unpickler) popMark() ([]any, error) {
	n := len(p.marks)
	if n == 0 {
		return nil, errPickle("an instruction that lacks its mark")
	}
	items, err := p.popN(len(p.stack) - p.marks[n-1])
	p.marks = p.marks[:n-1]
	return items, err
}

func (p *unpickler) byte() (byte, error) {
	b, err := p.r.ReadByte()
	if err == nil && p.at == p.limit {
		err = io.EOF
	}
	if err != nil {
		return 0, p.ended(err)
	}
	p.at++
	return b, nil
}

// ended explains why there are no more bytes.
func (p *unpickler) ended(err error) error {
	switch {
	case readFault(err):
		return zipFault(err)
	case p.limit == pickleLimit:
		return bad("has a pickle of more than %d MB", pickleLimit>>20).fix(savePlain)
	}
	return bad("ends inside its pickle").fix("the file is cut short: copy or save it again")
}

// bytes reads n bytes, after looking whether the file has them.
func (p *unpickler) bytes(n int64) ([]byte, error) {
	if n < 0 || n > p.limit-p.at {
		return nil, p.ended(io.ErrUnexpectedEOF)
	}
	// A file may have less than its size promised (a member that unpacks to less), so
	// a long text grows with what comes.
	b := make([]byte, 0, min(n, 1<<20))
	for int64(len(b)) < n {
		part := min(n-int64(len(b)), 1<<20)
		at := len(b)
		b = append(b, make([]byte, part)...)
		if _, err := io.ReadFull(p.r, b[at:]); err != nil {
			return nil, p.ended(err)
		}
		p.at += part
	}
	return b, nil
}

// number reads a little-endian number of 1 to 8 bytes.
func (p *unpickler) number(width int) (int64, error) {
	var v int64
	for i := range width {
		b, err := p.byte()
		if err != nil {
			return 0, err
		}
		v |= int64(b) << (8 * i)
	}
	return v, nil
}

// counted reads a length of that width and as many bytes.
func (p *unpickler) counted(width int) ([]byte, error) {
	n, err := p.number(width)
	if err != nil {
		return nil, err
	}
	return p.bytes(n)
}

const pickleLine = 1 << 16 // bytes of a name or number written as text

func (p *unpickler) line() (string, error) {
	var b []byte
	for {
		c, err := p.byte()
		if err != nil {
			return "", err
		}
		if c == '\n' {
			return strings.TrimSuffix(string(b), "\r"), nil
		}
		if b = append(b, c); len(b) > pickleLine {
			return "", errPickle("a line that does not end")
		}
	}
}
