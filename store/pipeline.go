package store

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
)

// A Writer's rows pass three stations that work at the same time: the caller
// checks rows and packs them into a block; one goroutine completes full blocks and
// computes their checksums; Badger writes and syncs the transactions of blocks.

const (
	// transactionBytes is how much is synced at once: eight blocks. Each sync
	// waits for the disk's journal, which on a busy machine others keep busy; with
	// 16 MiB ingest took half as long again there.
	transactionBytes = 32 << 20
	// transactionRecords and transactionSmall bound a transaction's records, and
	// the bytes of those that go to the LSM tree, below Badger's limits, which
	// follow from the memtable.
	transactionRecords = 1024
	transactionSmall   = memtableBytes / 16
	// transactionsAhead is how many transactions may be on their way to the disk.
	transactionsAhead = 2
)

// blockEntry is a line of the block table in the making: attribute names are
// numbered only when all are known.
type blockEntry struct {
	blockRef
	names map[string]recordRef
}

// pipeline packs and writes the blocks of one Writer.
type pipeline struct {
	db    *DB
	dtype DType
	dim   int
	bank  uint64

	free chan *filling // empty ones
	full chan *filling
	done chan struct{} // closed when the packing goroutine has ended
	once sync.Once

	// Of banks with a layout, set before the first block is sent.
	moves *moves       // nil: the bank is in row order, or places are written otherwise
	sort  *sorter      // nil: blocks come sorted by list, or the bank is flat
	last  func() error // writes what can be written only after all blocks

	// Of the packing goroutine, and of the caller once done is closed.
	entries []blockEntry
	written []recordRef // all records
	batch   []*badger.Entry
	bytes   int64       // of the batch
	small   int64       // of its values that stay below valueThreshold, with their keys
	spare   chan []byte // values that Badger is finished with

	ahead   chan struct{} // a token a transaction under way
	unsaved atomic.Int64  // their bytes

	failure  atomic.Pointer[error]
	failed   chan struct{} // closed at the first failure
	failOnce sync.Once
}

func newPipeline(db *DB, m *manifest) *pipeline {
	p := &pipeline{db: db, dtype: m.dtype, dim: m.dim, bank: m.id,
		free: make(chan *filling, 2), full: make(chan *filling, 2), done: make(chan struct{}),
		spare: make(chan []byte, 16), ahead: make(chan struct{}, transactionsAhead), failed: make(chan struct{})}
	for range cap(p.free) {
		p.free <- newFilling(m.dim, m.dtype)
	}
	go p.pack()
	return p
}

// keep takes over the first n blocks of a bank that is appended to.
func (p *pipeline) keep(m *manifest, n int) {
	for _, ref := range m.blocks[:n] {
		e := blockEntry{blockRef: ref, names: map[string]recordRef{}}
		for _, a := range ref.attributes {
			e.names[m.attributes[a.name]] = a.recordRef
		}
		e.attributes = nil
		p.entries = append(p.entries, e)
	}
}

// table returns the attribute names, sorted, and the block table. It is called
// after wait.
func (p *pipeline) table() ([]string, []blockRef) {
	tables := make([]map[string]recordRef, len(p.entries))
	for i, e := range p.entries {
		tables[i] = e.names
	}
	names, lists := attributeTable(tables)
	blocks := make([]blockRef, len(p.entries))
	for i, e := range p.entries {
		blocks[i] = e.blockRef
		blocks[i].attributes = lists[i]
	}
	return names, blocks
}

func (p *pipeline) fail(err error) {
	p.failOnce.Do(func() {
		p.failure.Store(&err)
		close(p.failed)
	})
}

func (p *pipeline) err() error {
	if e := p.failure.Load(); e != nil {
		return *e
	}
	return nil
}

// empty waits for a block to fill.
func (p *pipeline) empty(ctx context.Context) (*filling, error) {
	select {
	case f := <-p.free:
		if f.value == nil {
			select {
			case f.value = <-p.spare:
			default:
			}
		}
		return f, nil
	case <-p.failed:
		return nil, p.err()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// send hands a filled block over.
func (p *pipeline) send(ctx context.Context, f *filling) error {
	select {
	case <-p.failed:
		return p.err()
	default:
	}
	select {
	case p.full <- f:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wait ends the pipeline, and returns when all that was sent is durable or has
// failed.
func (p *pipeline) wait() error {
	p.once.Do(func() { close(p.full) })
	<-p.done
	return p.err()
}

func (p *pipeline) pack() {
	defer close(p.done)
	for f := range p.full {
		if p.err() == nil {
			if err := p.packBlock(f); err != nil {
				p.fail(err)
			}
		}
		f.reset()
		p.free <- f
	}
	if p.err() == nil && p.last != nil {
		if err := p.last(); err != nil {
			p.fail(err)
		}
	}
	if p.err() == nil {
		if err := p.write(); err != nil {
			p.fail(err)
		}
	}
	for range cap(p.ahead) {
		p.ahead <- struct{}{} // waits for the transactions under way
	}
}

func (p *pipeline) packBlock(f *filling) error {
	if p.sort != nil {
		if err := p.sort.byList(f); err != nil {
			return err
		}
	}
	e := blockEntry{blockRef: blockRef{first: f.first, rows: f.rows, keyed: f.keyed, maxNorm: f.maxNorm}, names: map[string]recordRef{}}
	h := header{dtype: p.dtype, bank: p.bank, rows: uint32(f.rows), dim: uint32(p.dim)}

	value := f.panels()
	f.value = nil // Badger's now
	var err error
	if e.panels, err = p.add(kindPanels, h, value); err != nil {
		return err
	}

	c := blockColumns{row: f.numbers, scale: f.scale, bias: f.bias}
	for i := len(c.row); i < f.rows; i++ {
		c.row = append(c.row, f.first+int64(i))
	}
	if slices.ContainsFunc(f.labels, func(l int64) bool { return l != NoLabel }) {
		c.label = f.labels
	}
	if f.keyed {
		c.key = f.keys
	}
	if e.columns, err = p.add(kindColumns, h, encodeColumns(c)); err != nil {
		return err
	}

	for name, values := range f.attributes {
		for len(values) < f.rows {
			values = append(values, Value{})
		}
		if e.names[name], err = p.add(kindAttribute, h, encodeAttribute(values)); err != nil {
			return err
		}
	}
	if len(f.list) > 0 {
		if e.runs, err = p.add(kindRuns, h, encodeRuns(f.list)); err != nil {
			return err
		}
	}
	p.entries = append(p.entries, e)
	if p.moves != nil {
		return p.moves.block(f.first, c.row)
	}
	return nil
}

// add seals a record under a fresh number and puts it into the transaction, which
// is started once it is full.
func (p *pipeline) add(kind recordKind, h header, value []byte) (recordRef, error) {
	h.kind, h.number = kind, p.db.newRecord()
	ref := sealRecord(value, h)
	p.batch = append(p.batch, badger.NewEntry(recordKey(h.number), value))
	p.bytes += int64(len(value))
	if len(value) < valueThreshold {
		p.small += int64(len(value)) + 64
	}
	p.written = append(p.written, ref)
	if p.bytes >= transactionBytes || p.small >= transactionSmall || len(p.batch) >= transactionRecords {
		return ref, p.write()
	}
	return ref, nil
}

// write starts the transaction of the batch; the pipeline goes on meanwhile.
func (p *pipeline) write() error {
	if len(p.batch) == 0 {
		return nil
	}
	p.ahead <- struct{}{}
	batch, bytes := p.batch, p.bytes
	p.batch, p.bytes, p.small = nil, 0, 0
	p.db.onStep("blocks")
	// Bytes under way may not have taken their room on the disk yet.
	err := checkSpace(p.db.dir, p.unsaved.Load()+bytes+1<<20)
	if err == nil {
		p.unsaved.Add(bytes)
		err = p.db.write(batch, func(err error) {
			p.unsaved.Add(-bytes)
			if err != nil {
				p.fail(fmt.Errorf("writing blocks: %w", err))
			}
			for _, e := range batch {
				if len(e.Value) > blockBytes/2 {
					select {
					case p.spare <- e.Value:
					default:
					}
				}
			}
			<-p.ahead
		})
		if err == nil {
			return nil
		}
		p.unsaved.Add(-bytes)
	}
	<-p.ahead
	return err
}
