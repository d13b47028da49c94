package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// Codes are what a search reads before it reads vectors. The store knows neither
// their bytes nor their meaning (see index): a bank may have one basis record,
// and each of its blocks a codes record made with that basis. Like attributes
// they are added without rewriting anything, and a block that has none is
// searched by its panels.

// Encoder appends the codes of a block to a value and returns it. It is called
// from several goroutines at once and must not call the store.
type Encoder func(value []byte, b *Block) ([]byte, error)

// CodesOptions say how WriteCodes runs.
type CodesOptions struct {
	Threads  int                     // goroutines that encode; 0 means 1
	Progress func(done, total int64) // blocks; calls do not overlap
}

// WriteCodes gives codes to all blocks of a bank under a new basis, or, when
// basis is nil, to the blocks that have none under the basis there is. Readers
// go on meanwhile; until it returns without an error the bank is as it was. Rows
// and answers do not change. Errors: ErrNoBank, ErrBusy, ErrReadOnly, ErrNoSpace,
// ErrCorrupt, those of encode and of ctx.
func (db *DB) WriteCodes(ctx context.Context, bank string, basis []byte, encode Encoder, o CodesOptions) (Info, error) {
	g, err := db.reserve(bank, Append)
	if err != nil {
		return Info{}, err
	}
	defer db.release(bank)
	s := &Snapshot{db: db, g: g}
	defer s.Close()
	if basis == nil && g.basis.number == 0 {
		return Info{}, fmt.Errorf("bank %q has no basis yet to encode with", bank)
	}
	c := &coder{addition: newAddition(db, g), s: s, encode: encode, progress: o.Progress}
	if c.progress == nil {
		c.progress = func(int64, int64) {}
	}
	if basis != nil {
		value := append(make([]byte, headerSize, headerSize+len(basis)), basis...)
		c.m.basis = c.add(kindBasis, 0, value)
	}
	for i, ref := range c.m.blocks {
		if basis != nil || ref.codes.number == 0 {
			c.blocks = append(c.blocks, i)
		}
	}
	if len(c.blocks) == 0 && basis == nil {
		return g.info(), nil
	}
	return c.finish(ctx, g, c.run(ctx, max(1, o.Threads)))
}

// coder is one WriteCodes under way: goroutines read and encode blocks, and
// take turns to write what has come together.
type coder struct {
	s        *Snapshot
	encode   Encoder
	blocks   []int // those to encode
	progress func(done, total int64)

	mu sync.Mutex // guards what follows
	*addition
	done int64
}

func (c *coder) run(ctx context.Context, threads int) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(threads, max(1, len(c.blocks))) {
		wg.Go(func() {
			r := c.s.NewReader()
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(c.blocks) {
					return
				}
				if err := c.block(r, c.blocks[i]); err != nil {
					stop(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// block encodes one block and writes the batch when it is large enough.
func (c *coder) block(r *Reader, block int) error {
	var value []byte
	err := r.View(block, func(b *Block) (err error) {
		value, err = c.encode(make([]byte, headerSize), b)
		return err
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m.blocks[block].codes = c.add(kindCodes, c.m.blocks[block].rows, value)
	c.done++
	c.progress(c.done, int64(len(c.blocks)))
	return c.writeFull()
}

// Basis returns a copy of the bank's basis record, nil if it has none.
func (s *Snapshot) Basis() ([]byte, error) {
	if s.g.basis.number == 0 {
		return nil, nil
	}
	var basis []byte
	err := s.db.readRecord(place{s.g.bank, -1}, kindBasis, s.g.basis, func(_ header, payload []byte) error {
		basis = append([]byte{}, payload...)
		return nil
	})
	return basis, err
}

// CodedBlocks is how many blocks have codes.
func (s *Snapshot) CodedBlocks() int {
	n := 0
	for _, ref := range s.g.blocks {
		if ref.codes.number != 0 {
			n++
		}
	}
	return n
}

// Codes calls fn with the codes of a block, nil if it has none. Like panels they
// lie in Badger's memory map at any byte offset, valid until fn returns; the same
// rules bind fn as that of View. Damage is a *CorruptError.
func (r *Reader) Codes(block int, fn func(codes []byte) error) error {
	g := r.s.g
	if err := r.s.check(block); err != nil {
		return err
	}
	ref := g.blocks[block]
	if ref.codes.number == 0 {
		return fn(nil)
	}
	var failed error
	err := r.s.db.readRecord(place{g.bank, block}, kindCodes, ref.codes, func(h header, payload []byte) error {
		if int(h.rows) != ref.rows || int(h.dim) != g.dim {
			return errors.New("it is of another block")
		}
		failed = fn(payload)
		return nil
	})
	if err != nil {
		return err
	}
	return failed
}
