package store

import (
	"context"
	"fmt"
	"slices"
)

// SetAttributes gives all rows of a bank new values of some attributes, those the
// bank has and new ones: Values[i] is of row number i, so there are Info.Next of
// them, those of deleted rows without effect. An attribute that is null in every
// row is removed. Vectors, keys, labels and other attributes stay, nothing of them
// is rewritten, and readers go on; until it returns without an error the bank is
// as it was. It reads the row numbers of every block and writes 9 bytes a value
// beside texts.
//
// Errors: ErrNoBank, ErrBusy, ErrReadOnly, ErrNoSpace, ErrCorrupt; ErrBadName for
// a name; *RowError for a value or when the number of values is another.
func (db *DB) SetAttributes(ctx context.Context, bank string, attributes []Attribute) (Info, error) {
	g, err := db.reserve(bank, Append)
	if err != nil {
		return Info{}, err
	}
	defer db.release(bank)
	s := &Snapshot{db: db, g: g}
	defer s.Close()
	if err := checkAttributes(attributes, g.next); err != nil {
		return Info{}, fmt.Errorf("bank %q: %w", bank, err)
	}
	a := newAddition(db, g)
	tables := a.keptAttributes(attributes)
	return a.finish(ctx, g, a.annotate(ctx, s, attributes, tables))
}

func checkAttributes(attributes []Attribute, next int64) error {
	names := map[string]bool{}
	for _, a := range attributes {
		if err := checkAttributeName(a.Name); err != nil {
			return err
		}
		if names[a.Name] {
			return fmt.Errorf("%w: attribute %q is given twice", ErrBadName, a.Name)
		}
		names[a.Name] = true
		if int64(len(a.Values)) != next {
			return &RowError{Row: min(int64(len(a.Values)), next),
				Err: fmt.Errorf("%w: %d values of attribute %q for %d rows", ErrBadRow, len(a.Values), a.Name, next)}
		}
		for i, v := range a.Values {
			if err := checkValue(v); err != nil {
				return &RowError{Row: int64(i), Err: fmt.Errorf("attribute %q: %w", a.Name, err)}
			}
		}
	}
	return nil
}

// keptAttributes returns the attribute records of each block that stay, by name.
func (a *addition) keptAttributes(replaced []Attribute) []map[string]recordRef {
	tables := make([]map[string]recordRef, len(a.m.blocks))
	for i, ref := range a.m.blocks {
		tables[i] = map[string]recordRef{}
		for _, old := range ref.attributes {
			name := a.m.attributes[old.name]
			if !slices.ContainsFunc(replaced, func(r Attribute) bool { return r.Name == name }) {
				tables[i][name] = old.recordRef
			}
		}
	}
	return tables
}

// annotate writes the records of new attributes and puts them into the manifest.
func (a *addition) annotate(ctx context.Context, s *Snapshot, attributes []Attribute, tables []map[string]recordRef) error {
	r := s.NewReader()
	var values []Value
	for i, ref := range a.m.blocks {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := r.Columns(i, func(c *Columns) error {
			for _, attribute := range attributes {
				values = values[:0]
				for _, row := range c.Row {
					values = append(values, attribute.Values[row])
				}
				if !slices.ContainsFunc(values, func(v Value) bool { return !v.IsNull() }) {
					continue
				}
				tables[i][attribute.Name] = a.add(kindAttribute, ref.rows, encodeAttribute(values))
			}
			return nil
		})
		if err == nil {
			err = a.writeFull()
		}
		if err != nil {
			return err
		}
	}
	names, lists := attributeTable(tables)
	if len(names) > mostAttribute {
		return fmt.Errorf("%w: more than %d attributes", ErrBadName, mostAttribute)
	}
	a.m.attributes = names
	for i := range a.m.blocks {
		a.m.blocks[i].attributes = lists[i]
	}
	return nil
}

// attributeTable numbers the attributes of all blocks: their names, sorted, and
// the records of each block in that order.
func attributeTable(tables []map[string]recordRef) (names []string, lists [][]attributeRef) {
	set := map[string]bool{}
	for _, table := range tables {
		for name := range table {
			if !set[name] {
				set[name] = true
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	lists = make([][]attributeRef, len(tables))
	for i, table := range tables {
		for n, name := range names {
			if ref, ok := table[name]; ok {
				lists[i] = append(lists[i], attributeRef{n, ref})
			}
		}
	}
	return names, lists
}
