package store

import (
	"context"
	"fmt"
	"sync"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

// Snapshot is one generation of a bank, pinned: later writes do not change what
// it reads, and what it names is not deleted before Close. It is safe for
// concurrent use; a Reader is not.
type Snapshot struct {
	db   *DB
	g    *generation
	once sync.Once
}

// Snapshot pins the current generation of a bank. Errors: ErrNoBank; ErrCorrupt
// when its manifest is damaged.
func (db *DB) Snapshot(bank string) (*Snapshot, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	g, err := db.generationOf(bank)
	if err != nil {
		return nil, err
	}
	g.pins++
	return &Snapshot{db: db, g: g}, nil
}

// generationOf returns the current generation of a bank; db.mu is held.
func (db *DB) generationOf(bank string) (*generation, error) {
	if err := db.damaged[bank]; err != nil {
		return nil, err
	}
	g, ok := db.banks[bank]
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrNoBank, bank)
	}
	return g, nil
}

// Close releases the snapshot; records that nothing else names are deleted. It
// may be called twice.
func (s *Snapshot) Close() {
	s.once.Do(func() {
		s.db.mu.Lock()
		s.g.pins--
		last := s.g.pins == 0 && s.g.retired
		s.db.mu.Unlock()
		if last {
			s.db.collectGarbage()
		}
	})
}

// Info describes the generation.
func (s *Snapshot) Info() Info { return s.g.info() }

// Bank is the bank's name.
func (s *Snapshot) Bank() string { return s.g.bank }

// Blocks is the number of blocks, numbered from 0: in row order in a bank whose
// rows were only ever appended, by list in a grouped one, with what was written
// since at the end.
func (s *Snapshot) Blocks() int { return len(s.g.blocks) }

// InRowOrder reports whether blocks, and the rows in them, stand in row order: rows
// were only ever appended, or ungrouped since.
func (s *Snapshot) InRowOrder() bool { return s.g.layout == nil }

// BlockRows is the number of rows in a block, dead ones included.
func (s *Snapshot) BlockRows(block int) int { return s.g.blocks[block].rows }

// Dim is the dimension of the vectors.
func (s *Snapshot) Dim() int { return s.g.dim }

// MaxNorm is the largest ‖x‖ of all rows, deleted ones included.
func (s *Snapshot) MaxNorm() float64 { return s.g.maxNorm() }

// Alive reports whether a row is there and not deleted.
func (s *Snapshot) Alive(row int64) bool {
	return row >= 0 && row < s.g.next && !s.g.deadRows.Contains(uint64(row))
}

// Dead returns the deleted rows. The bitmap is shared and must not be changed.
func (s *Snapshot) Dead() *roaring64.Bitmap { return s.g.deadRows }

func (s *Snapshot) check(block int) error {
	if block < 0 || block >= len(s.g.blocks) {
		return fmt.Errorf("bank %q has no block %d, only %d", s.g.bank, block, len(s.g.blocks))
	}
	return nil
}

// Labels returns the label of every row number, NoLabel for rows that have none
// or are deleted: 8·Next bytes.
func (s *Snapshot) Labels(ctx context.Context) ([]int64, error) {
	labels := make([]int64, s.g.next)
	for i := range labels {
		labels[i] = NoLabel
	}
	r := s.NewReader()
	for block := range s.g.blocks {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		err := r.Columns(block, func(c *Columns) error {
			for i, row := range c.Row {
				if row < 0 || row >= s.g.next {
					return place{s.g.bank, block}.damaged("columns", fmt.Sprintf("row %d of %d", row, s.g.next))
				}
				if !c.Dead[i] {
					labels[row] = c.Label[i]
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return labels, nil
}
