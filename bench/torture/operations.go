package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"

	"membank/index"
	"membank/simd"
	"membank/store"
	"membank/store/dump"
)

// operation is one thing that a workload does. Those that change a bank have all
// of pick, do and apply; the others have only read.
type operation struct {
	name   string
	weight int
	// pick chooses the operation's arguments for a bank, or says that it makes no
	// sense for it. b is nil when the bank is not there.
	pick func(r *rand.Rand, name string, b *bank) (change, bool)
	// do carries it out. It returns the bank's new Info (zero if it is gone).
	do func(ctx context.Context, db *store.DB, c change) (store.Info, error)
	// apply is what it does to the model. b is a copy of its own.
	apply func(b *bank, c change) *bank
	// read looks at a bank that is there and returns what is wrong.
	read func(ctx context.Context, w *worker, name string, b *bank) error
}

// operations is the table of what a workload does.
var operations []operation

func init() {
	operations = []operation{
		{name: "create", weight: 6, pick: pickCreate, do: ingest(store.Create), apply: applyReplace},
		{name: "append", weight: 8, pick: pickAppend, do: ingest(store.Append), apply: applyAppend},
		{name: "replace", weight: 4, pick: pickReplace, do: ingest(store.Replace), apply: applyReplace},
		{name: "delete", weight: 3, pick: pickDelete, do: deleteRows, apply: applyDelete},
		{name: "remove", weight: 2, pick: pickRemove, do: removeBank, apply: func(*bank, change) *bank { return nil }},
		{name: "codes", weight: 3, pick: pickCodes, do: writeCodes, apply: func(b *bank, _ change) *bank { return b }},
		{name: "group", weight: 4, pick: pickGroup, do: group, apply: applyLists},
		{name: "ungroup", weight: 1, pick: pickUngroup, do: ungroup, apply: applyLists},
		{name: "update", weight: 4, pick: pickUpdate, do: updateRows, apply: applyUpdate},
		{name: "fold", weight: 2, pick: pickThere, do: fold, apply: func(b *bank, _ change) *bank { return b }},
		{name: "abort", weight: 1, read: readAbort},
		{name: "scan", weight: 2, read: func(ctx context.Context, w *worker, name string, b *bank) error {
			return checkBank(ctx, w.db, name, b, w.rng)
		}},
		{name: "pinned", weight: 2, read: readPinned},
		{name: "export", weight: 1, read: readExport},
		{name: "compact", weight: 1, read: readCompact},
		{name: "verify", weight: 1, read: func(ctx context.Context, w *worker, _ string, _ *bank) error {
			return checkVerify(ctx, w.db)
		}},
	}
}

// changes says that the operation changes a bank, and so goes into the ledger.
func (op operation) changes() bool { return op.apply != nil }

// pickSegment chooses new rows. Most are few; some fill several blocks, so that a
// commit takes more than one transaction.
func pickSegment(r *rand.Rand, dim int) segment {
	rows := 1 + r.IntN(400)
	switch r.IntN(8) {
	case 0:
		rows = 1 + r.IntN(40)
	case 1, 2:
		rows = (3 << 20) / (4 * dim) * (1 + r.IntN(6)) // 3 to 18 MiB
	}
	return segment{Seed: r.Uint64() >> 12, Rows: rows, Keys: r.IntN(3) > 0, Labels: r.IntN(4) > 0, Attributes: r.IntN(3) == 0}
}

var dims = []int{3, 33, 128, 1024}

func pickCreate(r *rand.Rand, name string, b *bank) (change, bool) {
	if b != nil {
		return change{}, false
	}
	dim := dims[r.IntN(len(dims))]
	return change{Bank: name, Dim: dim, Half: r.IntN(4) == 0, New: pickSegment(r, max(dim, 33))}, true
}

// maxBankBytes bounds a bank, so that a check takes a fraction of a second.
const maxBankBytes = 24 << 20

func pickAppend(r *rand.Rand, name string, b *bank) (change, bool) {
	if b == nil || b.next*int64(b.dim)*4 > maxBankBytes {
		return change{}, false
	}
	c := change{Bank: name, Dim: b.dim, Half: b.dtype == store.F16, New: pickSegment(r, max(b.dim, 33))}
	// Rows without keys are named by their number, which no key of ours is.
	return c, true
}

func pickReplace(r *rand.Rand, name string, b *bank) (change, bool) {
	c, ok := pickCreate(r, name, nil)
	return c, ok && b != nil
}

func pickDelete(r *rand.Rand, name string, b *bank) (change, bool) {
	if b == nil || b.live() < 4 {
		return change{}, false
	}
	every := 2 + r.IntN(40)
	return change{Bank: name, Every: every, From: r.IntN(every)}, true
}

func pickRemove(r *rand.Rand, name string, b *bank) (change, bool) {
	return change{Bank: name}, b != nil
}

func applyReplace(_ *bank, c change) *bank {
	b := &bank{dim: c.Dim, dead: map[int64]bool{}}
	if c.Half {
		b.dtype = store.F16
	}
	return applyAppend(b, c)
}

func applyAppend(b *bank, c change) *bank {
	b.segments = append(b.segments, c.New)
	b.next += int64(c.New.Rows)
	return b
}

func (b *bank) chosen(c change) []int64 {
	var rows []int64
	for row := int64(c.From); row < b.next; row += int64(c.Every) {
		rows = append(rows, row)
	}
	return rows
}

func applyDelete(b *bank, c change) *bank {
	for _, row := range b.chosen(c) {
		b.dead[row] = true
	}
	return b
}

// ingest writes a segment in batches of uneven size.
func ingest(mode store.WriteMode) func(context.Context, *store.DB, change) (store.Info, error) {
	return func(ctx context.Context, db *store.DB, c change) (store.Info, error) {
		o := store.WriterOptions{Mode: mode, Source: store.Provenance{Command: "torture"}}
		if c.Half {
			o.DType = store.F16
		}
		if mode == store.Append {
			info, err := infoOf(db, c.Bank)
			if err != nil {
				return store.Info{}, err
			}
			o.Assign = assigner(info.Lists)
		}
		w, err := db.NewWriter(ctx, c.Bank, c.Dim, o)
		if err != nil {
			return store.Info{}, err
		}
		defer w.Abort()
		for from := 0; from < c.New.Rows; {
			to := min(from+1+int(mix(c.New.Seed+uint64(from))%1000), c.New.Rows)
			if err := w.Append(ctx, c.New.rows(c.Dim, from, to)); err != nil {
				return store.Info{}, err
			}
			from = to
		}
		return w.Commit(ctx)
	}
}

func deleteRows(ctx context.Context, db *store.DB, c change) (store.Info, error) {
	s, err := db.Snapshot(c.Bank)
	if err != nil {
		return store.Info{}, err
	}
	b := &bank{next: s.Info().Next}
	rows := slices.DeleteFunc(b.chosen(c), func(row int64) bool { return !s.Alive(row) })
	s.Close()
	if _, err := db.DeleteRows(ctx, c.Bank, rows); err != nil {
		return store.Info{}, err
	}
	return infoOf(db, c.Bank)
}

func infoOf(db *store.DB, name string) (store.Info, error) {
	s, err := db.Snapshot(name)
	if err != nil {
		return store.Info{}, err
	}
	defer s.Close()
	return s.Info(), nil
}

func removeBank(ctx context.Context, db *store.DB, c change) (store.Info, error) {
	_, err := db.RemoveBank(ctx, c.Bank)
	return store.Info{}, err
}

// Rows and answers do not change with codes; a check of the bank searches by them
// where it has enough rows.
func pickCodes(_ *rand.Rand, name string, b *bank) (change, bool) {
	if b == nil || b.live() < 64 || b.dim > 256 { // learning more dims takes seconds
		return change{}, false
	}
	return change{Bank: name, Dim: b.dim}, true
}

// writeCodes gives codes to banks that are too small to gain by them, too: a new
// basis and codes for all blocks.
func writeCodes(ctx context.Context, db *store.DB, c change) (store.Info, error) {
	s, err := db.Snapshot(c.Bank)
	if err != nil {
		return store.Info{}, err
	}
	defer s.Close()
	basis, err := index.LearnBasis(ctx, s, 1)
	if err != nil {
		return store.Info{}, err
	}
	return db.WriteCodes(ctx, c.Bank, basis.Encode(), basis.EncodeBlock, store.CodesOptions{})
}

// readAbort leaves half an ingest; the bank must not change.
func readAbort(ctx context.Context, w *worker, name string, b *bank) error {
	o := store.WriterOptions{Mode: store.Replace}
	writer, err := w.db.NewWriter(ctx, name, b.dim, o)
	if err != nil {
		return err
	}
	s := segment{Seed: w.rng.Uint64(), Rows: 500}
	err = writer.Append(ctx, s.rows(b.dim, 0, s.Rows))
	writer.Abort()
	if err != nil {
		return err
	}
	info, err := infoOf(w.db, name)
	if err != nil {
		return err
	}
	return checkInfo(info, name, b)
}

// readPinned changes a bank while a snapshot is open: the snapshot must go on to
// answer as before.
func readPinned(ctx context.Context, w *worker, name string, b *bank) error {
	s, err := w.db.Snapshot(name)
	if err != nil {
		return err
	}
	defer s.Close()
	before := b.clone()
	for range 2 {
		if err := w.change(ctx, name); err != nil {
			return err
		}
	}
	if err := checkSnapshot(ctx, s, name, before, w.rng); err != nil {
		return fmt.Errorf("a snapshot taken before two changes: %w", err)
	}
	return nil
}

// readCompact gives space back. It must wait for another worker's ingest, and needs
// room to move values.
func readCompact(ctx context.Context, w *worker, name string, b *bank) error {
	w.events.Encode(event{Event: "begin", Op: "compact"})
	_, err := w.db.Compact(ctx)
	w.events.Encode(event{Event: "end", Op: "compact"})
	if err != nil && !errors.Is(err, store.ErrBusy) && !errors.Is(err, store.ErrNoSpace) {
		return err
	}
	return checkBank(ctx, w.db, name, b, w.rng)
}

// readExport writes a bank as .npy and reads that back.
func readExport(ctx context.Context, w *worker, name string, b *bank) error {
	s, err := w.db.Snapshot(name)
	if err != nil {
		return err
	}
	defer s.Close()
	f, err := os.CreateTemp(w.scratch, "export-*.npy")
	if err != nil {
		return err
	}
	path := f.Name()
	defer os.Remove(path)
	all := make([]float32, 0, b.live()*int64(b.dim))
	npy, err := dump.NewNPYWriter(f, "<f4", b.live(), int64(b.dim))
	if err == nil {
		err = s.Batches(ctx, 333, func(batch store.Batch) error {
			all = append(all, batch.Vectors.Data...)
			return npy.Float32(batch.Vectors.Data)
		})
	}
	if err == nil {
		err = npy.Close()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	r, err := dump.Open(path, dump.Options{})
	if err != nil {
		return err
	}
	defer r.Close()
	m := simd.NewMatrix(64, b.dim)
	got, err := r.Next(ctx, m)
	if err != nil && got == 0 {
		return err
	}
	if !slices.Equal(m.Data[:got*b.dim], all[:got*b.dim]) {
		return wrongf("bank %q: the export reads back differently", name)
	}
	return nil
}

// wrong is an answer that is neither right nor an error: what torture looks for.
type wrong struct{ what string }

func (w *wrong) Error() string { return w.what }

func wrongf(format string, args ...any) error { return &wrong{fmt.Sprintf(format, args...)} }

func isWrong(err error) bool {
	var w *wrong
	return errors.As(err, &w)
}
