package store

import (
	"cmp"
	"context"
	"math"
	"math/bits"
	"slices"
)

// checkDuplicates looks for two live rows of the new generation with the same
// key. It gathers the hashes of all keys, as many ranges of them one after
// another as the memory budget asks for, and compares the keys themselves where
// hashes are equal. What it reports is the duplicate whose second row comes first
// in the stream, whatever the budget.
func (w *Writer) checkDuplicates(ctx context.Context, g *generation) error {
	g.countDead()
	d := duplicates{s: &Snapshot{db: w.db, g: g}, firstNew: w.firstNew(), second: math.MaxInt64}
	d.r = d.s.NewReader()
	keyed, plain := int64(0), false
	for _, ref := range g.blocks {
		if ref.keyed {
			keyed += int64(ref.rows)
		} else {
			plain = true
		}
	}
	if keyed == 0 || w.rows == 0 {
		return nil // row numbers do not repeat
	}
	const entryBytes = 16
	passes := uint64((keyed*entryBytes + w.db.memory - 1) / w.db.memory)
	for pass := range passes {
		if err := d.pass(ctx, pass, passes, plain && pass == 0); err != nil {
			return err
		}
	}
	if d.second == math.MaxInt64 {
		return nil
	}
	e := &DuplicateKeyError{Key: d.key, Old: d.first, New: w.position(d.second), InBank: d.first < d.firstNew}
	if !e.InBank {
		e.Old = w.position(d.first)
	}
	return e
}

type duplicates struct {
	s        *Snapshot
	r        *Reader
	firstNew int64

	key           string
	first, second int64 // rows of the best duplicate so far
}

type hashedRow struct {
	hash uint64
	row  int64
}

// pass looks at one of passes equal ranges of hashes. With decimals set it also
// holds keys that look like row numbers against rows that are called by theirs.
func (d *duplicates) pass(ctx context.Context, pass, passes uint64, decimals bool) error {
	lo := rangeStart(pass, passes)
	hi := rangeStart(pass+1, passes) // 0: to the end
	var rows []hashedRow
	for block, ref := range d.s.g.blocks {
		if !ref.keyed {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		err := d.r.Columns(block, func(c *Columns) error {
			from := 0
			if lo > 0 {
				from = c.view.find(lo-1, 0, func(int) {})
			}
			for i := from; i < c.Rows; i++ {
				h, lane := c.view.hash(i), c.view.lane(i)
				if hi != 0 && h >= hi {
					break
				}
				if !c.Dead[lane] {
					rows = append(rows, hashedRow{h, c.Row[lane]})
				}
			}
			if decimals {
				return d.decimals(c)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	slices.SortFunc(rows, func(a, b hashedRow) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.row, b.row)) })
	for from := 0; from < len(rows); {
		to := from + 1
		for to < len(rows) && rows[to].hash == rows[from].hash {
			to++
		}
		if to-from > 1 && max(rows[from+1].row, d.firstNew) < d.second {
			if err := d.compare(rows[from:to]); err != nil {
				return err
			}
		}
		from = to
	}
	return nil
}

func rangeStart(i, n uint64) uint64 {
	if i == n {
		return 0
	}
	start, _ := bits.Div64(i, 0, n)
	return start
}

// compare fetches the keys of rows with the same hash, in row order, up to the
// first that repeats.
func (d *duplicates) compare(rows []hashedRow) error {
	seen := map[string]int64{}
	for _, h := range rows {
		if h.row >= d.second {
			return nil
		}
		key, err := d.keyOf(h.row)
		if err != nil {
			return err
		}
		if first, twice := seen[key]; twice {
			d.offer(key, first, h.row)
			return nil
		}
		seen[key] = h.row
	}
	return nil
}

func (d *duplicates) keyOf(row int64) (key string, err error) {
	block, lane, err := d.s.blockOf(row)
	if err != nil {
		return "", err
	}
	err = d.r.Columns(block, func(c *Columns) error {
		key = c.Key(lane)
		return nil
	})
	return key, err
}

// decimals offers keys of a block that are the number of a row without a key.
func (d *duplicates) decimals(c *Columns) error {
	for i, row := range c.Row {
		from, to := c.view.span(i)
		if c.Dead[i] || to == from || c.view.text[from] < '0' || c.view.text[from] > '9' {
			continue
		}
		key := c.Key(i)
		other, ok := defaultRow(key)
		if !ok || !d.s.Alive(other) {
			continue
		}
		block, _, err := d.s.blockOf(other)
		if err != nil {
			return err
		}
		if !d.s.g.blocks[block].keyed {
			d.offer(key, min(row, other), max(row, other))
		}
	}
	return nil
}

func (d *duplicates) offer(key string, first, second int64) {
	if second >= d.firstNew && second < d.second {
		d.key, d.first, d.second = key, first, second
	}
}
