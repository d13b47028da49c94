package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"membank/index"
	"membank/simd"
	"membank/store"
)

// checkBank compares a whole bank with the model. The error is a *wrong, or what
// the store said.
func checkBank(ctx context.Context, db *store.DB, name string, b *bank, r *rand.Rand) error {
	s, err := db.Snapshot(name)
	if errors.Is(err, store.ErrNoBank) {
		return wrongf("bank %q of %d rows is gone: %v", name, b.live(), err)
	}
	if err != nil {
		return err
	}
	defer s.Close()
	return checkSnapshot(ctx, s, name, b, r)
}

func checkInfo(info store.Info, name string, b *bank) error {
	if info.Lists != b.lists {
		return wrongf("bank %q: %d lists, expected %d", name, info.Lists, b.lists)
	}
	if info.Bank != name || info.Rows != b.live() || info.Next != b.next || info.Dim != b.dim || info.DType != b.dtype {
		return wrongf("bank %q: %d of %d rows, dim %d, %v; expected %d of %d rows, dim %d, %v",
			info.Bank, info.Rows, info.Next, info.Dim, info.DType, b.live(), b.next, b.dim, b.dtype)
	}
	return nil
}

func checkSnapshot(ctx context.Context, s *store.Snapshot, name string, b *bank, r *rand.Rand) error {
	if err := checkInfo(s.Info(), name, b); err != nil {
		return err
	}
	if err := checkRows(ctx, s, name, b); err != nil {
		return err
	}
	if err := checkSome(ctx, s, name, b, r); err != nil {
		return err
	}
	return checkSearch(ctx, s, name, b, r)
}

// checkRows reads all rows in order and compares everything.
func checkRows(ctx context.Context, s *store.Snapshot, name string, b *bank) error {
	row := int64(0)
	scratch := make([]float32, b.dim)
	err := s.Batches(ctx, 1000, func(batch store.Batch) error {
		var sizes, notes []store.Value
		for _, a := range batch.Attributes {
			switch a.Name {
			case "size":
				sizes = a.Values
			case "note":
				notes = a.Values
			}
		}
		for i, got := range batch.Rows {
			for row < b.next && b.dead[row] {
				row++
			}
			if got != row || row >= b.next {
				return wrongf("bank %q: row %d where %d of %d is expected", name, got, row, b.next)
			}
			seg, at := b.at(row)
			if !slices.Equal(batch.Vectors.Row(i), b.vector(scratch, row, seg, at)) {
				return wrongf("bank %q: row %d has another vector", name, row)
			}
			if key := seg.key(at, row); batch.Keys[i] != key {
				return wrongf("bank %q: row %d has key %q, not %q", name, row, batch.Keys[i], key)
			}
			if label := seg.label(at); batch.Labels[i] != label {
				return wrongf("bank %q: row %d has label %d, not %d", name, row, batch.Labels[i], label)
			}
			size, note := seg.attributes(at)
			if sizes == nil && !size.IsNull() || sizes != nil && sizes[i] != size ||
				notes == nil && !note.IsNull() || notes != nil && notes[i] != note {
				return wrongf("bank %q: row %d has other attributes than %v, %v", name, row, size, note)
			}
			row++
		}
		return nil
	})
	if err != nil {
		return err
	}
	for row < b.next && b.dead[row] {
		row++
	}
	if row != b.next {
		return wrongf("bank %q: the rows end at %d of %d", name, row, b.next)
	}
	return nil
}

// checkSome looks some rows up by key and by number.
func checkSome(ctx context.Context, s *store.Snapshot, name string, b *bank, r *rand.Rand) error {
	if b.live() == 0 {
		return nil
	}
	var rows, found []int64
	var keys []string
	for range 5 {
		row := r.Int64N(b.next)
		seg, at := b.at(row)
		keys = append(keys, seg.key(at, row))
		if b.dead[row] {
			found = append(found, -1)
		} else {
			found = append(found, row)
			rows = append(rows, row)
		}
	}
	keys, found = append(keys, "no such key"), append(found, -1)
	got, err := s.Lookup(ctx, keys)
	if err != nil {
		return err
	}
	if !slices.Equal(got, found) {
		return wrongf("bank %q: keys %q are rows %v, not %v", name, keys, got, found)
	}
	records, err := s.Rows(ctx, rows, store.Want{Vector: true, Attributes: true})
	if err != nil {
		return err
	}
	want := make([]float32, b.dim)
	for i, record := range records {
		seg, at := b.at(rows[i])
		size, note := seg.attributes(at)
		if record.Row != rows[i] || !slices.Equal(record.Vector, b.vector(want, rows[i], seg, at)) || record.Label != seg.label(at) ||
			record.Attributes["size"] != size || record.Attributes["note"] != note {
			return wrongf("bank %q: row %d is fetched as %+v", name, rows[i], record)
		}
	}
	return nil
}

// checkSearch compares a small search with the naive oracle.
func checkSearch(ctx context.Context, s *store.Snapshot, name string, b *bank, r *rand.Rand) error {
	queries := simd.NewMatrix(2, b.dim)
	for i := range queries.Rows {
		segment{Seed: r.Uint64()}.vector(queries.Row(i), 0)
	}
	for _, metric := range []index.Metric{index.Dot, index.L2} {
		const k = 7
		result, err := index.New(s).Search(ctx, queries, index.Options{K: k, Metric: metric})
		if err != nil {
			return err
		}
		for q, hits := range result.Hits {
			want := b.nearest(queries.Row(q), k, metric == index.L2)
			if len(hits) != len(want) {
				return wrongf("bank %q: %d neighbours, %d expected", name, len(hits), len(want))
			}
			for i, hit := range hits {
				score := float64(hit.Score)
				if metric == index.L2 {
					score = -score
				}
				if hit.Row != want[i].row || score != want[i].score {
					return wrongf("bank %q: metric %v, neighbour %d is row %d with %g, expected row %d with %g",
						name, metric, i, hit.Row, score, want[i].row, want[i].score)
				}
			}
		}
	}
	return nil
}

// checkVerify demands a clean Verify.
func checkVerify(ctx context.Context, db *store.DB) error {
	report, err := db.Verify(ctx, store.VerifyOptions{})
	if err != nil {
		return err
	}
	if len(report.Problems) > 0 {
		return fmt.Errorf("verify: %w", report.Problems[0].Err)
	}
	return nil
}

// checkDatabase settles what was under way, and then demands that the database is
// exactly what the ledger says.
func checkDatabase(ctx context.Context, db *store.DB, l *ledger, r *rand.Rand) error {
	for name, c := range l.pending {
		if err := settle(ctx, db, l, name, c, r); err != nil {
			return err
		}
	}
	for name, b := range l.model {
		if err := checkBank(ctx, db, name, b, r); err != nil {
			return err
		}
	}
	if err := checkNames(db, l.model); err != nil {
		return err
	}
	return checkVerify(ctx, db)
}

// checkNames demands that the banks are those of the model, or an error.
func checkNames(db *store.DB, m model) error {
	infos, err := db.Banks("")
	if err != nil {
		return err
	}
	for _, info := range infos {
		if m[info.Bank] == nil {
			return wrongf("bank %q of %d rows is there and should not be", info.Bank, info.Rows)
		}
	}
	if len(infos) != len(m) {
		return wrongf("%d banks are listed, %d expected", len(infos), len(m))
	}
	return nil
}

// settle finds out whether a change that was under way has happened or not, and
// writes it down. Anything between the two is wrong.
func settle(ctx context.Context, db *store.DB, l *ledger, name string, c change, r *rand.Rand) error {
	before := l.model[name]
	next := after(before, c)
	is := func(b *bank) error {
		if b != nil {
			return checkBank(ctx, db, name, b, r)
		}
		_, err := db.Snapshot(name)
		if errors.Is(err, store.ErrNoBank) {
			return nil
		}
		if err == nil {
			err = wrongf("bank %q is there and should not be", name)
		}
		return err
	}
	notAfter := is(next)
	if notAfter == nil {
		return l.write(line{State: "ack", change: change{Bank: name}})
	}
	notBefore := is(before)
	if notBefore == nil {
		return l.write(line{State: "refused", change: change{Bank: name}})
	}
	return fmt.Errorf("bank %q is neither as before the %s (%w) nor complete (%w)", name, c.Op, notBefore, notAfter)
}
