package dump

import (
	"io"
	"strconv"
	"strings"
)

// Kind is the type of a column of a Table, and of a Value.
type Kind uint8

// The kinds of a Value. A column has one of the last three; each of its values may
// be Null.
const (
	Null Kind = iota
	Int
	Float
	String
)

// String is the kind's name: "null", "int", "float", "string".
func (k Kind) String() string {
	return [...]string{"null", "int", "float", "string"}[k]
}

// Value is a cell of a Table: the field that Kind names, or nothing.
type Value struct {
	Kind  Kind
	Int   int64
	Float float64
	Text  string
}

// Column is one column of a Table.
type Column struct {
	Name string
	Kind Kind
}

// Table gives the named, typed columns of a .csv or .tsv with a header, in row
// order, once. A column is Int if all its cells are integers, Float if all are
// numbers, else String; 007 is not a number, nor an integer beyond 64 bits. An
// empty cell is Null, and so is nan in a column of numbers.
type Table struct {
	in      input
	columns []Column
	rows    int64
	done    int64
	records *records
	err     error
}

// OpenTable opens a table of attributes. It is read through once for its types and
// number of rows.
func OpenTable(path string) (*Table, error) {
	t, err := openTable(path)
	return t, at(path, err)
}

func openTable(path string) (*Table, error) {
	in, err := identify(path)
	if err != nil {
		return nil, err
	}
	t := &Table{in: in}
	if err := t.scan(); err != nil {
		in.f.Close()
		return nil, err
	}
	return t, nil
}

// scan is the first pass.
func (t *Table) scan() error {
	if t.in.kind != textFile || t.in.ext != ".csv" && t.in.ext != ".tsv" {
		return bad("is not a .csv or .tsv").fix("write attributes as a .csv with a header line: df.to_csv(path, index=False)")
	}
	header, err := t.start()
	if err == io.EOF {
		return bad("holds no header line")
	}
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, name := range header {
		name = strings.Clone(strings.TrimSpace(name))
		switch {
		case name == "":
			return bad("has a column without a name").fix("name it in the header line; pandas: df.to_csv(path, index=False)")
		case isNumber(name):
			return bad("has a column named %s: is the header line missing?", quote(name)).fix("write the names of the columns on the first line")
		case seen[name]:
			return bad("has two columns named %s", quote(name)).fix("rename one")
		}
		seen[name] = true
		t.columns = append(t.columns, Column{Name: name})
	}
	for {
		fields, err := t.records.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		for i, f := range fields {
			t.columns[i].Kind = max(t.columns[i].Kind, kindOf(f))
		}
		t.rows++
	}
	if t.rows == 0 {
		return bad("holds no rows under its header line")
	}
	for i, c := range t.columns {
		if c.Kind == Null {
			t.columns[i].Kind = String
		}
	}
	_, err = t.start()
	return err
}

// start begins a pass and reads the header.
func (t *Table) start() ([]string, error) {
	t.records = newRecords(again(t.in.f, t.in.size), t.in.ext)
	return t.records.next()
}

// kindOf is the narrowest kind that holds a cell. Kinds widen in the order of
// their constants, so a column's is the largest of its cells'.
func kindOf(cell string) Kind {
	cell = strings.TrimSpace(cell)
	if cell == "" {
		return Null
	}
	if digits := strings.TrimLeft(cell, "+-"); len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' {
		return String
	}
	if _, err := strconv.ParseInt(cell, 10, 64); err == nil {
		return Int
	}
	if strings.Trim(cell, "+-0123456789") == "" { // an integer that does not fit, or a date
		return String
	}
	if strings.EqualFold(cell, "nan") {
		return Float
	}
	if _, err := strconv.ParseFloat(cell, 64); err == nil {
		return Float
	}
	return String
}

// Columns are the table's columns in file order.
func (t *Table) Columns() []Column { return t.columns }

// Rows is the number of rows, without the header.
func (t *Table) Rows() int64 { return t.rows }

// Name is the path.
func (t *Table) Name() string { return t.in.path }

// Close closes the file.
func (t *Table) Close() error { return t.in.f.Close() }

// Next fills dst, one slice a column and all of one length, with the next rows and
// returns how many; it returns 0 and io.EOF after the last.
func (t *Table) Next(dst [][]Value) (int, error) {
	if t.err != nil || len(dst) == 0 {
		return 0, t.err
	}
	for i := range dst[0] {
		fields, err := t.records.next()
		if err == io.EOF && i > 0 {
			return i, nil
		}
		if err == io.EOF && t.done < t.rows {
			err = shrunk(err)
		}
		if err != nil {
			t.err = err
			if err != io.EOF {
				t.err = at(t.in.path, err)
			}
			return 0, t.err
		}
		for c := range t.columns {
			dst[c][i] = parseValue(t.columns[c].Kind, fields[c])
		}
		t.done++
	}
	return len(dst[0]), nil
}

// parseValue reads a cell of a column of kind k; what does not parse (the file
// changed since the first pass) is Null.
func parseValue(k Kind, cell string) Value {
	text := strings.TrimSpace(cell)
	if text == "" {
		return Value{}
	}
	switch k {
	case Int:
		if v, err := strconv.ParseInt(text, 10, 64); err == nil {
			return Value{Kind: Int, Int: v}
		}
	case Float:
		if v, err := strconv.ParseFloat(text, 64); err == nil && v == v {
			return Value{Kind: Float, Float: v}
		}
	default:
		return Value{Kind: String, Text: strings.Clone(cell)}
	}
	return Value{}
}
