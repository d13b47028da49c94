package store

import (
	"context"
	"fmt"
)

// GroupOptions say how a bank's rows are put into another order.
type GroupOptions struct {
	Lists   int // number of lists, of Group alone
	Threads int // goroutines that read, assign and encode; 0 means 1
	// Memory is the bytes for rows on their way to their new place: the bank is
	// read as many times as it is larger. 0 is 256 MiB. What comes on top is 4
	// bytes a row number and the 110 MiB of a Writer.
	Memory int64
	// Encode, if set, makes the codes of the new blocks, under Basis or, if that is
	// nil, the basis that the bank has. Without it they have none.
	Encode Encoder
	Basis  []byte
	// Progress, if set, is told of the blocks read and encoded; calls do not overlap.
	Progress func(done, total int64)
}

const groupMemory = 256 << 20

// Group rewrites a bank with its rows sorted by list, and by row number within a
// list, and gives it lists, which describes them to the caller (see Lists). Row
// numbers, keys, labels and attributes stay; deleted rows are dropped, which keeps
// their numbers out of use. A bank that is grouped is grouped anew.
//
// All of it is written beside what there is, so it takes the bank's size on disk;
// readers go on, and until it returns without an error the bank is as it was.
// Errors: ErrNoBank, ErrBusy, ErrReadOnly, ErrNoSpace, ErrCorrupt, those of assign,
// Encode and ctx.
func (db *DB) Group(ctx context.Context, bank string, lists []byte, assign Assigner, o GroupOptions) (Info, error) {
	if o.Lists < 1 || len(lists) == 0 {
		return Info{}, fmt.Errorf("bank %q: %d lists described by %d bytes", bank, o.Lists, len(lists))
	}
	g, err := db.reserve(bank, Append)
	if err != nil {
		return Info{}, err
	}
	defer db.release(bank)
	w := &rewrite{db: db, s: &Snapshot{db: db, g: g}, o: o, lists: o.Lists, opaque: lists}
	defer w.s.Close()
	w.listsOf = func(r *Reader, block int, put func(row int64, list int32)) error {
		return r.View(block, func(b *Block) error {
			list := make([]int32, b.Rows)
			if err := assign(list, b); err != nil {
				return fmt.Errorf("assigning rows to lists: %w", err)
			}
			if err := checkAssigned(list, b, o.Lists); err != nil {
				return err
			}
			for i, row := range b.Row[:b.Rows] {
				if !b.Dead[i] {
					put(row, list[i])
				}
			}
			return nil
		})
	}
	return w.run(ctx)
}

// Ungroup rewrites a bank in row order and forgets its lists; otherwise it is as
// Group. It does nothing to a bank that is in row order and has no dead lanes.
func (db *DB) Ungroup(ctx context.Context, bank string, o GroupOptions) (Info, error) {
	g, err := db.reserve(bank, Append)
	if err != nil {
		return Info{}, err
	}
	defer db.release(bank)
	w := &rewrite{db: db, s: &Snapshot{db: db, g: g}, o: o}
	defer w.s.Close()
	if g.listCount() == 0 && g.deltaLanes() == 0 && g.lanes() == g.next-g.dead {
		return g.info(), nil
	}
	w.listsOf = w.oneList
	return w.run(ctx)
}

// Fold rewrites a bank whose blocks no longer lie well. It drops dead lanes and
// puts overwritten rows back where they belong: in a grouped bank into their lists,
// with what was appended since the last Group or Fold, in a flat one into row
// order. It does so if the lanes that this concerns are any, and at least the share
// least of all; otherwise folded is false and the bank is as it was. For the rest
// it is as Group.
func (db *DB) Fold(ctx context.Context, bank string, least float64, o GroupOptions) (info Info, folded bool, err error) {
	g, err := db.reserve(bank, Append)
	if err != nil {
		return Info{}, false, err
	}
	defer db.release(bank)
	w := &rewrite{db: db, s: &Snapshot{db: db, g: g}, o: o, lists: g.listCount()}
	defer w.s.Close()
	if waste := g.unfolded(); waste == 0 || float64(waste) < least*float64(g.lanes()) {
		return g.info(), false, nil
	}
	w.listsOf = w.oneList
	if w.lists > 0 {
		w.listsOf = w.ownLists
	}
	info, err = w.run(ctx)
	return info, err == nil, err
}

// unfolded is how many lanes a Fold would drop or merge: those that are dead, and
// in a grouped bank those written since the last one. What was appended to a flat
// bank lies as well as the rest, and a row that was overwritten there has left a
// dead lane behind.
func (g *generation) unfolded() int64 {
	n := g.lanes() - (g.next - g.dead)
	if g.listCount() == 0 {
		return n
	}
	for i := range g.blocks {
		if i >= g.layout.base {
			n += int64(g.blocks[i].rows)
			if g.deadIn != nil {
				n -= int64(g.deadIn[i])
			}
		}
	}
	return n
}
