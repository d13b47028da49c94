package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"membank/simd"
)

// UpdateRows gives live rows new vectors: row rows[i] becomes row i of vectors.
// Row numbers, keys, labels and attributes stay. The rows are written into new
// blocks, deltas; the lanes that they had are dead from then on, until a Fold
// leaves them behind. So it costs what an append of as many rows costs, and up to
// 256 KiB for each 65536 rows of the bank that have one among them. assign says
// which lists the vectors belong to; a flat bank needs none.
//
// Until it returns without an error the bank is as it was. Errors: ErrNoBank,
// ErrBusy, ErrReadOnly, ErrNoSpace, ErrCorrupt; ErrDim; ErrNoRow for a row that is
// not there or deleted; ErrGrouped when assign is missing; *RowError, whose Row
// counts vectors, for one that cannot be stored and for a row that is given twice.
func (db *DB) UpdateRows(ctx context.Context, bank string, rows []int64, vectors simd.Matrix, assign Assigner) (Info, error) {
	g, err := db.reserve(bank, Append)
	if err != nil {
		return Info{}, err
	}
	defer db.release(bank)
	u := &overwrite{db: db, s: &Snapshot{db: db, g: g}, rows: rows, vectors: vectors}
	defer u.s.Close()
	if err := u.check(assign); err != nil {
		return Info{}, err
	}
	if len(rows) == 0 {
		return g.info(), nil
	}
	return u.run(ctx, assign)
}

// overwrite is one UpdateRows under way.
type overwrite struct {
	db      *DB
	s       *Snapshot
	rows    []int64
	vectors simd.Matrix
	which   *roaring64.Bitmap // rows as a set
	feed
	zeros int64
}

func (u *overwrite) check(assign Assigner) error {
	g := u.s.g
	switch {
	case u.vectors.Dim != g.dim:
		return fmt.Errorf("bank %q: %w: it has dimension %d, the rows have %d", g.bank, ErrDim, g.dim, u.vectors.Dim)
	case u.vectors.Rows != len(u.rows):
		return fmt.Errorf("bank %q: %w: %d vectors for %d rows", g.bank, ErrBadRow, u.vectors.Rows, len(u.rows))
	case g.listCount() > 0 && assign == nil:
		return fmt.Errorf("bank %q: %w: rows cannot be overwritten without its lists", g.bank, ErrGrouped)
	}
	u.which = roaring64.New()
	for i, row := range u.rows {
		if !u.s.Alive(row) {
			return fmt.Errorf("bank %q: %w: %d", g.bank, ErrNoRow, row)
		}
		if !u.which.CheckedAdd(uint64(row)) {
			return &RowError{Row: int64(i), Err: fmt.Errorf("%w: row %d of bank %q is given twice", ErrBadRow, row, g.bank)}
		}
	}
	return nil
}

func (u *overwrite) run(ctx context.Context, assign Assigner) (Info, error) {
	g := u.s.g
	m := g.manifest.clone()
	m.generation++
	if m.layout == nil {
		m.layout = &layout{base: len(m.blocks)}
	}
	at, err := u.s.positions(u.rows)
	if err != nil {
		return Info{}, err
	}
	u.pipeline = newPipeline(u.db, m)
	err = u.pipeline.relocate(m, u.s, assign)
	var c carried
	if err == nil {
		u.filling, c, err = u.pipeline.reopen(ctx, u.s, func(row int64) bool { return u.which.Contains(uint64(row)) })
		u.begins = c.first
	}
	if err == nil {
		err = u.write(ctx)
	}
	if err != nil {
		u.pipeline.fail(err)
	}
	err = u.pipeline.wait()
	m.attributes, m.blocks = u.pipeline.table()
	m.zeros += u.zeros
	next := &generation{manifest: m, deadRows: g.deadRows, classes: g.classes}
	for _, position := range at {
		if position < c.first {
			c.superseded = append(c.superseded, position)
		}
	}
	c.settle(next, g.deadLanes)
	a := &addition{db: u.db, m: m, written: u.pipeline.written}
	return a.publish(ctx, next, change{lanes: true}, err)
}

// write sends the rows off in blocks, with what the bank knows of them.
func (u *overwrite) write(ctx context.Context) error {
	g := u.s.g
	keyed := g.keyed()
	const piece = 1 << 16 // what is known of the rows is read by so many at once
	for from := 0; from < len(u.rows); from += piece {
		some := u.rows[from:min(from+piece, len(u.rows))]
		known, err := u.s.Rows(ctx, some, Want{Attributes: true})
		if err != nil {
			return err
		}
		columns := columnsOf(known, keyed, g.attributes)
		for i, row := range some {
			if err := u.makeRoom(ctx, keyed); err != nil {
				return err
			}
			zero, err := u.filling.addVector(u.vectors.Row(from + i))
			if err != nil {
				return &RowError{Row: int64(from + i), Err: err}
			}
			if zero {
				u.zeros++
			}
			u.filling.numbers = append(u.filling.numbers, row)
			u.filling.addColumns(columns, i, known[i].Label)
		}
	}
	return u.seal(ctx)
}

// columnsOf turns rows that were fetched into what addColumns takes.
func columnsOf(known []Row, keyed bool, names []string) (r Rows) {
	for _, row := range known {
		if keyed {
			r.Keys = append(r.Keys, row.Key)
		}
	}
	for _, name := range names {
		a := Attribute{Name: name}
		for _, row := range known {
			a.Values = append(a.Values, row.Attributes[name])
		}
		if slices.ContainsFunc(a.Values, func(v Value) bool { return !v.IsNull() }) {
			r.Attributes = append(r.Attributes, a)
		}
	}
	return r
}
