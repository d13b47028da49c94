package dump

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"strings"

	"membank/simd"
)

// A Stream gives the arrays of a sequence of bytes that is read once, from its
// first byte to its last: the body of a request. It reads an .npy, an .npz, stored
// or deflated, and a .safetensors, holds what a Reader holds, and needs no file to
// put the bytes in. It is for one goroutine.
//
// An .npz is read along its members instead of by the directory at its end; that
// the two agree, and that nothing is missing or left over, is checked when the end
// comes. So whoever acts on the arrays must be able to take it back until Next
// has returned io.EOF.
type Stream struct {
	name    string
	next    func() (*Array, error) // the format's
	current *Array
	err     error
}

// StreamOptions bounds a Stream.
type StreamOptions struct {
	// Limit is the most bytes that compressed members may unpack to, all
	// together; 0 means no limit. What they unpack to is never held.
	Limit int64
}

// NewStream tells the format by its first bytes. name stands for the source in
// errors, which are as those of a Reader.
func NewStream(name string, r io.Reader, o StreamOptions) (*Stream, error) {
	s := &Stream{name: name}
	b := bufio.NewReaderSize(r, 1<<16)
	lead, err := b.Peek(512)
	if err != nil && err != io.EOF {
		return nil, at(name, err)
	}
	switch {
	case len(lead) == 0:
		return nil, at(name, bad("is empty, 0 bytes").fix("send an .npy, an .npz or a .safetensors"))
	case bytes.HasPrefix(lead, []byte(npyMagic)), len(lead) < len(npyMagic) && strings.HasPrefix(npyMagic, string(lead)):
		s.next = s.onlyArray(b)
	case bytes.HasPrefix(lead, []byte("PK\x03\x04")), bytes.HasPrefix(lead, []byte("PK\x05\x06")):
		z := &zipStream{name: name, r: b, left: o.Limit, limited: o.Limit > 0, seen: map[string]bool{}}
		s.next = z.nextArray
	case isTensors(lead, -1):
		s.next = s.tensors(b)
	default:
		if err := foreign(input{path: name, size: 1 << 62}, lead); err != nil {
			return nil, at(name, err)
		}
		return nil, at(name, bad("is neither .npy nor .npz nor .safetensors").fix("send np.save's or np.savez's bytes"))
	}
	return s, nil
}

// Next goes to the next array, passing over what is left of the one before, and
// returns io.EOF after the last, when the whole has been found to be well formed.
// An array is of use until the next call.
func (s *Stream) Next() (*Array, error) {
	if s.err != nil {
		return nil, s.err
	}
	if s.current != nil {
		s.err = s.current.skip()
	}
	if s.err == nil {
		s.current, s.err = s.next()
	}
	if s.err != nil {
		if s.err != io.EOF {
			s.err = at(s.name, s.err)
		}
		s.current = nil
		return nil, s.err
	}
	return s.current, nil
}

// onlyArray is the one array of an .npy.
func (s *Stream) onlyArray(r io.Reader) func() (*Array, error) {
	done := false
	return func() (*Array, error) {
		if done {
			return nil, io.EOF
		}
		done = true
		h, err := readHeader(r)
		if err != nil {
			return nil, err
		}
		return newStreamed("", s.name, h, r)
	}
}

// tensors gives the tensors of a safetensors file in the order of their data.
func (s *Stream) tensors(r io.Reader) func() (*Array, error) {
	var list []tensor
	read := false
	return func() (*Array, error) {
		if !read {
			var err error
			if list, _, err = readTensors(r, -1); err != nil {
				return nil, err
			}
			read = true
		}
		if len(list) == 0 {
			if n, _ := r.Read(make([]byte, 1)); n > 0 {
				return nil, bad("has bytes after its last tensor").fix("save it again")
			}
			return nil, io.EOF
		}
		t := list[0]
		list = list[1:]
		if t.kind == otherTensor {
			t.shape = []int64{t.bytes} // passed over as bytes
		}
		x, err := newStreamed(t.name, s.name+"["+strings.Trim(quote(t.name), `"`)+"]", t.header, &exactly{r: r, left: t.bytes})
		return x, err
	}
}

// exactly is the next bytes of a longer stream. Its end is io.EOF; that of the
// stream before it is io.ErrUnexpectedEOF.
type exactly struct {
	r    io.Reader
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if err == io.EOF && e.left > 0 {
		err = io.ErrUnexpectedEOF
	} else if err == io.EOF {
		err = nil
	}
	return n, err
}

// newStreamed is an array whose elements follow on seq.
func newStreamed(name, path string, h header, seq io.Reader) (*Array, error) {
	n, ok := h.elements()
	if !ok {
		return nil, bad("claims the impossible shape %s", h.shapeString()).fix("the header is damaged: save the array again").in(path)
	}
	a := &array{header: h, path: path, seq: &promised{r: seq, need: n * h.size}, rows: n, dim: 1, close: func() error { return nil }}
	return &Array{a: a, member: name}, nil
}

// promised reads elements, and says so when the bytes end before they do. What
// follows them is for the reader to judge.
type promised struct {
	r          io.Reader
	have, need int64
}

func (p *promised) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.have += int64(n)
	if (err == io.EOF || err == io.ErrUnexpectedEOF) && p.have < p.need {
		err = bad("the header promises %d bytes of data, %d are there", p.need, p.have).fix("it was cut short: send it again")
	}
	return n, err
}

// skip reads past the elements that nobody asked for, and past the array's end,
// where its checksum is.
func (x *Array) skip() error {
	switch {
	case x.err == io.EOF || x.err == nil && x.done():
		return nil
	case x.err != nil:
		return x.err
	}
	a := x.a
	n, _ := a.elements()
	if _, err := io.CopyN(io.Discard, a.seq, n*a.size-a.done*a.dim*a.size); err != nil {
		return at(a.path, err)
	}
	a.done = a.rows
	return at(a.path, a.finish())
}

// done reports whether the last element has been given out, with which the end of
// the array was checked.
func (x *Array) done() bool { return x.a.done == x.a.rows && x.a.rows > 0 }

// Member is the name of the array in its .npz or .safetensors, without ".npy"; ""
// for an .npy.
func (x *Array) Member() string { return strings.TrimSuffix(x.member, ".npy") }

// Size is the bytes of the elements, as the header promises them: what a caller
// weighs before it makes room.
func (x *Array) Size() int64 {
	n, _ := x.a.elements()
	return n * x.a.size
}

// Kind says what the elements are: 'f' floats, 'i' and 'u' integers, 'b' booleans,
// 'U' and 'S' strings, '?' anything else.
func (x *Array) Kind() byte { return x.a.kind }

// Embeddings takes an array of a Stream as rows of embeddings. It is a
// *dump.Error if the array is not one of floats in two dimensions, or is in Fortran
// order and larger than 32 MiB, which cannot be read as it comes. The Reader is of
// use until the stream goes on; closing it is not needed.
func (x *Array) Embeddings() (*Reader, error) {
	a := x.a
	if err := a.features(); err != nil {
		return nil, at(a.path, err)
	}
	if a.fortran && a.dim > 1 && a.rows > 1 {
		if size := x.Size(); size > spoolLimit {
			return nil, at(a.path, bad("is in Fortran order, column after column, and too large to be turned around in memory").
				fix("send np.ascontiguousarray(x)"))
		}
		data, err := io.ReadAll(io.LimitReader(a.seq, x.Size()))
		if err == nil {
			err = a.finish()
		}
		if err != nil {
			x.err = at(a.path, err)
			return nil, x.err
		}
		whole := bytes.NewReader(data)
		a.at, a.seq = whole, whole
	}
	return &Reader{path: a.path, dtype: a.dtype(), rows: a.rows, dim: int(a.dim), body: &streamed{x: x}}, nil
}

// streamed is the body of a Reader over an array of a stream.
type streamed struct {
	x     *Array
	after func() error // at the end of the array; nil: nothing. io.EOF: all is well
}

func (b *streamed) next(ctx context.Context, m simd.Matrix) (int, error) {
	n, err := b.x.a.next(ctx, m)
	if err != nil && err != io.EOF {
		b.x.err = err
	}
	if err == io.EOF && b.after != nil {
		return 0, b.after()
	}
	return n, err
}

func (b *streamed) shut() error { return nil }

// AllInts reads the whole of an array of integers or booleans; the caller has
// weighed Size. none becomes NoLabel.
func (x *Array) AllInts(none int64) ([]int64, error) {
	if strings.IndexByte("iub", x.a.kind) < 0 {
		return nil, at(x.a.path, bad("holds %s (%s), not integers", x.a.kindName(), x.a.descr).fix("np.asarray(y, np.int64)"))
	}
	list := make([]int64, x.a.rows)
	n, err := x.read(len(list), func() (int, error) { return x.a.integers(list, none) })
	if err == nil && n < len(list) {
		err = at(x.a.path, bad("ended while it was read"))
	}
	return list, err
}

// AllStrings reads the whole of an array of strings in one dimension; the caller
// has weighed Size.
func (x *Array) AllStrings() ([]string, error) {
	if x.a.kind != 'U' && x.a.kind != 'S' {
		return nil, at(x.a.path, bad("holds %s (%s), not strings", x.a.kindName(), x.a.descr).fix("np.array(names)"))
	}
	if x.a.rows == 0 {
		return []string{}, nil
	}
	if err := x.a.flat(); err != nil {
		return nil, err
	}
	var list []string
	for text := (&arrayStrings{array: x.a}); ; {
		s, err := text.next()
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			x.err = at(x.a.path, err)
			return nil, x.err
		}
		list = append(list, s)
	}
}

// Features goes to the array of embeddings in the stream: the one of that name, or
// if name is empty the first of floats in two dimensions. Reading it to its end
// reads the stream to its end, and there a second array that could have been meant
// is an error.
func (s *Stream) Features(name string) (*Reader, error) {
	name = strings.TrimSuffix(name, ".npy")
	for passed := []string{}; ; {
		x, err := s.Next()
		if err == io.EOF {
			what, have := "2-D float array", "nothing"
			if name != "" {
				what = "array " + quote(name)
			}
			if len(passed) > 0 {
				have = strings.Join(passed, ", ")
			}
			return nil, at(s.name, bad("holds no %s, only %s", what, have).fix("say which array, by name, or send the right one"))
		}
		if err != nil {
			return nil, err
		}
		if !x.means(name) && x.member != "" {
			if len(passed) < 8 {
				passed = append(passed, x.Member()+" ("+x.a.descr+" "+x.a.shapeString()+")")
			}
			continue
		}
		r, err := x.Embeddings()
		if err != nil {
			return nil, err
		}
		r.body.(*streamed).after = func() error { return s.nothingElse(name) }
		return r, nil
	}
}

// means reports whether the array is the one of that name, or without a name one
// that could be embeddings.
func (x *Array) means(name string) bool {
	if name != "" {
		return x.Member() == name
	}
	return wantFeatures.fits(x.a.header)
}

// nothingElse reads the rest of the stream.
func (s *Stream) nothingElse(name string) error {
	for {
		x, err := s.Next()
		if err != nil {
			return err // io.EOF where all is well
		}
		if name == "" && x.means("") {
			return at(s.name, bad("holds more than one 2-D float array, %s among them", x.Member()).fix("say which, by name"))
		}
	}
}
