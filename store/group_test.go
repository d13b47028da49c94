package store

import (
	"context"
	"fmt"
	"slices"
	"testing"
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

// wantGrouped checks by a plain loop that all live rows of a bank are in the run of
// their list, and returns how many blocks it has.
func wantGrouped(t testing.TB, db *DB, bank string, lists int) int {
	t.Helper()
	s := snapshot(t, db, bank)
	defer s.Close()
	if s.Info().Lists != lists {
		t.Fatalf("%d lists, want %d", s.Info().Lists, lists)
	}
	seen := map[int64]bool{}
	r := s.NewReader()
	for block := range s.Blocks() {
		runs, err := s.Runs(block)
		if err != nil {
			t.Fatal(err)
		}
		next := int32(0)
		err = r.View(block, func(b *Block) error {
			for _, run := range runs {
				if run.From != next || run.To <= run.From {
					t.Errorf("block %d: run %+v after %d", block, run, next)
				}
				next = run.To
				for i := int(run.From); i < int(run.To); i++ {
					if b.Dead[i] {
						continue
					}
					if seen[b.Row[i]] {
						t.Errorf("row %d is there twice", b.Row[i])
					}
					seen[b.Row[i]] = true
					if want := listOf(b.Panels[i/32*32*b.Dim+i%32], lists); want != run.List {
						t.Errorf("row %d is in list %d, not %d", b.Row[i], run.List, want)
					}
				}
			}
			if int(next) != b.Rows {
				t.Errorf("block %d: runs end at %d of %d", block, next, b.Rows)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if int64(len(seen)) != s.Info().Rows {
		t.Errorf("%d rows in blocks, want %d", len(seen), s.Info().Rows)
	}
	return s.Blocks()
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

func TestGroup(t *testing.T) {
	ctx := context.Background()
	db := create(t)
	const n, dim, lists = 700, 512, 9 // full blocks of 2048 rows, but memory for fewer
	for _, dtype := range []DType{F32, F16} {
		bank := "bank-" + dtype.String()
		rows := fullRows(n, dim, 1)
		write(t, db, bank, rows, WriterOptions{DType: dtype})
		want := all(t, db, bank)
		before := snapshot(t, db, bank)
		done := int64(0)
		info, err := db.Group(ctx, bank, []byte("nine lists"), byFirst(lists), GroupOptions{Lists: lists, Threads: 3, Progress: func(d, total int64) {
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
		db = reopen(t, db, Options{})
		equalRows(t, all(t, db, bank), want)
		s := snapshot(t, db, bank)
		if l, err := s.Lists(); err != nil || string(l) != "nine lists" {
			t.Errorf("%q %v", l, err)
		}
		found, err := s.Rows(ctx, []int64{699, 0, 350}, Want{Vector: true, Attributes: true})
		if err != nil || found[0].Key != rows.Keys[699] || found[2].Attributes["size"] != Int(350) || !slices.Equal(found[1].Vector, want.Vectors.Row(0)) {
			t.Errorf("%+v %v", found, err)
		}
		if _, err := db.Ungroup(ctx, bank, GroupOptions{}); err != nil {
			t.Fatal(err)
		}
		equalRows(t, all(t, db, bank), want)
		if after := snapshot(t, db, bank); after.g.layout != nil || after.Info().Lists != 0 {
			t.Error("an ungrouped bank without deleted rows has a layout")
		}
	}
}
