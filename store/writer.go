package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"membank/simd"
)

// WriteMode says what a Writer does to the bank.
type WriteMode uint8

const (
	Create  WriteMode = iota // a new bank; ErrBankExists if it is there
	Append                   // rows after those it has; ErrNoBank if it is not there
	Replace                  // all rows anew, under the same name, whether it is there or not
)

// WriterOptions say what a Writer writes. The zero value creates an f32 bank.
type WriterOptions struct {
	Mode    WriteMode
	DType   DType // of a bank that is created or replaced; an appended one keeps its own
	SkipBad bool  // leave out rows that are not finite, too long or too large for f16, and count them
	Source  Provenance
	// ClassNames, if set, are the names of labels 0, 1, … of the stream. A bank
	// has one list of names: an appended stream's labels are renumbered to it.
	ClassNames []string
	// Assign says which lists rows belong to that are appended to a grouped bank;
	// other banks have no use for it.
	Assign Assigner
}

// Rows is a piece of a stream: element i of each slice belongs to row i. Append
// copies what it keeps, strings excepted.
type Rows struct {
	Vectors    simd.Matrix
	Keys       []string    // nil: the decimal row number, which costs nothing on disk
	Labels     []int64     // nil: none; NoLabel for single rows without
	Attributes []Attribute // any subset, any order
}

// Attribute is one attribute of several rows.
type Attribute struct {
	Name   string
	Values []Value
}

// Writer streams rows into one bank. Nothing is visible before Commit, and any
// failure leaves the bank as it was. It keeps some 110 MiB, however many rows
// pass: a block being filled, one being packed, a transaction of eight blocks
// being gathered and two on their way to the disk. A Writer is for one goroutine.
type Writer struct {
	db       *DB
	bank     string
	dim      int
	options  WriterOptions
	base     *Snapshot // the bank as it was; nil when there was none
	draft    *manifest // what Commit writes, less its block table
	classes  *classes
	renumber []int64 // label of the stream → label of the bank; nil: unchanged
	began    time.Time

	feed

	carried  carried // the bank's last block, if it is written again
	stream   int64   // rows seen
	rows     int64   // rows kept
	skipped  []int64 // stream positions of rows left out, ascending
	zeros    int64
	known    map[string]bool // attribute names that were checked
	failed   error           // the first failure; nothing works after it
	finished bool
}

// NewWriter starts writing a bank of dim columns, 1 ≤ dim ≤ MaxDim. One Writer at
// a time may hold a bank (ErrBusy). Every Writer must end in Commit or Abort.
func (db *DB) NewWriter(ctx context.Context, bank string, dim int, o WriterOptions) (*Writer, error) {
	if err := CheckName(bank); err != nil {
		return nil, err
	}
	if dim < 1 || dim > MaxDim {
		return nil, fmt.Errorf("%w: %d, it can be 1 to %d", ErrDim, dim, MaxDim)
	}
	if o.DType > F16 {
		return nil, fmt.Errorf("%w: %v", ErrDType, o.DType)
	}
	g, err := db.reserve(bank, o.Mode)
	if err != nil {
		return nil, err
	}
	w := &Writer{db: db, bank: bank, dim: dim, options: o, classes: newClasses(), began: time.Now(), known: map[string]bool{}}
	if g != nil {
		w.base = &Snapshot{db: db, g: g}
	}
	if err := w.start(ctx, g); err != nil {
		w.Abort()
		return nil, err
	}
	return w, nil
}

// reserve gives the bank to one Writer and pins its generation, if it has one.
func (db *DB) reserve(bank string, mode WriteMode) (*generation, error) {
	if db.readOnly {
		return nil, fmt.Errorf("%s: %w", db.dir, ErrReadOnly)
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.writing[bank] {
		return nil, fmt.Errorf("bank %q: %w by another writer", bank, ErrBusy)
	}
	if db.broken != nil {
		return nil, db.broken
	}
	g, err := db.generationOf(bank)
	switch {
	case mode == Create && !errors.Is(err, ErrNoBank):
		return nil, fmt.Errorf("%w: %q (append to it or replace it)", ErrBankExists, bank)
	case mode == Append && err != nil:
		return nil, err
	}
	db.writing[bank] = true
	if g != nil {
		g.pins++
	}
	return g, nil
}

func (db *DB) release(bank string) {
	db.mu.Lock()
	defer db.mu.Unlock()
	delete(db.writing, bank)
}

// start makes the draft of the next manifest and the pipeline.
func (w *Writer) start(ctx context.Context, g *generation) error {
	w.draft = &manifest{bank: w.bank, generation: 1, dtype: w.options.DType, dim: w.dim, created: w.began.UnixNano()}
	if g != nil {
		w.draft.generation = g.generation + 1
		w.draft.id = g.id
	} else {
		w.draft.generation = w.db.generationAfterDamage(w.bank)
	}
	if w.options.Mode == Append {
		if g.dim != w.dim {
			return fmt.Errorf("bank %q: %w: it has dimension %d, the rows have %d", w.bank, ErrDim, g.dim, w.dim)
		}
		if w.options.DType == F16 && g.dtype != F16 {
			return fmt.Errorf("bank %q: %w: it is %v, %v was asked for", w.bank, ErrDType, g.dtype, w.options.DType)
		}
		w.draft = g.manifest.clone()
		w.draft.generation++
		w.classes = g.classes.clone()
	}
	if w.draft.id == 0 {
		w.draft.id = w.db.newBankID()
	}
	if err := w.mergeClasses(); err != nil {
		return err
	}
	if w.draft.listCount() > 0 && w.options.Assign == nil {
		return fmt.Errorf("bank %q: %w: rows cannot be appended without its lists", w.bank, ErrGrouped)
	}
	w.pipeline = newPipeline(w.db, w.draft)
	if w.draft.layout != nil {
		if err := w.pipeline.relocate(w.draft, w.base, w.options.Assign); err != nil {
			return err
		}
	}
	if w.options.Mode == Append {
		return w.carry(ctx)
	}
	return nil
}

func (w *Writer) mergeClasses() error {
	names := w.options.ClassNames
	if names == nil {
		return nil
	}
	if w.classes.names == nil && !w.classes.labels.IsEmpty() {
		return fmt.Errorf("bank %q: %w: its labels are numbers, the appended ones are names", w.bank, ErrBadRow)
	}
	renumber, err := w.classes.merge(names)
	w.renumber = renumber
	return err
}

// carry takes the bank's last block back into the filling when it is not full, so
// that many small appends do not make many small blocks.
func (w *Writer) carry(ctx context.Context) (err error) {
	w.filling, w.carried, err = w.pipeline.reopen(ctx, w.base, nil)
	w.begins = w.carried.first
	return err
}

// Append validates rows and adds them after those that came before. Errors:
// *RowError (its Row counts the whole stream) for a NaN, an Inf, a norm above
// 1e18, an f16 overflow, a bad key, label or attribute; ErrDim; ErrNoSpace. Any
// error is final: what follows can only be Abort.
func (w *Writer) Append(ctx context.Context, r Rows) error {
	if w.finished {
		return ErrClosed
	}
	if w.failed == nil {
		w.failed = w.append(ctx, r)
	}
	return w.failed
}

func (w *Writer) append(ctx context.Context, r Rows) error {
	if err := w.checkShape(r); err != nil {
		return err
	}
	for i := range r.Vectors.Rows {
		if err := w.makeRoom(ctx, r.Keys != nil); err != nil {
			return err
		}
		position := w.stream
		w.stream++
		label := int64(NoLabel)
		err := w.checkRow(r, i)
		if err == nil && r.Labels != nil {
			label, err = w.bankLabel(r.Labels[i])
		}
		if err != nil {
			return &RowError{Row: position, Err: err}
		}
		zero, err := w.filling.addVector(r.Vectors.Row(i))
		if err != nil {
			if w.options.SkipBad {
				w.skipped = append(w.skipped, position)
				continue
			}
			return &RowError{Row: position, Err: err}
		}
		if zero {
			w.zeros++
		}
		if w.draft.layout != nil {
			w.filling.numbers = append(w.filling.numbers, w.firstNew()+w.rows)
		}
		w.filling.addColumns(r, i, label)
		if label != NoLabel {
			w.classes.labels.Add(labelBit(label))
		}
		w.rows++
	}
	return nil
}

func (w *Writer) checkShape(r Rows) error {
	n := r.Vectors.Rows
	switch {
	case r.Vectors.Dim != w.dim:
		return fmt.Errorf("bank %q: %w: it has dimension %d, the rows have %d", w.bank, ErrDim, w.dim, r.Vectors.Dim)
	case r.Keys != nil && len(r.Keys) != n:
		return fmt.Errorf("%w: %d rows and %d keys", ErrBadRow, n, len(r.Keys))
	case r.Labels != nil && len(r.Labels) != n:
		return fmt.Errorf("%w: %d rows and %d labels", ErrBadRow, n, len(r.Labels))
	case w.stream+w.draft.next > math.MaxInt64/2:
		return fmt.Errorf("%w: too many rows", ErrBadRow)
	}
	for _, a := range r.Attributes {
		if !w.known[a.Name] {
			if err := checkAttributeName(a.Name); err != nil {
				return err
			}
			if w.known[a.Name] = true; len(w.known) > mostAttribute {
				return fmt.Errorf("%w: more than %d attributes", ErrBadName, mostAttribute)
			}
		}
		if len(a.Values) != n {
			return fmt.Errorf("%w: %d rows and %d values of attribute %q", ErrBadRow, n, len(a.Values), a.Name)
		}
	}
	return nil
}

// firstNew is the row number of the first row of the stream.
func (w *Writer) firstNew() int64 {
	if w.options.Mode == Append {
		return w.base.g.next
	}
	return 0
}

func (w *Writer) checkRow(r Rows, i int) error {
	if r.Keys != nil {
		if err := checkKey(r.Keys[i]); err != nil {
			return err
		}
	}
	for _, a := range r.Attributes {
		if err := checkValue(a.Values[i]); err != nil {
			return fmt.Errorf("attribute %q: %w", a.Name, err)
		}
	}
	return nil
}

// bankLabel maps a label of the stream to one of the bank.
func (w *Writer) bankLabel(label int64) (int64, error) {
	if w.renumber == nil || label == NoLabel {
		return label, nil
	}
	if label < 0 || label >= int64(len(w.renumber)) {
		return 0, fmt.Errorf("%w: label %d, but only %d classes are named", ErrBadRow, label, len(w.renumber))
	}
	return w.renumber[label], nil
}

// Rows is how many rows were kept so far.
func (w *Writer) Rows() int64 { return w.rows }

// Skipped is how many rows SkipBad left out so far.
func (w *Writer) Skipped() int64 { return int64(len(w.skipped)) }

// ZeroVectors is how many of the kept rows have norm 0.
func (w *Writer) ZeroVectors() int64 { return w.zeros }
