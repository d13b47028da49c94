package torture

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"

	"membank/index"
	"membank/simd"
	"membank/store"
)

// Rows are put into lists by a rule that has nothing to do with neighbourhood: what
// is tortured is where rows stand, and an exact search must find them anywhere.

// lists is the description of so many lists. Its last is that of strays. Vectors
// have elements in -8..8, so no row is farther from any centroid than it says.
func lists(count, dim int, seed uint64) *index.Lists {
	n := count - 1
	l := &index.Lists{Metric: index.Dot, Seed: seed, Centroids: segment{Seed: seed, Rows: n}.vectors(dim),
		Rows: make([]int64, n), Near: make([]float32, n), Radius: make([]float32, n)}
	for i := range n {
		l.Near[i], l.Radius[i] = 1, float32(1.001*16*math.Sqrt(float64(dim)))
	}
	return l
}

// assigner puts a row into a list by its first element; nil for a flat bank.
func assigner(lists int) store.Assigner {
	if lists == 0 {
		return nil
	}
	return func(list []int32, b *store.Block) error {
		for i := range b.Rows {
			x := b.Panels[i/simd.PanelRows*simd.PanelRows*b.Dim+i%simd.PanelRows]
			list[i] = int32(int(x+8) % lists)
		}
		return nil
	}
}

func pickThere(_ *rand.Rand, name string, b *bank) (change, bool) {
	if b == nil {
		return change{}, false
	}
	return change{Bank: name, Dim: b.dim}, true
}

func pickGroup(r *rand.Rand, name string, b *bank) (change, bool) {
	c, ok := pickThere(r, name, b)
	c.Lists, c.New.Seed = 2+r.IntN(20), r.Uint64()>>12
	return c, ok
}

func pickUngroup(r *rand.Rand, name string, b *bank) (change, bool) {
	c, ok := pickThere(r, name, b)
	return c, ok && b.lists > 0
}

func applyLists(b *bank, c change) *bank {
	b.lists = c.Lists
	return b
}

// layoutOptions has memory for few rows, so that they are gathered in several
// scans, and codes where the bank has a basis.
func layoutOptions(db *store.DB, c change) (store.GroupOptions, error) {
	o := store.GroupOptions{Lists: c.Lists, Threads: 2, Memory: 1 << 20}
	s, err := db.Snapshot(c.Bank)
	if err != nil {
		return o, err
	}
	defer s.Close()
	record, err := s.Basis()
	if err != nil || record == nil {
		return o, err
	}
	basis, err := index.DecodeBasis(record)
	if err == nil {
		o.Encode = basis.EncodeBlock
	}
	return o, err
}

func group(ctx context.Context, db *store.DB, c change) (store.Info, error) {
	o, err := layoutOptions(db, c)
	if err != nil {
		return store.Info{}, err
	}
	return db.Group(ctx, c.Bank, lists(c.Lists, c.Dim, c.New.Seed).Encode(), assigner(c.Lists), o)
}

func ungroup(ctx context.Context, db *store.DB, c change) (store.Info, error) {
	o, err := layoutOptions(db, c)
	if err != nil {
		return store.Info{}, err
	}
	return db.Ungroup(ctx, c.Bank, o)
}

func fold(ctx context.Context, db *store.DB, c change) (store.Info, error) {
	o, err := layoutOptions(db, c)
	if err != nil {
		return store.Info{}, err
	}
	info, _, err := db.Fold(ctx, c.Bank, 0, o)
	return info, err
}

func pickUpdate(r *rand.Rand, name string, b *bank) (change, bool) {
	c, ok := pickDelete(r, name, b)
	c.New.Seed = r.Uint64() >> 12
	return c, ok
}

func applyUpdate(b *bank, c change) *bank {
	if b.over == nil {
		b.over = map[int64]uint64{}
	}
	for _, row := range b.chosen(c) {
		if !b.dead[row] {
			b.over[row] = c.New.Seed
		}
	}
	return b
}

func updateRows(ctx context.Context, db *store.DB, c change) (store.Info, error) {
	s, err := db.Snapshot(c.Bank)
	if err != nil {
		return store.Info{}, err
	}
	info := s.Info()
	b := &bank{next: info.Next}
	rows := slices.DeleteFunc(b.chosen(c), func(row int64) bool { return !s.Alive(row) })
	s.Close()
	vectors := simd.NewMatrix(len(rows), info.Dim)
	for i, row := range rows {
		segment{Seed: c.New.Seed}.vector(vectors.Row(i), int(row))
	}
	return db.UpdateRows(ctx, c.Bank, rows, vectors, assigner(info.Lists))
}
