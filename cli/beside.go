package cli

import (
	"errors"
	"io"
	"slices"

	"membank/store"
	"membank/store/dump"
)

// beside reads what lies in files beside the vectors: labels, keys and
// attributes, in step with them.
type beside struct {
	labels     *dump.Labels
	keys       *dump.Keys
	table      *dump.Table
	labelRows  []int64
	keyRows    []string
	cells      [][]dump.Value // a slice a column
	kept       []int          // columns that are attributes
	attributes []store.Attribute
}

// reserved are the names that --where knows anyway; a column of the table with
// one of them is no attribute.
var reserved = []string{"row", "key", "label", "class"}

// openBeside opens the files that serve all rows.
func (in *sources) openBeside(size int) (_ *beside, err error) {
	b := &beside{labelRows: make([]int64, size), keyRows: make([]string, size)}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if in.labels != "" {
		if err := b.openLabels(in.labels, in.labelsArray); err != nil {
			return nil, err
		}
	}
	if in.keys != "" {
		if b.keys, err = dump.OpenKeys(in.keys); err != nil {
			return nil, err
		}
	}
	if in.attributes != "" {
		if b.table, err = dump.OpenTable(in.attributes); err != nil {
			return nil, err
		}
		for i, c := range b.table.Columns() {
			b.cells = append(b.cells, make([]dump.Value, size))
			if !slices.Contains(reserved, c.Name) {
				b.kept = append(b.kept, i)
				b.attributes = append(b.attributes, store.Attribute{Name: c.Name, Values: make([]store.Value, size)})
			}
		}
	}
	return b, nil
}

func (b *beside) openLabels(path, array string) (err error) {
	if b.labels != nil {
		b.labels.Close()
	}
	b.labels, err = dump.OpenLabels(path, dump.Options{Array: array})
	return err
}

// next puts the next n rows beside rows.
func (b *beside) next(n int, rows *store.Rows) error {
	if b.labels != nil {
		got, err := b.labels.Next(b.labelRows[:n])
		if err := whole(got, err, n, b.labels.Name()); err != nil {
			return err
		}
		rows.Labels = b.labelRows[:n]
	}
	if b.keys != nil {
		got, err := b.keys.Next(b.keyRows[:n])
		if err := whole(got, err, n, b.keys.Name()); err != nil {
			return err
		}
		rows.Keys = b.keyRows[:n]
	}
	if b.table == nil {
		return nil
	}
	part := make([][]dump.Value, len(b.cells))
	for c := range b.cells {
		part[c] = b.cells[c][:n]
	}
	got, err := b.table.Next(part)
	if err := whole(got, err, n, b.table.Name()); err != nil {
		return err
	}
	for i, c := range b.kept {
		for r, v := range part[c] {
			b.attributes[i].Values[r] = stored(v)
		}
		rows.Attributes = append(rows.Attributes, store.Attribute{Name: b.attributes[i].Name, Values: b.attributes[i].Values[:n]})
	}
	return nil
}

// whole insists that a reader gave as many rows as were asked for: counts were
// compared before, so a file that ends early changed meanwhile.
func whole(got int, err error, want int, path string) error {
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if got != want {
		return badInput("%s: it changed while it was read (wait until it is written, then ingest again)", path)
	}
	return nil
}

// stored is a cell as the store keeps it.
func stored(v dump.Value) store.Value {
	switch v.Kind {
	case dump.Int:
		return store.Int(v.Int)
	case dump.Float:
		return store.Float(v.Float)
	case dump.String:
		return store.Text(v.Text)
	}
	return store.Value{}
}

func (b *beside) close() {
	if b.labels != nil {
		b.labels.Close()
	}
	if b.keys != nil {
		b.keys.Close()
	}
	if b.table != nil {
		b.table.Close()
	}
}
