package dump

import (
	"io"
	"slices"
	"strconv"
	"strings"
)

// Names that a header may give to the column of keys and of labels, the strongest
// first.
var (
	keyNames   = []string{"key", "path", "filename", "file", "image", "id", "name"}
	labelNames = []string{"label", "labels", "target", "class", "y"}
)

// named finds the column whose header is one of names, −1 if none is.
func named(header, names []string) int {
	for _, name := range names {
		for i, h := range header {
			if strings.EqualFold(strings.TrimSpace(h), name) {
				return i
			}
		}
	}
	return -1
}

// isNumber reports whether s is a number as strconv reads one.
func isNumber(s string) bool {
	_, err := strconv.ParseFloat(strings.TrimSpace(s), 32)
	return err == nil || strings.Contains(err.Error(), "range")
}

// counts reports whether fields are 0, 1, 2, …: what pandas writes as the header
// of a table whose columns have no names.
func counts(fields []string) bool {
	for i, f := range fields {
		if f != strconv.Itoa(i) {
			return false
		}
	}
	return len(fields) > 1
}

// layout says which columns of a table of features are what.
type layout struct {
	header     bool     // the first record names the columns
	names      []string // of all columns
	key, label int      // −1: none
	numbers    []int    // columns of the embedding, in order
}

// layoutOf reads the first record of a table. Records without a header are
// numbers throughout; a header has no numbers, but for the 0, 1, 2, … of pandas.
func layoutOf(first []string) (layout, error) {
	l := layout{key: -1, label: -1, names: slices.Clone(first)}
	l.key, l.label = named(first, keyNames), named(first, labelNames)
	if l.key < 0 && strings.TrimSpace(first[0]) == "" { // the index of pandas
		l.key = 0
	}
	var rest []string
	numbers := 0
	for i, f := range first {
		if i != l.key && i != l.label {
			l.numbers = append(l.numbers, i)
			rest = append(rest, f)
			if isNumber(f) {
				numbers++
			}
		}
	}
	switch {
	case l.key < 0 && l.label < 0 && numbers == len(first) && !counts(first):
		return l, nil
	case numbers > 0 && !counts(rest):
		return l, bad("line 1 has names and numbers").fix("give the table a header line such as key,label,f0,f1,…")
	case len(rest) == 0:
		return l, bad("has no columns of numbers beside %s", strings.Join(first, ", ")).fix("columns are separated by commas")
	}
	l.header = true
	return l, nil
}

// strs is a sequence of strings from a file, that can be read in two passes by
// opening it twice.
type strs interface {
	// next is io.EOF after the last.
	next() (string, error)
	// where says in words where the last one was: "line 7".
	where() string
}

// lineStrings gives each line of a text.
type lineStrings struct{ *lines }

func (s lineStrings) next() (string, error) {
	line, err := s.lines.next()
	return string(line), err
}

func (s lineStrings) where() string { return "line " + strconv.FormatInt(s.n, 10) }

// columnStrings gives one column of a table.
type columnStrings struct {
	*records
	column int
}

func (s columnStrings) next() (string, error) {
	fields, err := s.records.next()
	if err != nil {
		return "", err
	}
	return strings.Clone(fields[s.column]), nil
}

func (s columnStrings) where() string { return "line " + strconv.FormatInt(s.line, 10) }

// arrayStrings gives the elements of a one-dimensional array of strings.
type arrayStrings struct {
	*array
	chunk []byte // what is left of the last chunk
}

func (s *arrayStrings) next() (string, error) {
	if s.done == s.rows {
		return "", io.EOF
	}
	if s.texts != nil {
		s.done++
		return s.texts[s.done-1], nil
	}
	if len(s.chunk) == 0 {
		n := min(max(1, chunkBytes/s.size), s.rows-s.done)
		s.chunk = s.scratch(int(n * s.size))
		if err := s.fill(s.chunk); err != nil {
			return "", err
		}
	}
	text, ok := s.text(s.chunk)
	s.chunk = s.chunk[s.size:]
	s.done++
	if !ok {
		return "", bad("is not a Unicode string").row(s.done - 1).fix("save strings with np.save(path, np.array(names))")
	}
	if s.done == s.rows {
		return text, s.finish()
	}
	return text, nil
}

func (s *arrayStrings) where() string { return "row " + strconv.FormatInt(s.done-1, 10) }

// openStrings opens a pass over the strings of a file: the elements of an array,
// the column of a table that pick chooses by its first record, or lines.
// closing is what closes the file; it is the same for every pass.
func openStrings(in input, member string, w want, pick func(first []string) (column int, header bool, err error)) (strs, error) {
	if in.kind != textFile {
		a, err := in.array(member, w)
		if err != nil {
			return nil, err
		}
		return &arrayStrings{array: a}, a.flat()
	}
	if in.ext != ".csv" && in.ext != ".tsv" {
		return lineStrings{newLines(again(in.f, in.size), lineLimit)}, nil
	}
	first, err := newRecords(again(in.f, in.size), in.ext).next()
	if err == io.EOF {
		err = bad("holds no rows")
	}
	if err != nil {
		return nil, err
	}
	column, header, err := pick(first)
	if err != nil {
		return nil, err
	}
	t := newRecords(again(in.f, in.size), in.ext)
	if header {
		if _, err := t.next(); err != nil {
			return nil, err
		}
	}
	return columnStrings{t, column}, nil
}

// flat takes the array as a list: one dimension, or two of which one is a column.
func (a *array) flat() error {
	switch {
	case len(a.shape) == 1, len(a.shape) == 2 && a.shape[1] == 1:
		a.rows, a.dim = a.shape[0], 1
		if a.rows == 0 {
			return at(a.path, bad("holds no rows"))
		}
		return nil
	case len(a.shape) == 2 && strings.IndexByte("iub", a.kind) >= 0:
		return at(a.path, bad("has the shape %s, and there is one label a row", a.shapeString()).
			fix("one-hot labels: np.save(path, y.argmax(axis=1)); labels of several columns: save the one you mean"))
	}
	return at(a.path, bad("has the shape %s, and a list has one dimension", a.shapeString()).fix("np.save(path, y.reshape(-1))"))
}
