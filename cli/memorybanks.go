package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"membank/index/memory"
	"membank/store"
)

// openMemory opens a memory bank for a command. release closes it; behind a server
// the bank is the server's own, which stays open between requests.
func (s *session) openMemory(ctx context.Context, db *store.DB, name string) (b *memory.Bank, release func() error, err error) {
	if s.served != nil {
		return s.served.banks.borrow(ctx, name)
	}
	if b, err = memory.Open(ctx, db, name); err != nil {
		return nil, nil, err
	}
	return b, b.Close, nil
}

// createMemory makes a memory bank and opens it, likewise.
func (s *session) createMemory(ctx context.Context, db *store.DB, name string, c memory.Config, o memory.CreateOptions) (b *memory.Bank, release func() error, err error) {
	if s.served != nil {
		return s.served.banks.create(ctx, name, c, o)
	}
	if b, err = memory.Create(ctx, db, name, c, o); err != nil {
		return nil, nil, err
	}
	return b, b.Close, nil
}

// openMemoryAt opens a memory bank at a checkpoint. A bank that a server has open is
// brought back to it; one that cannot be opened as it is, behind a server either,
// is opened at it.
func (s *session) openMemoryAt(ctx context.Context, db *store.DB, name string, step int64) (b *memory.Bank, release func() error, p memory.Checkpoint, err error) {
	if s.served != nil {
		return s.served.banks.borrowAt(ctx, name, step)
	}
	if b, p, err = memory.OpenAt(ctx, db, name, step); err != nil {
		return nil, nil, p, err
	}
	return b, b.Close, p, nil
}

// removeMemory deletes a memory bank and its checkpoints.
func (s *session) removeMemory(ctx context.Context, db *store.DB, name string) error {
	if s.served != nil {
		return s.served.banks.remove(ctx, name)
	}
	return memory.Remove(ctx, db, name)
}

// openBanks are the memory banks that a server keeps open, so that an update costs
// its rows and not the bank's. What they take together is bounded: one that does
// not fit is refused before a byte is set aside for it.
type openBanks struct {
	db   *store.DB
	most int64 // bytes of rows

	mu     sync.Mutex
	open   map[string]*openBank
	held   int64
	closed bool
}

// openBank is one of them. Its lock is held alone to open and to close, and shared
// by whoever uses it.
type openBank struct {
	mu    sync.RWMutex
	bank  *memory.Bank // nil: not open
	bytes int64
}

func newOpenBanks(db *store.DB, most int64) *openBanks {
	return &openBanks{db: db, most: most, open: map[string]*openBank{}}
}

// of is the entry of a name, which may not be open.
func (o *openBanks) of(name string) (*openBank, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, memory.ErrClosed
	}
	e := o.open[name]
	if e == nil {
		e = &openBank{}
		o.open[name] = e
	}
	return e, nil
}

// forget drops an entry that came to nothing, so that names nobody has do not add up.
func (o *openBanks) forget(name string, e *openBank) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open[name] == e {
		delete(o.open, name)
	}
	o.held -= e.bytes
	e.bytes = 0
}

// borrow is a bank that stays open while it is used.
func (o *openBanks) borrow(ctx context.Context, name string) (*memory.Bank, func() error, error) {
	for {
		e, err := o.of(name)
		if err != nil {
			return nil, nil, err
		}
		e.mu.RLock()
		if e.bank != nil {
			return e.bank, func() error { e.mu.RUnlock(); return nil }, nil
		}
		e.mu.RUnlock()
		if err := o.start(name, e, 0, func() (*memory.Bank, error) { return memory.Open(ctx, o.db, name) }); err != nil {
			return nil, nil, err
		}
	}
}

// borrowAt is a bank at a checkpoint.
func (o *openBanks) borrowAt(ctx context.Context, name string, step int64) (*memory.Bank, func() error, memory.Checkpoint, error) {
	var p memory.Checkpoint
	e, err := o.of(name)
	if err != nil {
		return nil, nil, p, err
	}
	opened := false
	err = o.start(name, e, 0, func() (b *memory.Bank, err error) {
		opened = true
		b, p, err = memory.OpenAt(ctx, o.db, name, step)
		return b, err
	})
	if err != nil {
		return nil, nil, p, err
	}
	b, release, err := o.borrow(ctx, name)
	if err != nil {
		return nil, nil, p, err
	}
	if !opened {
		p, err = b.Restore(ctx, step)
	}
	if err != nil {
		release()
		if errors.Is(err, memory.ErrBroken) || errors.Is(err, memory.ErrLost) {
			err = errors.Join(err, o.drop(name, b))
		}
		return nil, nil, p, err
	}
	return b, release, p, nil
}

// drop closes a bank that must be opened again, unless that happened already.
func (o *openBanks) drop(name string, b *memory.Bank) error {
	o.mu.Lock()
	e := o.open[name]
	o.mu.Unlock()
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.bank != b {
		return nil
	}
	e.bank = nil
	o.forget(name, e)
	return b.Close()
}

// start opens an entry's bank unless somebody else did meanwhile. bytes is what it
// will take where that is known before it is open, else 0.
func (o *openBanks) start(name string, e *openBank, bytes int64, open func() (*memory.Bank, error)) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.bank != nil || !o.current(name, e) {
		return nil
	}
	err := o.hold(e, bytes)
	var b *memory.Bank
	if err == nil {
		b, err = open()
	}
	if err == nil && bytes == 0 {
		if err = o.hold(e, bytesOf(b.Config())); err != nil {
			err = errors.Join(err, b.Close())
		}
	}
	if err != nil {
		o.forget(name, e)
		return err
	}
	e.bank = b
	return nil
}

// current reports whether an entry is still the one of its name: whoever waited for
// its lock may find that it was forgotten meanwhile, and asks anew.
func (o *openBanks) current(name string, e *openBank) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.open[name] == e
}

// hold counts a bank's bytes, or refuses them.
func (o *openBanks) hold(e *openBank, bytes int64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.held+bytes > o.most {
		return &failure{exit: exitFailure, code: "memory", text: fmt.Sprintf("the memory bank takes %s, and with those that are open the server may hold %s (remove one, or start the server with a larger --bank-memory)", size(bytes), size(o.most))}
	}
	o.held += bytes
	e.bytes = bytes
	return nil
}

// create makes a bank. Its size is weighed before anything is made.
func (o *openBanks) create(ctx context.Context, name string, c memory.Config, options memory.CreateOptions) (*memory.Bank, func() error, error) {
	if err := store.CheckName(name); err != nil {
		return nil, nil, err
	}
	for {
		e, err := o.of(name)
		if err != nil {
			return nil, nil, err
		}
		created := false
		err = o.start(name, e, bytesOf(c), func() (*memory.Bank, error) {
			created = true
			return memory.Create(ctx, o.db, name, c, options)
		})
		if err != nil {
			return nil, nil, err
		}
		if created {
			return o.borrow(ctx, name)
		}
		if o.current(name, e) {
			return nil, nil, fmt.Errorf("%w: %q", memory.ErrExists, name)
		}
	}
}

// bytesOf is about what a bank takes in memory, at most 1<<62.
func bytesOf(c memory.Config) int64 {
	const most = 1 << 62
	var dims int64
	for _, v := range c.Views {
		dims += int64(max(0, v.Dim)) + 8
	}
	product := func(rows, dims int64) int64 {
		if rows > 0 && dims > most/8/rows {
			return most / 2
		}
		return 4 * dims * max(0, rows)
	}
	bytes := product(c.Rows, dims)
	if len(c.Views) > 0 {
		bytes += product(c.Prototypes, int64(max(0, c.Views[0].Dim)))
	}
	return bytes
}

// remove deletes a bank once nobody uses it.
func (o *openBanks) remove(ctx context.Context, name string) error {
	for {
		e, err := o.of(name)
		if err != nil {
			return err
		}
		if done, err := o.removeEntry(ctx, name, e); done {
			return err
		}
	}
}

func (o *openBanks) removeEntry(ctx context.Context, name string, e *openBank) (done bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !o.current(name, e) {
		return false, nil
	}
	if e.bank != nil {
		if err := e.bank.Close(); err != nil {
			return true, err
		}
		e.bank = nil
	}
	defer o.forget(name, e)
	return true, memory.Remove(ctx, o.db, name)
}

// close closes all of them. What was acknowledged in memory only is logged first: a
// stop in order loses nothing. It may be called twice.
func (o *openBanks) close() error {
	o.mu.Lock()
	o.closed = true
	entries := o.open
	o.open = map[string]*openBank{}
	o.mu.Unlock()
	var errs []error
	for name, e := range entries {
		e.mu.Lock()
		if e.bank != nil {
			if err := errors.Join(logAll(e.bank), e.bank.Close()); err != nil {
				errs = append(errs, fmt.Errorf("memory bank %q: %w", name, err))
			}
			e.bank = nil
		}
		e.mu.Unlock()
	}
	return errors.Join(errs...)
}

// logAll makes durable what is in memory only: a logged call covers all before it,
// one that changes nothing, too.
func logAll(b *memory.Bank) error {
	info, err := b.Info()
	if err != nil || info.Unlogged == 0 {
		return err
	}
	return b.SetLabels(context.Background(), []int64{}, []int64{}, memory.Sync)
}

// total is the number of banks that are open and the bytes they hold.
func (o *openBanks) total() (banks int, bytes int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.open), o.held
}
