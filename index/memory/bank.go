package memory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"membank/simd"
	"membank/store"
	"membank/store/journal"
)

// Bank is what slots and a queue have in common. All methods are safe for
// concurrent use: those that read share the bank, those that write take it alone,
// for as long as it takes to compute, log and copy a batch. So a read sees the bank
// at one moment, and no row half written.
type Bank struct {
	db   *store.DB // nil: in memory only
	name string
	c    Config

	// Who changes anything holds writing and then mu; a checkpoint holds writing and
	// shares mu, so that readers go on.
	writing sync.Mutex
	mu      sync.RWMutex // guards what follows

	views      []*array
	prototypes *array  // nil: none
	version    []int64 // [Rows] step of the last write; 0 given at creation, −1 never
	labels     []int64 // nil: no row has one; store.NoLabel for none
	keys       []string
	queue      ring
	state      state
	dirty      bitmap // rows that were changed and not logged
	dirtyProto bitmap
	log        *journal.Journal
	head       head
	torn       int64
	buffers    [][]float32 // see scratch
	broken     error
	closed     bool
}

// state is what a bank has beside its rows.
type state struct {
	Step    int64   `json:"step"`    // the largest that wrote, 0 at first
	Updates int64   `json:"updates"` // calls that wrote
	Cursor  int64   `json:"cursor"`  // of a queue: where the next row goes
	Fill    int64   `json:"fill"`    // of a queue: positions that were written
	Pushed  int64   `json:"pushed"`  // of a queue: rows ever written
	Z       float64 `json:"z"`       // the normaliser of NCE; 0: none yet
	ZCount  int64   `json:"z_count"` // batches that went into it
}

// Rows gives initial rows, in order: a *dump.Reader is one, and FromSnapshot makes
// one of a bank. Next fills rows of m from the front and returns how many; 0 and
// io.EOF at the end.
type Rows interface {
	Next(ctx context.Context, m simd.Matrix) (int, error)
}

// CreateOptions are what a new bank starts from beside its Config.
type CreateOptions struct {
	Views  []Rows   // for InitRows: the rows of each view
	Labels []int64  // nil: none
	Keys   []string // nil: none
}

// Create makes a memory bank in a database, or with a nil db in memory only. Its
// name is that of its checkpoints' banks, which are called NAME/step-N. Errors:
// ErrConfig, ErrExists, ErrRows, store.ErrBadName, store.ErrReadOnly,
// store.ErrNoSpace.
func Create(ctx context.Context, db *store.DB, name string, c Config, o CreateOptions) (*Bank, error) {
	c.Views = append([]View(nil), c.Views...)
	if err := c.check(); err != nil {
		return nil, err
	}
	given := c.Views[0].Init == InitRows
	if given != (o.Views != nil) || given && len(o.Views) != len(c.Views) {
		return nil, fmt.Errorf("%w: initial rows for %d views, %d views start as %q", ErrConfig, len(o.Views), len(c.Views), c.Views[0].Init)
	}
	if o.Labels != nil && int64(len(o.Labels)) != c.Rows || o.Keys != nil && int64(len(o.Keys)) != c.Rows {
		return nil, fmt.Errorf("%w: %d labels and %d keys for %d rows", ErrRows, len(o.Labels), len(o.Keys), c.Rows)
	}
	if c.Kind == KindQueue && (o.Labels != nil || o.Keys != nil) {
		return nil, fmt.Errorf("%w: a queue starts without labels and keys: push them", ErrConfig)
	}
	b := &Bank{db: db, name: name, c: c}
	if db != nil {
		if err := store.CheckName(b.checkpointBank(1<<62, maxViews)); err != nil {
			return nil, fmt.Errorf("%w: %q (its checkpoints add to it)", store.ErrBadName, name)
		}
		if db.ReadOnly() {
			return nil, fmt.Errorf("%s: %w", db.Dir(), store.ErrReadOnly)
		}
		if err := b.createLog(); err != nil {
			return nil, err
		}
	}
	err := b.fill(ctx, o)
	if err == nil && db != nil && (given || o.Labels != nil || o.Keys != nil) {
		_, err = b.Checkpoint(ctx, 0)
	}
	if err != nil {
		b.Close()
		if db != nil {
			err = errors.Join(err, journal.Remove(db.MemoryRoot(), b.dir()))
		}
		return nil, err
	}
	return b, nil
}

func (b *Bank) createLog() error {
	b.head = head{Format: headFormat, Config: b.c, Base: -1}
	encoded, err := b.head.encode()
	if err != nil {
		return err
	}
	b.log, err = journal.Create(b.dir(), encoded, journal.Options{Space: b.db.CheckSpace})
	if errors.Is(err, journal.ErrExists) {
		return fmt.Errorf("%w: %q", ErrExists, b.name)
	}
	return err
}

// fill makes the rows of a new bank.
func (b *Bank) fill(ctx context.Context, o CreateOptions) error {
	if err := b.allocate(); err != nil {
		return err
	}
	if o.Labels != nil {
		b.labels = append([]int64(nil), o.Labels...)
	}
	if o.Keys != nil {
		b.keys = append([]string(nil), o.Keys...)
	}
	if o.Views == nil {
		return b.initialise(ctx)
	}
	for v, rows := range o.Views {
		if err := b.views[v].take(ctx, rows); err != nil {
			return err
		}
	}
	return nil
}

// take fills the array from rows, which must be as many.
func (a *array) take(ctx context.Context, rows Rows) error {
	const piece = 1024
	for at := int64(0); ; {
		m := a.matrix(at, min(at+piece, a.rows))
		if at == a.rows { // look whether there are more
			m = simd.NewMatrix(1, a.Dim)
		}
		n, err := rows.Next(ctx, m)
		switch {
		case err == io.EOF && at == a.rows:
			return nil
		case err == io.EOF:
			return fmt.Errorf("%w: %d of them for %d slots", ErrRows, at, a.rows)
		case err != nil:
			return err
		case at == a.rows:
			return fmt.Errorf("%w: more than %d of them, as the bank has slots", ErrRows, a.rows)
		}
		for i := at; i < at+int64(n); i++ {
			norm := a.columns(i)
			if !(norm <= maxNorm) {
				return fmt.Errorf("%w: row %d holds NaN, Inf or numbers too large to square", ErrRows, i)
			}
			a.maxNorm = max(a.maxNorm, norm)
		}
		at += int64(n)
	}
}

// allocate makes room for everything.
func (b *Bank) allocate() error {
	for _, v := range b.c.Views {
		a, err := newArray(b.c.Rows, v)
		if err != nil {
			return err
		}
		b.views = append(b.views, a)
	}
	if b.c.Prototypes > 0 {
		a, err := newArray(b.c.Prototypes, View{Dim: b.c.Views[0].Dim, Init: InitZeros})
		if err != nil {
			return err
		}
		b.prototypes = a
	}
	b.version = make([]int64, b.c.Rows)
	b.queue = ring{capacity: b.c.Rows, shift: b.c.Order == OrderShift}
	return nil
}

// initialise gives all rows their initial values.
func (b *Bank) initialise(ctx context.Context) error {
	for i := range b.version {
		b.version[i] = -1
	}
	for v, a := range b.views {
		if err := a.initialise(ctx, b.c.Seed, v); err != nil {
			return err
		}
	}
	if b.prototypes != nil {
		return b.prototypes.initialise(ctx, b.c.Seed, len(b.views))
	}
	return nil
}

// Open opens a memory bank: its last checkpoint, or initial rows, and what its log
// says happened since. A database that was opened for reading gives a bank that
// can be read. Errors: ErrNone; ErrLost when the checkpoint's bank is gone;
// ErrIncomplete; journal.ErrDamaged, journal.ErrBusy, store.ErrCorrupt.
func Open(ctx context.Context, db *store.DB, name string) (*Bank, error) {
	b, err := openLog(db, name)
	if err != nil {
		return nil, err
	}
	if err := b.load(ctx); err != nil {
		b.Close()
		return nil, fmt.Errorf("memory bank %q: %w", name, err)
	}
	return b, nil
}

func openLog(db *store.DB, name string) (*Bank, error) {
	dir, err := db.MemoryDir(name)
	if err != nil {
		return nil, err
	}
	log, err := journal.Open(dir, journal.Options{ReadOnly: db.ReadOnly(), Space: db.CheckSpace})
	if errors.Is(err, journal.ErrNone) {
		return nil, fmt.Errorf("%w: %q", ErrNone, name)
	}
	if err != nil {
		return nil, fmt.Errorf("memory bank %q: %w", name, err)
	}
	return &Bank{db: db, name: name, log: log, torn: log.Torn()}, nil
}

// load reads head, base and log.
func (b *Bank) load(ctx context.Context) (err error) {
	if b.head, err = decodeHead(b.log.Head()); err != nil {
		return err
	}
	b.c = b.head.Config
	if err := b.allocate(); err != nil {
		return err
	}
	if err := b.loadBase(ctx); err != nil {
		return err
	}
	return b.log.Replay(ctx, b.replay)
}

// List returns the names of the memory banks of a database that are prefix, or
// begin with it and a '/', or all if it is empty, sorted.
func List(db *store.DB, prefix string) ([]string, error) {
	all, err := journal.Find(db.MemoryRoot())
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range all {
		if prefix == "" || name == prefix || strings.HasPrefix(name, strings.TrimSuffix(prefix, "/")+"/") {
			names = append(names, name)
		}
	}
	return names, nil
}

// Remove deletes a memory bank and its checkpoints. Errors: ErrNone, store.ErrBusy,
// journal.ErrBusy while it is open.
func Remove(ctx context.Context, db *store.DB, name string) error {
	dir, err := db.MemoryDir(name)
	if err != nil {
		return err
	}
	if db.ReadOnly() {
		return fmt.Errorf("%s: %w", db.Dir(), store.ErrReadOnly)
	}
	log, err := journal.Open(dir, journal.Options{})
	if errors.Is(err, journal.ErrNone) {
		return fmt.Errorf("%w: %q", ErrNone, name)
	}
	var banks []string
	if err == nil {
		h, damage := decodeHead(log.Head())
		if damage == nil {
			for _, c := range h.Checkpoints {
				banks = append(banks, c.Banks...)
			}
		}
		err = log.Close()
	}
	if err != nil && !errors.Is(err, journal.ErrDamaged) {
		return err
	}
	if err := journal.Remove(db.MemoryRoot(), dir); err != nil {
		return err
	}
	for _, bank := range banks {
		if _, err := db.RemoveBank(ctx, bank); err != nil && !errors.Is(err, store.ErrNoBank) {
			return err
		}
	}
	return nil
}

// dir is where the log lies; the name was checked.
func (b *Bank) dir() string {
	dir, _ := b.db.MemoryDir(b.name)
	return dir
}

// Close logs nothing more, closes the log and frees the rows. Updates that were
// acknowledged in memory only are gone. It may be called twice.
func (b *Bank) Close() error {
	b.lock()
	defer b.unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	var err error
	if b.log != nil {
		err = b.log.Close()
	}
	for _, a := range b.views {
		a.slab.free()
	}
	if b.prototypes != nil {
		b.prototypes.slab.free()
	}
	return err
}

func (b *Bank) lock() {
	b.writing.Lock()
	b.mu.Lock()
}

func (b *Bank) unlock() {
	b.mu.Unlock()
	b.writing.Unlock()
}

// usable says why the bank cannot be used; b.mu is held.
func (b *Bank) usable() error {
	switch {
	case b.closed:
		return ErrClosed
	case b.broken != nil:
		return fmt.Errorf("%w: %w", ErrBroken, b.broken)
	}
	return nil
}

// Name is the bank's name, "" for one in memory only.
func (b *Bank) Name() string { return b.name }

// Config is what the bank was made as.
func (b *Bank) Config() Config {
	c := b.c
	c.Views = append([]View(nil), c.Views...)
	return c
}

// Slots returns the bank as slots, or ErrKind.
func (b *Bank) Slots() (*Slots, error) {
	if b.c.Kind != KindSlots {
		return nil, fmt.Errorf("%w: %q is a %s", ErrKind, b.name, b.c.Kind)
	}
	return &Slots{b}, nil
}

// Queue returns the bank as a queue, or ErrKind.
func (b *Bank) Queue() (*Queue, error) {
	if b.c.Kind != KindQueue {
		return nil, fmt.Errorf("%w: %q is %s", ErrKind, b.name, b.c.Kind)
	}
	return &Queue{b}, nil
}

// Info describes a bank at one moment.
type Info struct {
	Name        string       `json:"bank"`
	Config      Config       `json:"config"`
	Written     int64        `json:"written"` // rows that were ever written
	Fill        int64        `json:"fill"`    // of a queue: positions that were written; else Rows
	Cursor      int64        `json:"cursor"`
	Pushed      int64        `json:"pushed"`
	Step        int64        `json:"step"`
	Updates     int64        `json:"updates"`
	Z           float64      `json:"z"`
	LogBytes    int64        `json:"log_bytes"`
	Torn        int64        `json:"torn_bytes"` // cut off the log at the open
	Unlogged    int64        `json:"unlogged"`   // rows whose last change is in memory only
	Checkpoints []Checkpoint `json:"checkpoints"`
	Base        int64        `json:"base"` // step of the checkpoint that the log applies to; −1: initial rows
}

// Info returns the bank's description. It counts rows: O(Rows).
func (b *Bank) Info() (Info, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.usable(); err != nil {
		return Info{}, err
	}
	s := b.state
	i := Info{Name: b.name, Config: b.Config(), Fill: s.Fill, Cursor: s.Cursor, Pushed: s.Pushed, Step: s.Step, Updates: s.Updates, Z: s.Z,
		Torn: b.torn, Unlogged: b.dirty.count() + b.dirtyProto.count(), Base: -1, Checkpoints: append([]Checkpoint{}, b.head.Checkpoints...)}
	if b.c.Kind == KindSlots {
		i.Fill = b.c.Rows
	}
	for _, v := range b.version {
		if v >= 0 {
			i.Written++
		}
	}
	if b.log != nil {
		i.LogBytes = b.log.Size()
	}
	if b.head.Base >= 0 {
		i.Base = b.head.Checkpoints[b.head.Base].Step
	}
	return i, nil
}

// LogBytes is the size of the log, 0 for a bank in memory only.
func (b *Bank) LogBytes() int64 {
	if b.log == nil {
		return 0
	}
	return b.log.Size()
}

// Torn is how many bytes behind the last acknowledged change the log held when the
// bank was opened: what a killed process had begun to write.
func (b *Bank) Torn() int64 { return b.torn }
