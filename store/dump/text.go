package dump

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	lineLimit   = 1 << 20 // bytes of a line of keys, labels or numbers apart
	recordLimit = 8 << 20 // bytes of a record of a .csv: 65,536 numbers fit
	textBuffer  = 1 << 18
)

// lines gives the lines of a UTF-8 text without their ends, LF or CRLF. The last
// needs none. A byte order mark is skipped.
type lines struct {
	r     *bufio.Reader
	n     int64 // lines given so far
	limit int
	long  []byte
}

func newLines(r io.Reader, limit int) *lines {
	return &lines{r: textReader(r), limit: limit}
}

// textReader buffers r and skips a byte order mark.
func textReader(r io.Reader) *bufio.Reader {
	b := bufio.NewReaderSize(r, textBuffer)
	if mark, _ := b.Peek(3); string(mark) == "\xef\xbb\xbf" {
		b.Discard(3)
	}
	return b
}

// next is valid until the next call, and io.EOF after the last line.
func (l *lines) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		l.long = append(l.long[:0], line...)
		for errors.Is(err, bufio.ErrBufferFull) {
			if len(l.long) > l.limit {
				return nil, bad("line %d is longer than %d bytes", l.n+1, l.limit).fix("is this the right file?")
			}
			line, err = l.r.ReadSlice('\n')
			l.long = append(l.long, line...)
		}
		line = l.long
	}
	if err == io.EOF && len(line) > 0 {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	l.n++
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	if bytes.IndexByte(line, 0) >= 0 || !utf8.Valid(line) {
		return nil, bad("line %d is not UTF-8 text: %s", l.n, quote(string(line))).fix("save it as UTF-8, or give the right file")
	}
	return line, nil
}

// records gives the records of a table in text: comma- or tab-separated with
// quotes (RFC 4180), or numbers apart by blanks.
type records struct {
	csv    *csv.Reader // nil: blanks
	lines  *lines
	budget *budget
	width  int   // columns of the first record
	line   int64 // line on which the last record began
	end    int64 // and ended
}

// newRecords reads from r; the extension says how columns are separated.
func newRecords(r io.Reader, ext string) *records {
	switch ext {
	case ".csv", ".tsv":
		t := &records{budget: &budget{r: r, left: recordLimit}}
		t.csv = csv.NewReader(textReader(t.budget))
		t.csv.ReuseRecord = true
		t.csv.FieldsPerRecord = -1
		if ext == ".tsv" {
			t.csv.Comma = '\t'
		}
		return t
	}
	return &records{lines: newLines(r, recordLimit)}
}

// next is valid until the next call, and io.EOF after the last record. A line
// without anything on it would shift every row behind it, so it is an error but at
// the end of the file.
func (t *records) next() ([]string, error) {
	fields, err := t.read()
	if err != nil {
		return nil, err
	}
	if t.width == 0 {
		t.width = len(fields)
	} else if len(fields) != t.width {
		return nil, bad("line %d has %s, the first has %d", t.line, plural(len(fields), "column"), t.width).
			fix("the file is damaged or a value holds the separator: put it in quotes")
	}
	return fields, nil
}

func (t *records) read() ([]string, error) {
	if t.csv == nil {
		return t.readBlanks()
	}
	t.budget.left = recordLimit
	fields, err := t.csv.Read()
	var parse *csv.ParseError
	switch {
	case errors.As(err, &parse):
		return nil, bad("line %d: %v", parse.StartLine, parse.Err).fix("quote a value that holds quotes as \"a \"\"b\"\" c\"")
	case err != nil:
		return nil, err
	}
	first, _ := t.csv.FieldPos(0)
	if int64(first) > t.end+1 {
		return nil, bad("line %d is empty", t.end+1).fix("take it out, or write \"\" for an empty value")
	}
	last, _ := t.csv.FieldPos(len(fields) - 1)
	t.line = int64(first)
	t.end = int64(last + strings.Count(fields[len(fields)-1], "\n"))
	for _, f := range fields {
		if !utf8.ValidString(f) {
			return nil, bad("line %d is not UTF-8 text: %s", t.line, quote(f)).fix("save it as UTF-8, or give the right file")
		}
	}
	return fields, nil
}

// readBlanks reads as np.loadtxt does: # begins a comment. Blank lines at the end
// of the file are let pass.
func (t *records) readBlanks() ([]string, error) {
	for empty := int64(0); ; {
		line, err := t.lines.next()
		if err != nil {
			return nil, err
		}
		text, _, comment := strings.Cut(string(line), "#")
		fields := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' })
		switch {
		case len(fields) > 0 && empty > 0:
			return nil, bad("line %d is empty", empty).fix("take it out")
		case len(fields) > 0:
			t.line, t.end = t.lines.n, t.lines.n
			return fields, nil
		case !comment && empty == 0:
			empty = t.lines.n
		}
	}
}

// budget refuses to read on once a single record has taken too much: an opening
// quote that is never closed would else pull in the rest of the file.
type budget struct {
	r    io.Reader
	left int
}

func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, bad("holds a record of more than %d bytes", recordLimit).fix("is a closing quote missing, or is this the wrong file?")
	}
	n, err := b.r.Read(p)
	b.left -= n
	return n, err
}

// again opens a second pass over an open file, from its start.
func again(f *os.File, size int64) io.Reader { return io.NewSectionReader(f, 0, size) }

// plural is "1 column" or "3 columns".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}
