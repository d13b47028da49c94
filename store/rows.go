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
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(rows[a], rows[b]) })
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
		block := g.blockOf(rows[order[0]])
		ref := g.blocks[block]
		n := 0
		for n < len(order) && rows[order[n]] < ref.first+int64(ref.rows) {
			n++
		}
		some := order[:n]
		order = order[n:]
		err := r.Columns(block, func(c *Columns) error {
			for _, o := range some {
				i := int(rows[o] - ref.first)
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
					simd.UnpackRow(out[o].Vector, b.Panels, int(rows[o]-ref.first))
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
	for i, key := range keys {
		rows[i], hashes[i], order[i] = -1, hashKey(key), i
		if row, ok := defaultRow(key); ok && s.Alive(row) && !g.blocks[g.blockOf(row)].keyed {
			rows[i] = row
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

// Batch is a run of live rows, one element a row in each slice.
type Batch struct {
	Vectors    simd.Matrix // borrowed: overwritten by the next batch
	Rows       []int64     // borrowed likewise
	Keys       []string
	Labels     []int64     // borrowed likewise; NoLabel for none
	Attributes []Attribute // of every attribute the bank has; values borrowed likewise
}

// Batches calls fn with all live rows in row order, at most size at a time (every
// batch but the last has as many). It holds one block and one batch.
func (s *Snapshot) Batches(ctx context.Context, size int, fn func(Batch) error) error {
	g := s.g
	if size < 1 {
		return fmt.Errorf("batches of %d rows", size)
	}
	size = int(min(int64(size), max(g.next, 1)))
	largest := 0
	for _, ref := range g.blocks {
		largest = max(largest, ref.rows)
	}
	r := s.NewReader()
	rows := simd.NewMatrix(largest, g.dim)
	out := Batch{Vectors: simd.NewMatrix(size, g.dim)}
	for _, name := range g.attributes {
		out.Attributes = append(out.Attributes, Attribute{Name: name})
	}
	n := 0
	flush := func() error {
		if n == 0 {
			return nil
		}
		full := out
		full.Vectors = out.Vectors.Slice(0, n)
		n = 0
		err := fn(full)
		out.Rows, out.Labels, out.Keys = out.Rows[:0], out.Labels[:0], nil
		for i := range out.Attributes {
			out.Attributes[i].Values = out.Attributes[i].Values[:0]
		}
		return err
	}
	var keys []string
	for block, ref := range g.blocks {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.unpack(block, rows.Slice(0, ref.rows)); err != nil {
			return err
		}
		if err := r.loadColumns(block, g.attributes); err != nil {
			return err
		}
		c := &r.columns
		keys = c.Keys(keys[:0])
		for i := range c.Rows {
			if c.Dead[i] {
				continue
			}
			copy(out.Vectors.Row(n), rows.Row(i))
			out.Rows = append(out.Rows, c.Row[i])
			out.Keys = append(out.Keys, keys[i])
			out.Labels = append(out.Labels, c.Label[i])
			for a := range out.Attributes {
				out.Attributes[a].Values = append(out.Attributes[a].Values, c.Attribute(out.Attributes[a].Name, i))
			}
			if n++; n == size {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	return flush()
}
