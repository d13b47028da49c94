package dump

import (
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
)

const (
	classLimit     = 1 << 20  // names of classes
	classTextLimit = 64 << 20 // bytes of them
)

// Labels gives the class label of each row of a file, in row order, once.
//
// Integers are given as they are, of any width and byte order, booleans as 0 and
// 1. Names (a text or an array of strings) are numbered in sorted order, by code
// point, as torchvision's ImageFolder numbers folders; Names tells them. The
// integer of Options.NoLabel (by default −1), an empty line, cell or string give
// NoLabel.
type Labels struct {
	path    string
	close   func() error
	rows    int64
	array   *array // of integers; nil for text
	text    strs
	classes classes
	err     error
}

// OpenLabels opens labels: an .npy or .npz of integers, booleans or strings in one
// dimension, a .txt of one label a line, or a .csv with a column called label,
// labels, target, class or y (or of one column). Text is read through once for its
// length and names.
func OpenLabels(path string, o Options) (*Labels, error) {
	l, err := openLabels(path, o)
	return l, at(path, err)
}

func openLabels(path string, o Options) (*Labels, error) {
	in, err := identify(path)
	if err != nil {
		return nil, err
	}
	l := &Labels{path: path, close: in.f.Close, classes: classes{none: o.noLabel()}}
	if err := l.open(in, o); err != nil {
		in.f.Close()
		return nil, err
	}
	return l, nil
}

func (l *Labels) open(in input, o Options) error {
	if in.kind != textFile {
		a, err := in.array(o.Array, wantLabels)
		if err != nil {
			return err
		}
		l.path, l.close = a.path, a.close
		if a.kind == 'f' {
			return at(a.path, bad("holds %s (%s), and labels are integers or names", a.kindName(), a.descr).
				fix("np.save(path, y.astype(np.int64)), or y.argmax(axis=1) for one-hot rows"))
		}
		if err := a.flat(); err != nil {
			return err
		}
		l.rows = a.rows
		if a.kind != 'U' && a.kind != 'S' {
			l.array = a
			return nil
		}
	}
	if in.kind == textFile && o.Array != "" {
		return bad("is a text, and array %q was asked for", o.Array).fix("leave the array's name away")
	}
	pass := func() (strs, error) { return openStrings(in, o.Array, wantLabels, labelColumn) }
	text, err := pass()
	if err != nil {
		return err
	}
	scan := newClassScan(o)
	l.rows = 0
	for {
		s, err := text.next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = scan.add(s, text.where())
		}
		if err != nil {
			return err
		}
		l.rows++
	}
	if l.rows == 0 {
		return bad("holds no labels")
	}
	l.classes = scan.finish()
	l.text, err = pass()
	return err
}

// labelColumn finds the labels in a table.
func labelColumn(first []string) (int, bool, error) {
	if c := named(first, labelNames); c >= 0 {
		return c, true, nil
	}
	if len(first) == 1 {
		return 0, false, nil
	}
	return 0, false, bad("has %d columns and none is called label", len(first)).fix("give the table a header line that names the column of labels: label")
}

// Rows is the number of labels in the file.
func (l *Labels) Rows() int64 { return l.rows }

// Names are the class names of labels 0, 1, …, sorted; nil if labels are integers.
func (l *Labels) Names() []string { return l.classes.names }

// Name is the path, and for an .npz the member.
func (l *Labels) Name() string { return l.path }

// Close closes the file.
func (l *Labels) Close() error { return l.close() }

// Next fills dst with the next labels and returns how many; it returns 0 and
// io.EOF after the last.
func (l *Labels) Next(dst []int64) (int, error) {
	if l.err != nil || len(dst) == 0 {
		return 0, l.err
	}
	n, err := l.next(dst)
	if n == 0 && err == nil {
		err = io.EOF
	}
	if err != nil {
		if err != io.EOF {
			err = at(l.path, err)
		}
		l.err = err
		return 0, err
	}
	return n, nil
}

func (l *Labels) next(dst []int64) (int, error) {
	if l.array != nil {
		return l.array.integers(dst, l.classes.none)
	}
	for i := range dst {
		s, err := l.text.next()
		if err == io.EOF {
			return i, nil
		}
		if err == nil {
			dst[i], err = l.classes.label(s)
		}
		if err != nil {
			return 0, err
		}
	}
	return len(dst), nil
}

// integers reads the next elements of a list of integers.
func (a *array) integers(dst []int64, none int64) (int, error) {
	n := int(min(int64(len(dst)), a.rows-a.done))
	per := int(chunkBytes / a.size)
	for from := 0; from < n; from += per {
		part := dst[from:min(from+per, n)]
		chunk := a.scratch(len(part) * int(a.size))
		if err := a.fill(chunk); err != nil {
			return 0, err
		}
		for i := range part {
			v, ok := a.integer(chunk[i*int(a.size):])
			if !ok {
				return 0, bad("the label %d does not fit a signed 64-bit integer", uint64(v)).row(a.done + int64(i)).
					fix("np.save(path, y.astype(np.int64))")
			}
			if v == none {
				v = NoLabel
			}
			part[i] = v
		}
		a.done += int64(len(part))
	}
	if n > 0 && a.done == a.rows {
		return n, a.finish()
	}
	return n, nil
}

// classes turn the text of a label into its number.
type classes struct {
	names []string         // sorted; nil if labels are integers
	index map[string]int64 // of names
	none  int64            // the integer that means no label
}

// label is NoLabel for an empty text.
func (c *classes) label(s string) (int64, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return NoLabel, nil
	}
	if c.names == nil {
		v, err := labelInt(s)
		if err != nil {
			return 0, bad("changed while it was read").fix("is it still being written? wait, or copy it again")
		}
		if v == c.none {
			v = NoLabel
		}
		return v, nil
	}
	v, ok := c.index[s]
	if !ok {
		return 0, bad("changed while it was read").fix("is it still being written? wait, or copy it again")
	}
	return v, nil
}

// labelInt reads an integer; pandas writes a column with gaps as 3.0.
func labelInt(s string) (int64, error) {
	s, _ = strings.CutSuffix(s, ".0")
	return strconv.ParseInt(s, 10, 64)
}

// classScan is the first pass over labels in text.
type classScan struct {
	classes
	integer string // where the first integer was
	bytes   int
}

func newClassScan(o Options) *classScan {
	return &classScan{classes: classes{none: o.noLabel(), index: map[string]int64{}}}
}

// add takes a label; all are integers or all are names, so that one slip in a
// file of integers does not turn the rest into names.
func (c *classScan) add(s, where string) error {
	s = strings.TrimSpace(s)
	if s == "" {
		return nil
	}
	_, err := labelInt(s)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return bad("%s: the label %s does not fit a signed 64-bit integer", where, quote(s))
	case err == nil && len(c.index) == 0:
		if c.integer == "" {
			c.integer = where
		}
		return nil
	case err == nil:
		return bad("%s: the label %s is an integer, those before are names", where, quote(s)).fix("write all labels as integers, or all as names")
	case c.integer != "":
		return bad("%s: the label %s is a name, the one on %s is an integer", where, quote(s), c.integer).
			fix("write all labels as integers, or all as names")
	}
	if _, ok := c.index[s]; !ok {
		if c.bytes += len(s); c.bytes > classTextLimit || len(c.index) == classLimit {
			return bad("%s: more than %d different names of classes", where, len(c.index)).fix("are these keys? give them with --keys")
		}
		c.index[s] = 0
	}
	return nil
}

// finish numbers the names.
func (c *classScan) finish() classes {
	if len(c.index) == 0 {
		return classes{none: c.none}
	}
	for name := range c.index {
		c.names = append(c.names, name)
	}
	slices.Sort(c.names)
	for i, name := range c.names {
		c.index[name] = int64(i)
	}
	return c.classes
}
