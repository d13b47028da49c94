package dump

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"

	"membank/simd"
)

// features are embeddings in text, one row a record: columns of numbers, and
// perhaps one of keys and one of labels.
type features struct {
	layout
	in      input
	records *records
	rows    int64
	dim     int
	classes classes

	done   int64
	keys   []string // of the last batch
	labels []int64
}

// openFeatures makes the first pass over the table: it counts the rows, checks
// that all have the same columns, and collects the names of classes.
func openFeatures(in input, o Options) (*features, error) {
	if o.Array != "" {
		return nil, bad("is a text, and array %q was asked for", o.Array).fix("leave the array's name away")
	}
	t := &features{in: in}
	records := newRecords(again(in.f, in.size), in.ext)
	scan := newClassScan(o)
	for {
		fields, err := records.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if t.names == nil { // the first record
			if t.layout, err = layoutOf(fields); err != nil {
				return nil, err
			}
			t.dim = len(t.numbers)
			if t.dim > dimLimit {
				return nil, checkExtent(1, int64(t.dim))
			}
			if t.header {
				continue
			}
		}
		if t.label >= 0 {
			if err := scan.add(fields[t.label], "line "+strconv.FormatInt(records.line, 10)); err != nil {
				return nil, err
			}
		}
		t.rows++
	}
	if t.rows == 0 {
		return nil, checkExtent(0, 1)
	}
	t.classes = scan.finish()
	t.records = newRecords(again(in.f, in.size), in.ext)
	if t.header {
		if _, err := t.records.next(); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *features) shut() error { return t.in.f.Close() }

func (t *features) next(ctx context.Context, m simd.Matrix) (int, error) {
	t.keys, t.labels = t.keys[:0], t.labels[:0]
	for i := range m.Rows {
		if i%64 == 0 && ctx.Err() != nil {
			return 0, ctx.Err()
		}
		fields, err := t.records.next()
		if err == io.EOF && t.done == t.rows {
			if i == 0 {
				return 0, io.EOF
			}
			return i, nil
		}
		if err != nil {
			return 0, shrunk(err)
		}
		if err := t.parse(m.Row(i), fields); err != nil {
			return 0, err
		}
		t.done++
	}
	return m.Rows, nil
}

// parse reads one record. Numbers beyond float32 become infinite, as in the binary
// formats, and are the store's to refuse.
func (t *features) parse(row []float32, fields []string) error {
	for j, column := range t.numbers {
		text := strings.TrimSpace(fields[column])
		v, err := strconv.ParseFloat(text, 32)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			e := bad("line %d, %s: %s is not a number", t.records.line, t.columnName(column), quote(text))
			if text == "" {
				e.What = strings.Replace(e.What, `"" is not a number`, "no number", 1)
			}
			return e.row(t.done).fix("every cell of an embedding is a number; take other columns out")
		}
		row[j] = float32(v)
	}
	if t.key >= 0 {
		t.keys = append(t.keys, strings.Clone(fields[t.key]))
	}
	if t.label >= 0 {
		label, err := t.classes.label(fields[t.label])
		if err != nil {
			return err
		}
		t.labels = append(t.labels, label)
	}
	return nil
}

func (t *features) columnName(column int) string {
	if t.header {
		return "column " + quote(t.names[column])
	}
	return "column " + strconv.Itoa(column+1)
}
