package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"membank/simd"
)

// byFirst assigns a row to a list that follows from the first element of its vector
// alone, so that a test can say where it must be.
func byFirst(lists int) Assigner {
	return func(list []int32, b *Block) error {
		for i := range b.Rows {
			list[i] = listOf(b.Panels[i/32*32*b.Dim+i%32], lists)
		}
		return nil
	}
}

func listOf(x float32, lists int) int32 {
	h := uint32(int32(x*1000)) * 2654435761
	return int32(h>>7) % int32(lists)
}

// wantGrouped demands that every live row of a bank stands in the run of its list.
func wantGrouped(t testing.TB, db *DB, bank string, lists int) {
	t.Helper()
	s := snapshot(t, db, bank)
	defer s.Close()
	got, err := listsOf(s)
	if err != nil || int64(len(got)) != s.Info().Rows || s.Info().Lists != lists {
		t.Fatalf("%d rows in %d lists, want %d in %d: %v", len(got), s.Info().Lists, s.Info().Rows, lists, err)
	}
	err = s.Batches(context.Background(), 1000, func(b Batch) error {
		for i, row := range b.Rows {
			if want := listOf(b.Vectors.Row(i)[0], lists); got[row] != want {
				return fmt.Errorf("row %d stands in list %d, not %d", row, got[row], want)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// fullRows has everything that a row can have.
func fullRows(n, dim int, seed uint64) Rows {
	r := Rows{Vectors: gaussian(n, dim, seed), Keys: keysOf(n), Labels: make([]int64, n),
		Attributes: []Attribute{{"note", make([]Value, n)}, {"size", make([]Value, n)}}}
	for i := range n {
		r.Keys[i] = fmt.Sprintf("%d-%s", seed, r.Keys[i])
		r.Labels[i] = int64(i % 7)
		if i%5 != 0 {
			r.Attributes[0].Values[i] = Text(fmt.Sprint("note ", i))
		}
		r.Attributes[1].Values[i] = Int(int64(i))
	}
	return r
}

// Blocks of 64 rows and memory for one: every row is gathered in several scans.
func TestGroup(t *testing.T) {
	ctx := context.Background()
	db := create(t)
	const n, dim, lists = 300, 16384, 9
	for _, dtype := range []DType{F32, F16} {
		bank := "bank-" + dtype.String()
		rows := fullRows(n, dim, 1)
		write(t, db, bank, rows, WriterOptions{DType: dtype})
		want := all(t, db, bank)
		before := snapshot(t, db, bank)
		done := int64(0)
		info, err := db.Group(ctx, bank, []byte("nine lists"), byFirst(lists), GroupOptions{Lists: lists, Threads: 3, Memory: 1, Progress: func(d, total int64) {
			if d != done+1 || d > total {
				t.Errorf("progress %d of %d after %d", d, total, done)
			}
			done = d
		}})
		if err != nil || info.Lists != lists || info.Generation != 2 || info.Rows != n || info.Lanes != n {
			t.Fatalf("%+v %v", info, err)
		}
		wantGrouped(t, db, bank, lists)
		equalRows(t, all(t, db, bank), want)
		if before.Info().Lists != 0 {
			t.Error("a snapshot changed")
		}
		before.Close()
		db = reopen(t, db, Options{Memory: 100 * dim * 4})
		equalRows(t, all(t, db, bank), want)
		s := snapshot(t, db, bank)
		if l, err := s.Lists(); err != nil || string(l) != "nine lists" {
			t.Errorf("%q %v", l, err)
		}
		found, err := s.Rows(ctx, []int64{299, 0, 150}, Want{Vector: true, Attributes: true})
		if err != nil || found[0].Key != rows.Keys[299] || found[2].Attributes["size"] != Int(150) || !slices.Equal(found[1].Vector, want.Vectors.Row(0)) {
			t.Errorf("%v", err)
		}
		if _, err := db.Ungroup(ctx, bank, GroupOptions{Memory: 1}); err != nil {
			t.Fatal(err)
		}
		equalRows(t, all(t, db, bank), want)
		if after := snapshot(t, db, bank); after.g.layout != nil || after.Info().Lists != 0 {
			t.Error("an ungrouped bank without deleted rows has a layout")
		}
	}
}

// Places of more rows than a record holds: appended, overwritten, deleted, folded.
func TestPlaces(t *testing.T) {
	ctx := context.Background()
	db := create(t)
	const n, more, lists = placeRows + 3000, 2*placeRows + 100, 5
	vectors := gaussian(n+more, 2, 3)
	write(t, db, "bank", Rows{Vectors: vectors.Slice(0, n)}, WriterOptions{})
	check := func(what string, deleted ...int64) {
		t.Helper()
		s := snapshot(t, db, "bank")
		defer s.Close()
		next := int64(0)
		err := s.Batches(ctx, 5000, func(b Batch) error {
			for i, row := range b.Rows {
				for slices.Contains(deleted, next) {
					next++
				}
				if row != next || !slices.Equal(b.Vectors.Row(i), vectors.Row(int(row))) {
					return fmt.Errorf("row %d where %d is expected, or with another vector", row, next)
				}
				next++
			}
			return nil
		})
		for slices.Contains(deleted, next) {
			next++
		}
		if err != nil || next != s.Info().Next {
			t.Fatalf("%s: %d rows, %v", what, next, err)
		}
		verify(t, db)
	}
	overwrite := func(assign Assigner, rows ...int64) {
		t.Helper()
		m := gaussian(len(rows), 2, uint64(rows[0])+10)
		for i, row := range rows {
			copy(vectors.Row(int(row)), m.Row(i))
		}
		if _, err := db.UpdateRows(ctx, "bank", rows, m, assign); err != nil {
			t.Fatal(err)
		}
	}
	overwrite(nil, placeRows, placeRows+5)
	check("overwritten while flat")
	overwrite(nil, placeRows+1, 7, placeRows-1, placeRows)
	check("overwritten again")
	assign := byFirst(lists)
	if _, err := db.Group(ctx, "bank", []byte("five"), assign, GroupOptions{Lists: lists}); err != nil {
		t.Fatal(err)
	}
	check("grouped")
	write(t, db, "bank", Rows{Vectors: vectors.Slice(n, n+more)}, WriterOptions{Mode: Append, Assign: assign})
	check("appended")
	overwrite(assign, 3, n, n+more-1, placeRows)
	check("overwritten")
	deleted := []int64{3, 4, n + more - 1, placeRows}
	if _, err := db.DeleteRows(ctx, "bank", deleted); err != nil {
		t.Fatal(err)
	}
	check("deleted", deleted...)
	overwrite(assign, n+more-2) // reopens the last block and leaves deleted rows behind
	check("purged", deleted...)
	wantGrouped(t, db, "bank", lists)
	db = reopen(t, db, Options{})
	check("reopened", deleted...)
	if _, folded, err := db.Fold(ctx, "bank", 0.9, GroupOptions{}); folded || err != nil {
		t.Errorf("folded %v for less than nine tenths, %v", folded, err)
	}
	info, folded, err := db.Fold(ctx, "bank", 0.1, GroupOptions{Threads: 2})
	if err != nil || !folded || info.Lanes != info.Rows || info.Delta != 0 || info.Rows != n+more-4 {
		t.Errorf("%+v %v %v", info, folded, err)
	}
	check("folded", deleted...)
	wantGrouped(t, db, "bank", lists)
	if _, folded, err := db.Fold(ctx, "bank", 0, GroupOptions{}); folded || err != nil {
		t.Errorf("folded twice: %v", err)
	}
	if s := snapshot(t, db, "bank"); s.Alive(3) || s.g.layout.purged != 4 {
		t.Errorf("%d rows are purged", s.g.layout.purged)
	}
}

// Updates that cannot be are refused with what is wrong, and change nothing.
func TestUpdateIsRefused(t *testing.T) {
	ctx := context.Background()
	db := create(t)
	rows := fullRows(50, 3, 1)
	write(t, db, "bank", rows, WriterOptions{})
	if _, err := db.DeleteRows(ctx, "bank", []int64{9}); err != nil {
		t.Fatal(err)
	}
	want := all(t, db, "bank")
	bad := gaussian(2, 3, 2)
	bad.Row(1)[2] = float32(math.NaN())
	for _, c := range []struct {
		rows    []int64
		vectors simd.Matrix
		want    error
		at      int64 // of a RowError, -1: none
	}{
		{[]int64{1, 50}, gaussian(2, 3, 2), ErrNoRow, -1},
		{[]int64{1, -1}, gaussian(2, 3, 2), ErrNoRow, -1},
		{[]int64{1, 9}, gaussian(2, 3, 2), ErrNoRow, -1},
		{[]int64{1, 1}, gaussian(2, 3, 2), ErrBadRow, 1},
		{[]int64{1, 2}, bad, ErrBadRow, 1},
		{[]int64{1, 2}, gaussian(2, 4, 2), ErrDim, -1},
		{[]int64{1, 2, 3}, gaussian(2, 3, 2), ErrBadRow, -1},
	} {
		_, err := db.UpdateRows(ctx, "bank", c.rows, c.vectors, nil)
		var r *RowError
		if !errors.Is(err, c.want) || errors.As(err, &r) != (c.at >= 0) || r != nil && r.Row != c.at {
			t.Errorf("%v: %v", c.rows, err)
		}
	}
	equalRows(t, all(t, db, "bank"), want)
	if s := snapshot(t, db, "bank"); s.Info().Generation != 2 || s.g.layout != nil {
		t.Error("a refused update made a generation")
	}
	if report, err := db.Verify(ctx, VerifyOptions{}); err != nil || report.Orphans > 0 {
		t.Errorf("%+v %v", report, err)
	}
}

// Rows with keys of their own and rows without, some of them called like a row
// number that is not theirs, through every way of writing rows again.
func TestMixedKeys(t *testing.T) {
	ctx := context.Background()
	for _, grouped := range []bool{false, true} {
		db := create(t)
		const lists = 3
		assign := byFirst(lists)
		vectors := gaussian(90, 3, 1)
		keys := append(decimals(30), make([]string, 30)...)
		for i := range 30 {
			keys[30+i] = fmt.Sprint(1000 + i)
		}
		keys[31] = "45" // which row 45 is not called
		keys = append(keys, decimals(90)[60:]...)
		o := WriterOptions{}
		piece := func(from, to int, keyed bool) {
			t.Helper()
			r := Rows{Vectors: vectors.Slice(from, to)}
			if keyed {
				r.Keys = keys[from:to]
			}
			write(t, db, "bank", r, o)
			o = WriterOptions{Mode: Append, Assign: assign}
		}
		labels := unlabelled(90)
		check := func(what string, n int) {
			t.Helper()
			equalRows(t, all(t, db, "bank"), Rows{Vectors: vectors.Slice(0, n), Keys: keys[:n], Labels: labels[:n]})
			s := snapshot(t, db, "bank")
			defer s.Close()
			// 30 to 59 are rows, and no keys.
			ask := append(slices.Clone(keys[:n]), "30", "59", "90", "999")
			want := make([]int64, n, len(ask))
			for i := range want {
				want[i] = int64(i)
			}
			if got, err := s.Lookup(ctx, ask); err != nil || !slices.Equal(got, append(want, -1, -1, -1, -1)) {
				t.Errorf("%s: %v %v", what, got, err)
			}
			for _, taken := range []string{"7", "1003"} {
				if !slices.Contains(keys[:n], taken) {
					continue
				}
				_, err := tryWrite(db, "bank", Rows{Vectors: vectors.Slice(0, 1), Keys: []string{taken}}, WriterOptions{Mode: Append, Assign: assign})
				var d *DuplicateKeyError
				if !errors.As(err, &d) || d.Key != taken || !d.InBank || keys[d.Old] != taken {
					t.Errorf("%s: key %s again: %v", what, taken, err)
				}
			}
			verify(t, db)
		}
		overwrite := func(rows ...int64) {
			t.Helper()
			m := gaussian(len(rows), 3, 5)
			for i, row := range rows {
				copy(vectors.Row(int(row)), m.Row(i))
			}
			if _, err := db.UpdateRows(ctx, "bank", rows, m, assign); err != nil {
				t.Fatal(err)
			}
		}
		if grouped {
			piece(0, 30, false)
			if _, err := db.Group(ctx, "bank", []byte("x"), assign, GroupOptions{Lists: lists}); err != nil {
				t.Fatal(err)
			}
			check("grouped", 30)
		} else {
			piece(0, 30, false)
		}
		piece(30, 60, true)
		check("keyed", 60)
		piece(60, 90, false)
		check("not keyed", 90)
		overwrite(2, 31, 61, 89)
		check("overwritten", 90)
		overwrite(3, 31, 62, 89)
		check("overwritten again", 90)
		if _, _, err := db.Fold(ctx, "bank", 0, GroupOptions{}); err != nil {
			t.Fatal(err)
		}
		check("folded", 90)
		if _, err := db.Group(ctx, "bank", []byte("x"), assign, GroupOptions{Lists: lists}); err != nil {
			t.Fatal(err)
		}
		overwrite(4, 90-1)
		check("grouped at last", 90)
		wantGrouped(t, db, "bank", lists)
	}
}

// A zero vector is counted when a row becomes one.
func TestUpdateCountsZeros(t *testing.T) {
	db := create(t)
	write(t, db, "bank", Rows{Vectors: gaussian(10, 3, 1)}, WriterOptions{})
	info, err := db.UpdateRows(context.Background(), "bank", []int64{4, 5}, simd.NewMatrix(2, 3), nil)
	if err != nil || info.ZeroVectors != 2 {
		t.Errorf("%d zero vectors, %v", info.ZeroVectors, err)
	}
}

// A bank without rows, or with none left, is grouped, folded and filled again.
func TestGroupOfNothing(t *testing.T) {
	ctx := context.Background()
	db := create(t)
	assign := byFirst(3)
	o := GroupOptions{Lists: 3}
	write(t, db, "empty", Rows{Vectors: simd.NewMatrix(0, 4)}, WriterOptions{})
	write(t, db, "gone", fullRows(40, 4, 1), WriterOptions{})
	all40 := make([]int64, 40)
	for i := range all40 {
		all40[i] = int64(i)
	}
	if _, err := db.DeleteRows(ctx, "gone", all40); err != nil {
		t.Fatal(err)
	}
	for bank, first := range map[string]int64{"empty": 0, "gone": 40} {
		info, err := db.Group(ctx, bank, []byte("x"), assign, o)
		if err != nil || info.Rows != 0 || info.Lanes != 0 || info.Next != first || info.Lists != 3 {
			t.Fatalf("%+v %v", info, err)
		}
		if n := all(t, db, bank).Vectors.Rows; n != 0 {
			t.Errorf("%d rows", n)
		}
		verify(t, db)
		write(t, db, bank, fullRows(10, 4, 1), WriterOptions{Mode: Append, Assign: assign})
		wantGrouped(t, db, bank, 3)
		s := snapshot(t, db, bank)
		if !s.Alive(first) || s.Alive(first-1) || s.Info().Next != first+10 {
			t.Errorf("%+v", s.Info())
		}
		if _, err := db.Ungroup(ctx, bank, o); err != nil {
			t.Fatal(err)
		}
		got := all(t, db, bank)
		equalRows(t, got, fullRows(10, 4, 1))
	}
}

// What fails half way leaves the bank and the disk as they were.
func TestGroupFails(t *testing.T) {
	ctx := context.Background()
	db := create(t)
	rows := Rows{Vectors: gaussian(200, 16384, 1)}
	write(t, db, "bank", rows, WriterOptions{})
	broken := errors.New("broken")
	o := GroupOptions{Lists: 3, Threads: 2, Memory: 1}
	for what, c := range map[string]struct {
		assign Assigner
		change func(o *GroupOptions) context.Context
		want   error
	}{
		"assign":  {assign: func([]int32, *Block) error { return broken }, want: broken},
		"list 3":  {assign: func(list []int32, b *Block) error { list[b.Rows-1] = 3; return nil }},
		"list -1": {assign: func(list []int32, b *Block) error { list[0] = -1; return nil }},
		"encode": {want: broken, change: func(o *GroupOptions) context.Context {
			o.Basis, o.Encode = []byte("x"), func(value []byte, b *Block) ([]byte, error) { return nil, broken }
			return ctx
		}},
		"no basis": {change: func(o *GroupOptions) context.Context { o.Encode = sign("x"); return ctx }},
		"cancelled": {want: context.Canceled, change: func(o *GroupOptions) context.Context {
			ctx, cancel := context.WithCancel(ctx)
			o.Progress = func(done, total int64) {
				if done == total/2 {
					cancel()
				}
			}
			return ctx
		}},
	} {
		options, with := o, ctx
		if c.change != nil {
			with = c.change(&options)
		}
		if c.assign == nil {
			c.assign = byFirst(3)
		}
		_, err := db.Group(with, "bank", []byte("three"), c.assign, options)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
		if report, err := db.Verify(ctx, VerifyOptions{}); err != nil || len(report.Problems) > 0 || report.Orphans > 0 {
			t.Errorf("%s: %+v %v", what, report, err)
		}
	}
	if s := snapshot(t, db, "bank"); s.Info().Generation != 1 {
		t.Error("a failure made a generation")
	}
	if _, err := db.WriteLists(ctx, "bank", []byte("x")); !errors.Is(err, ErrFlat) {
		t.Error(err)
	}
	if _, err := db.Group(ctx, "bank", nil, byFirst(3), o); err == nil {
		t.Error("lists without a description")
	}
}

// A description of lists of several records, replaced without moving rows.
func TestWriteLists(t *testing.T) {
	ctx := context.Background()
	db := create(t)
	write(t, db, "bank", Rows{Vectors: gaussian(100, 3, 1)}, WriterOptions{})
	long := make([]byte, 2*listsPiece+5)
	for i := range long {
		long[i] = byte(i * 7 >> 3)
	}
	if _, err := db.Group(ctx, "bank", long, byFirst(4), GroupOptions{Lists: 4}); err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]byte{long, []byte("short"), long[:listsPiece], long[1:]} {
		info, err := db.WriteLists(ctx, "bank", want)
		if err != nil || info.Lists != 4 {
			t.Fatalf("%+v %v", info, err)
		}
		db = reopen(t, db, Options{})
		s := snapshot(t, db, "bank")
		if got, err := s.Lists(); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, want %d: %v", len(got), len(want), err)
		}
		s.Close()
	}
	wantGrouped(t, db, "bank", 4)
}
