package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"membank/simd"
)

// VerifyOptions say how to verify.
type VerifyOptions struct {
	// Progress, if set, is called with the bytes that were checked and the bytes
	// there are, after every record.
	Progress func(done, total int64)
}

// Report is what Verify found. The database is sound if Problems is empty;
// orphans are no problem, only space that the next writing open gives back.
type Report struct {
	Banks, Blocks, Records int
	Bytes                  int64
	Orphans                int
	Problems               []Problem
}

// Problem is damage of one record.
type Problem struct {
	Bank  string
	Block int // -1: not of one block
	Err   error
}

// Verify reads every record that the current generations name and checks all that
// can be checked: lengths, checksums, that counts add up, that row numbers are in
// order or each row stands in one lane and all others are dead, that runs cover
// their block, that scale, bias and norms are those of the vectors, that keys are unique
// within a block and found under their hash, that nothing is missing. The error is
// for what kept it from looking; damage is in the report.
func (db *DB) Verify(ctx context.Context, o VerifyOptions) (Report, error) {
	v := verifier{db: db, progress: o.Progress}
	if v.progress == nil {
		v.progress = func(int64, int64) {}
	}
	db.mu.Lock()
	var snapshots []*Snapshot
	for _, entry := range db.state.banks {
		if err := db.damaged[entry.Name]; err != nil {
			v.add(entry.Name, -1, err)
			continue
		}
		g := db.banks[entry.Name]
		g.pins++
		snapshots = append(snapshots, &Snapshot{db: db, g: g})
		v.total += g.bytes()
	}
	v.report.Banks = len(db.state.banks)
	db.mu.Unlock()
	defer func() {
		for _, s := range snapshots {
			s.Close()
		}
	}()
	present := map[uint64]bool{}
	if err := db.records(func(ref recordRef) { present[ref.number] = true }); err != nil {
		return v.report, err
	}
	owner := map[uint64]string{}
	for _, s := range snapshots {
		s.g.refs(func(block int, kind recordKind, ref recordRef) {
			if other, twice := owner[ref.number]; twice {
				v.add(s.Bank(), block, place{s.Bank(), block}.damaged(fmt.Sprintf("%v %d", kind, ref.number), "bank "+other+" names it too"))
			}
			owner[ref.number] = s.Bank()
			delete(present, ref.number)
		})
		if err := v.bank(ctx, s); err != nil {
			return v.report, err
		}
	}
	v.report.Orphans = len(present)
	return v.report, nil
}

type verifier struct {
	db          *DB
	progress    func(done, total int64)
	done, total int64
	report      Report
}

func (v *verifier) add(bank string, block int, err error) {
	v.report.Problems = append(v.report.Problems, Problem{Bank: bank, Block: block, Err: err})
}

func (v *verifier) bank(ctx context.Context, s *Snapshot) error {
	g := s.g
	if err := g.check(); err != nil {
		v.add(g.bank, -1, place{g.bank, -1}.damaged("manifest", err.Error()))
	}
	fresh := &generation{manifest: g.manifest}
	small := []recordRef{g.deleted, g.manifest.classes}
	if g.layout != nil {
		small = append(small, g.layout.deadLanes)
	}
	if err := v.again(func() error { return v.db.complete(fresh) }, small...); err != nil {
		v.add(g.bank, -1, err)
	}
	places := g.layout != nil && v.checkLayout(s)
	if err := v.again(func() error { _, err := s.Basis(); return err }, g.basis); err != nil {
		v.add(g.bank, -1, err)
	}
	labels := newClasses().labels
	r := s.NewReader()
	whole, placed := true, int64(0)
	for block, ref := range g.blocks {
		if err := ctx.Err(); err != nil {
			return err
		}
		v.report.Blocks++
		refs := []recordRef{ref.panels, ref.columns}
		for _, a := range ref.attributes {
			refs = append(refs, a.recordRef)
		}
		if ref.codes.number != 0 {
			refs = append(refs, ref.codes)
		}
		if ref.runs.number != 0 {
			refs = append(refs, ref.runs)
		}
		err := v.again(func() error {
			err := v.block(r, block)
			if err == nil && places {
				var here int64
				here, err = v.placed(r, block)
				placed += here
			}
			return err
		}, refs...)
		if errors.Is(err, ErrClosed) {
			return err
		}
		if err != nil {
			v.add(g.bank, block, err)
			whole = false
			continue
		}
		c := &r.columns
		for i, label := range c.Label {
			if label != NoLabel && !c.Dead[i] {
				labels.Add(labelBit(label))
			}
		}
	}
	if whole && places && placed != g.next-g.layout.purged {
		v.add(g.bank, -1, place{g.bank, -1}.damaged("places", fmt.Sprintf("%d rows stand in blocks, expected %d", placed, g.next-g.layout.purged)))
	}
	if whole && !labels.Equals(g.classes.labels) {
		v.add(g.bank, -1, place{g.bank, -1}.damaged("classes", fmt.Sprintf("%d labels are known, rows have %d", g.classes.labels.GetCardinality(), labels.GetCardinality())))
	}
	return nil
}

// again runs a check of records as if this process had never seen them.
func (v *verifier) again(check func() error, refs ...recordRef) error {
	for _, ref := range refs {
		if ref.number == 0 {
			continue
		}
		v.db.verifiedMu.Lock()
		delete(v.db.verified, ref.number)
		v.db.verifiedMu.Unlock()
		v.report.Records++
		v.report.Bytes += int64(ref.bytes)
	}
	err := check()
	for _, ref := range refs {
		v.done += int64(ref.bytes)
	}
	v.progress(v.done, v.total)
	return err
}

// block checks one block; its columns are in the reader afterwards.
func (v *verifier) block(r *Reader, block int) error {
	g := r.s.g
	ref := g.blocks[block]
	p := place{g.bank, block}
	if err := r.Codes(block, func([]byte) error { return nil }); err != nil {
		return err
	}
	if err := r.loadColumns(block, g.attributes); err != nil {
		return err
	}
	if ref.runs.number != 0 {
		if _, err := r.s.readRuns(block); err != nil {
			return err
		}
	}
	inOrder := int64(-1)
	if g.layout == nil {
		inOrder = ref.first
	}
	if err := r.columns.view.checkAll(inOrder); err != nil {
		return p.damaged(fmt.Sprintf("columns %d", ref.columns.number), err.Error())
	}
	for i, a := range ref.attributes {
		if n := len(r.columns.values[g.attributes[a.name]]); n != ref.rows {
			return p.damaged(fmt.Sprintf("attribute %d", ref.attributes[i].number), fmt.Sprintf("%d values for %d rows", n, ref.rows))
		}
	}
	row := make([]float32, g.dim)
	var wrong error
	err := r.View(block, func(b *Block) error {
		largest := 0.0
		for i := range b.Rows {
			simd.UnpackRow(row, b.Panels, i)
			norm := simd.Norm(row)
			largest = max(largest, norm)
			if !isFinite(norm) || b.Scale[i] != float32(1/max(norm, epsilon)) || b.Bias[i] != float32(-0.5*norm*norm) {
				wrong = fmt.Errorf("row %d: norm %g, scale %g, bias %g do not agree", b.Row[i], norm, b.Scale[i], b.Bias[i])
				return nil
			}
		}
		padding := func(x float32) bool { return math.Float32bits(x) != 0 }
		for i := b.Rows; i < b.Lanes; i++ {
			simd.UnpackRow(row, b.Panels, i)
			if slices.ContainsFunc(row, padding) {
				wrong = fmt.Errorf("padding lane %d is not zero", i)
				return nil
			}
		}
		if largest != ref.maxNorm {
			wrong = fmt.Errorf("largest norm %g, expected %g", largest, ref.maxNorm)
		}
		return nil
	})
	if err == nil && wrong != nil {
		err = p.damaged(fmt.Sprintf("panels %d", ref.panels.number), wrong.Error())
	}
	return err
}
