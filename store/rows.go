package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"membank/simd"
)

// Want says which parts of a row to fetch beyond its number, key and label.
type Want struct {
	Vector     bool
	Attributes bool
}

// Row is one row of a bank.
type Row struct {
	Row        int64
	Key        string
	Label      int64            // NoLabel: none
	Vector     []float32        // nil unless wanted
	Attributes map[string]Value // nil unless wanted; null values are left out
}

// Rows returns rows in the order asked for. A number that is absent or deleted is
// an ErrNoRow. Each block that is concerned is read once.
func (s *Snapshot) Rows(ctx context.Context, rows []int64, w Want) ([]Row, error) {
	g := s.g
	order := make([]int, len(rows))
	for i, row := range rows {
		if !s.Alive(row) {
			return nil, fmt.Errorf("bank %q: %w: %d", g.bank, ErrNoRow, row)
		}
		order[i] = i
	}
	at, err := s.positions(rows)
	if err != nil {
		return nil, err
	}
	for i, position := range at {
		if position < 0 {
			return nil, place{g.bank, -1}.damaged("places", fmt.Sprintf("row %d is alive and has none", rows[i]))
		}
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(at[a], at[b]) })
	var names []string
	if w.Attributes {
		names = g.attributes
	}
	out := make([]Row, len(rows))
	r := s.NewReader()
	for len(order) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		block := g.blockAt(at[order[0]])
		ref := g.blocks[block]
		n := 0
		for n < len(order) && at[order[n]] < ref.first+int64(ref.rows) {
			n++
		}
		some := order[:n]
		order = order[n:]
		err := r.Columns(block, func(c *Columns) error {
			for _, o := range some {
				i := int(at[o] - ref.first)
				out[o] = Row{Row: c.Row[i], Key: c.Key(i), Label: c.Label[i]}
				if out[o].Row != rows[o] {
					return place{g.bank, block}.damaged("columns", fmt.Sprintf("row %d stands where %d belongs", c.Row[i], rows[o]))
				}
				if !w.Attributes {
					continue
				}
				out[o].Attributes = map[string]Value{}
				for _, name := range names {
					if v := c.Attribute(name, i); !v.IsNull() {
						out[o].Attributes[name] = v
					}
				}
			}
			return nil
		}, names...)
		if err == nil && w.Vector {
			err = r.View(block, func(b *Block) error {
				for _, o := range some {
					out[o].Vector = make([]float32, g.dim)
					simd.UnpackRow(out[o].Vector, b.Panels, int(at[o]-ref.first))
				}
				return nil
			})
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Lookup returns the row of each key, -1 for keys that no live row has. It reads
// the columns of every block once, however many keys are asked for.
func (s *Snapshot) Lookup(ctx context.Context, keys []string) ([]int64, error) {
	g := s.g
	rows := make([]int64, len(keys))
	hashes := make([]uint64, len(keys))
	order := make([]int, len(keys))
	plain := slices.ContainsFunc(g.blocks, func(r blockRef) bool { return !r.keyed })
	mixed := plain && g.keyed()
	for i, key := range keys {
		rows[i], hashes[i], order[i] = -1, hashKey(key), i
		if row, ok := defaultRow(key); ok && plain && s.Alive(row) {
			rows[i] = row
		}
	}
	if mixed {
		if err := s.plainRows(rows); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(hashes[a], hashes[b]) })
	r := s.NewReader()
	for block, ref := range g.blocks {
		if !ref.keyed {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		err := r.Columns(block, func(c *Columns) error {
			from := 0
			for n, o := range order {
				// Equal hashes share an answer position, so start over for them.
				if n > 0 && hashes[order[n-1]] == hashes[o] {
					from = 0
				}
				from = c.view.find(hashes[o], from, func(i int) {
					if !c.Dead[i] && c.view.key(i) == keys[o] {
						rows[o] = c.Row[i]
					}
				})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// plainRows sets those of rows to -1 that have a key of their own.
func (s *Snapshot) plainRows(rows []int64) error {
	var which []int
	var known []int64
	for i, row := range rows {
		if row >= 0 {
			which, known = append(which, i), append(known, row)
		}
	}
	at, err := s.positions(known)
	if err != nil {
		return err
	}
	for i, position := range at {
		if position < 0 || s.g.blocks[s.g.blockAt(position)].keyed {
			rows[which[i]] = -1
		}
	}
	return nil
}
