package dump

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"membank/simd"
)

// NoLabel is what Labels and Reader give for a row without a label. It is the
// store's value too.
const NoLabel = math.MinInt64

// Options says how to read a file. The zero value is right for most.
type Options struct {
	// Array is the member of an .npz to read, with or without ".npy", the tensor of
	// a .safetensors, or the tensor or list in a .pt by its path through the dicts
	// and lists around it: "features", "model.queue", "0". Empty takes the only one
	// that fits: a 2-D float array for features, a 1-D array of
	// integers or strings for labels and keys.
	Array string
	// NoLabel is the integer that means "no label" in the file; nil means −1, as
	// solo-learn and scikit-learn write unlabelled rows. Point it at NoLabel itself
	// to keep every integer as it is. Names have no such value: an empty one is no
	// label.
	NoLabel *int64
	// Checksum asks for Reader.Checksum.
	Checksum bool
}

func (o Options) noLabel() int64 {
	if o.NoLabel != nil {
		return *o.NoLabel
	}
	return -1
}

// A Reader gives the embeddings of one file as float32, in row order, once. It
// holds a bounded part of the file in memory (at most some 20 MB, whatever the
// file's size) and is for one goroutine.
type Reader struct {
	path  string
	dtype string
	rows  int64
	dim   int
	err   error // of an earlier Next: a reader that failed stays failed
	body  body
	sum   *checksummed
}

// body is one way to lie in a file.
type body interface {
	next(ctx context.Context, m simd.Matrix) (int, error)
	shut() error
}

// Open opens a file of embeddings: .npy, a member of an .npz, a tensor of a
// .safetensors or of what torch.save wrote, .csv, .tsv, or numbers in lines as np.savetxt writes them. The format is told by the first
// bytes, not the name; only text is told apart by its extension. All that a header
// promises is checked against the file's size before anything is allocated, and a
// text is read through once for its width, number of rows and labels.
func Open(path string, o Options) (*Reader, error) {
	r, err := open(path, o)
	return r, at(path, err)
}

func open(path string, o Options) (*Reader, error) {
	in, err := identify(path)
	if err != nil {
		return nil, err
	}
	if in.kind == textFile {
		t, err := openFeatures(in, o)
		if err != nil {
			in.f.Close()
			return nil, err
		}
		return &Reader{path: path, dtype: "text", rows: t.rows, dim: t.dim, body: t}, nil
	}
	a, err := in.array(o.Array, wantFeatures)
	if err == nil {
		if err = a.features(); err != nil {
			err = at(a.path, err)
		}
	}
	if err != nil {
		in.f.Close()
		return nil, err
	}
	r := &Reader{path: a.path, dtype: a.dtype(), rows: a.rows, dim: int(a.dim), body: a}
	if o.Checksum && in.kind == npyFile && !a.fortran {
		r.sum, err = a.summed(in)
	}
	return r, err
}

// Rows is the number of rows in the file.
func (r *Reader) Rows() int64 { return r.rows }

// Dim is the number of elements of an embedding, 1 to 65,536.
func (r *Reader) Dim() int { return r.dim }

// DType is the type in the file: "f16", "bf16", "f32", "f64" or "text".
func (r *Reader) DType() string { return r.dtype }

// Name is the path, and for an .npz the member: file.npz[features].
func (r *Reader) Name() string { return r.path }

// Next fills the first rows of m, whose Dim is the reader's, and returns how many.
// It fills all m.Rows of them but at the end of the file, and returns 0 and io.EOF
// after it. Errors are of type *Error, or the context's own; after one the reader
// is of no more use. Values are as in the file: NaN and infinities too.
func (r *Reader) Next(ctx context.Context, m simd.Matrix) (int, error) {
	if m.Dim != r.dim {
		return 0, fmt.Errorf("dump: matrix of %d dimensions for embeddings of %d", m.Dim, r.dim)
	}
	if r.err != nil {
		return 0, r.err
	}
	if m.Rows == 0 {
		return 0, nil
	}
	n, err := r.body.next(ctx, m)
	if err != nil {
		if err != io.EOF && ctx.Err() == nil {
			err = at(r.path, err)
		}
		r.err = err
		return 0, err
	}
	return n, nil
}

// Keys are the keys of the rows that the last Next returned, if the file holds
// keys beside the embeddings (a .csv with such a column); else nil. They are valid
// until the next Next.
func (r *Reader) Keys() []string {
	if t, ok := r.body.(*features); ok {
		return t.keys
	}
	return nil
}

// Labels are the labels of the rows that the last Next returned, if the file holds
// labels beside the embeddings; else nil. They are valid until the next Next.
func (r *Reader) Labels() []int64 {
	if t, ok := r.body.(*features); ok {
		return t.labels
	}
	return nil
}

// ClassNames are the names of labels 0, 1, … if the file names classes; else nil.
func (r *Reader) ClassNames() []string {
	if t, ok := r.body.(*features); ok {
		return t.classes.names
	}
	return nil
}

// HasKeys reports whether the file holds keys beside the embeddings.
func (r *Reader) HasKeys() bool {
	t, ok := r.body.(*features)
	return ok && t.key >= 0
}

// HasLabels reports whether the file holds labels beside the embeddings.
func (r *Reader) HasLabels() bool {
	t, ok := r.body.(*features)
	return ok && t.label >= 0
}

// SumsUp reports whether Checksum will know the file's checksum: it was asked for,
// and the rows of an .npy are read front to back.
func (r *Reader) SumsUp() bool { return r.sum != nil }

// Checksum is the size and the CRC32C of the whole file, once Next has returned
// io.EOF, of a reader that sums up: it costs a third of reading the file again.
func (r *Reader) Checksum() (bytes int64, crc uint32) { return r.sum.bytes, r.sum.crc }

// Close closes the file.
func (r *Reader) Close() error { return r.body.shut() }

func (a *array) shut() error { return a.close() }

// fileKind is what the first bytes say.
type fileKind uint8

const (
	npyFile fileKind = iota
	npzFile
	tensorsFile
	legacyFile
	textFile
)

// input is an open file whose kind is known.
type input struct {
	path string
	f    *os.File
	size int64
	kind fileKind
	ext  string // lower case, with the dot
}

// identify opens path and tells its kind by magic. A file that is none of ours
// gives an error that says what it is and how to turn it into an .npy.
func identify(path string) (input, error) {
	f, err := os.Open(path)
	if err != nil {
		e := at(path, err).(*Error)
		e.What = "cannot be opened: " + cause(err)
		return input{}, e
	}
	in, err := identifyOpen(path, f)
	if err != nil {
		f.Close()
		return input{}, err
	}
	return in, nil
}

func identifyOpen(path string, f *os.File) (input, error) {
	in := input{path: path, f: f, ext: strings.ToLower(filepath.Ext(path))}
	stat, err := f.Stat()
	if err != nil {
		return in, err
	}
	in.size = stat.Size()
	switch {
	case stat.IsDir():
		return in, bad("is a directory").fix("name the files in it")
	case !stat.Mode().IsRegular():
		return in, bad("is not a regular file").fix("write it to disk first: its size must be known before it is read")
	case in.size == 0:
		return in, bad("is empty, 0 bytes").fix("was the disk full when it was written?")
	}
	lead := make([]byte, 512)
	n, err := f.ReadAt(lead, 0)
	if err != nil && err != io.EOF {
		return in, err
	}
	lead = lead[:n]
	switch {
	case bytes.HasPrefix(lead, []byte(npyMagic)), in.ext == ".npy" && strings.HasPrefix(npyMagic, string(lead)):
		in.kind = npyFile
	case bytes.HasPrefix(lead, []byte("PK\x03\x04")), bytes.HasPrefix(lead, []byte("PK\x05\x06")):
		in.kind = npzFile
	case isTensors(lead, in.size), in.ext == ".safetensors":
		in.kind = tensorsFile
	case isLegacy(lead):
		in.kind = legacyFile
	default:
		if err := foreign(in, lead); err != nil {
			return in, err
		}
		in.kind = textFile
	}
	return in, nil
}

// want says which member of an .npz is meant when none is named.
type want uint8

const (
	wantFeatures want = iota // 2-D floats
	wantLabels               // 1-D integers or strings
	wantKeys                 // 1-D strings
	wantNumbers              // any numbers
)

func (w want) fits(h header) bool {
	n := len(h.shape)
	switch w {
	case wantFeatures:
		return h.kind == 'f' && n == 2
	case wantLabels:
		return strings.IndexByte("iubUS", h.kind) >= 0 && n == 1
	case wantNumbers:
		return strings.IndexByte("fiub", h.kind) >= 0
	}
	return strings.IndexByte("US", h.kind) >= 0 && n == 1
}

func (w want) String() string {
	return [...]string{"2-D float array", "1-D array of integers or strings", "1-D array of strings", "array of numbers"}[w]
}

// array opens the array of an .npy, or the named or only fitting one of another file.
func (in input) array(name string, w want) (*array, error) {
	if in.kind == npyFile {
		if name != "" {
			return nil, bad("is a single array, and array %q was asked for", name).fix("leave the array's name away")
		}
		return openArray(in.path, in.f, in.size)
	}
	if in.kind == tensorsFile {
		return in.tensor(name, w)
	}
	if in.kind == legacyFile {
		file, err := in.torchLegacy()
		if err != nil {
			return nil, err
		}
		return file.array(name, w)
	}
	return in.member(name, w)
}
