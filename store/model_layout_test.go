package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"membank/simd"
	"pgregory.net/rapid"
)

// What TestModel does, with one bank that is grouped early and lives long.
func TestModelGrouped(t *testing.T) {
	dir := t.TempDir()
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		m := &model{t: t, dir: filepath.Join(dir, strconv.Itoa(run)), banks: map[string]*modelBank{}}
		m.open(Options{Create: true})
		defer func() { m.db.Close() }()
		m.write("a", Create)
		m.group("a")
		for range rapid.IntRange(4, 9).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"append", "append", "append", "delete", "delete", "update", "update", "annotate", "fold", "group", "reopen"}).Draw(t, "step") {
			case "append":
				m.write("a", Append)
			case "delete":
				m.delete("a")
			case "update":
				m.update("a")
			case "annotate":
				m.annotate("a")
			case "fold":
				m.straighten("a", false)
			case "group":
				m.group("a")
			case "reopen":
				if err := m.db.Close(); err != nil {
					t.Fatal(err)
				}
				m.open(Options{})
			}
			m.compare()
		}
	})
}

func (m *model) groupOptions() GroupOptions {
	o := GroupOptions{Threads: rapid.IntRange(1, 3).Draw(m.t, "threads"), Memory: rapid.SampledFrom([]int64{0, 1}).Draw(m.t, "memory")}
	if rapid.Bool().Draw(m.t, "encode") {
		o.Encode, o.Basis = sign("y"), []byte("y")
	}
	return o
}

func (m *model) group(bank string) {
	b := m.banks[bank]
	o := m.groupOptions()
	o.Lists = rapid.SampledFrom([]int{1, 2, 30}).Draw(m.t, "lists")
	_, err := m.db.Group(context.Background(), bank, fmt.Append(nil, o.Lists, " lists"), byFirst(o.Lists), o)
	if b == nil {
		if !errors.Is(err, ErrNoBank) {
			m.t.Fatal(err)
		}
		return
	}
	if err != nil {
		m.t.Fatal(err)
	}
	b.lists = o.Lists
	m.wantTidy(bank)
}

// straighten folds or ungroups a bank.
func (m *model) straighten(bank string, ungroup bool) {
	b := m.banks[bank]
	var err error
	if ungroup {
		_, err = m.db.Ungroup(context.Background(), bank, m.groupOptions())
	} else {
		_, _, err = m.db.Fold(context.Background(), bank, 0, m.groupOptions())
	}
	if b == nil {
		if !errors.Is(err, ErrNoBank) {
			m.t.Fatal(err)
		}
		return
	}
	if err != nil {
		m.t.Fatal(err)
	}
	if ungroup {
		b.lists = 0
	}
	if ungroup || b.lists > 0 {
		m.wantTidy(bank)
		return
	}
	// A flat bank without dead lanes is left alone.
	if infos, err := m.db.Banks(bank); err != nil || infos[0].Lanes != int64(len(b.rows)) {
		m.t.Fatalf("%+v %v", infos, err)
	}
}

// wantTidy demands that a bank has lanes for live rows alone, in their order.
func (m *model) wantTidy(bank string) {
	b := m.banks[bank]
	s, err := m.db.Snapshot(bank)
	if err != nil {
		m.t.Fatal(err)
	}
	defer s.Close()
	if i := s.Info(); i.Lanes != int64(len(b.rows)) || i.Delta != 0 || i.Lists != b.lists {
		m.t.Fatalf("%+v, want %d lanes in %d lists", i, len(b.rows), b.lists)
	}
	type place struct {
		list int32
		row  int64
	}
	last := place{-1, -1}
	r := s.NewReader()
	for block := range s.Blocks() {
		runs, err := s.Runs(block)
		if err != nil {
			m.t.Fatal(err)
		}
		err = r.Columns(block, func(c *Columns) error {
			for _, run := range runs {
				for _, row := range c.Row[run.From:run.To] {
					if run.List < last.list || run.List == last.list && row <= last.row {
						m.t.Fatalf("row %d of list %d after row %d of list %d", row, run.List, last.row, last.list)
					}
					last = place{run.List, row}
				}
			}
			return nil
		})
		if err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *model) update(bank string) {
	t, b, ctx := m.t, m.banks[bank], context.Background()
	if b == nil {
		if _, err := m.db.UpdateRows(ctx, bank, nil, simd.NewMatrix(0, 1), nil); !errors.Is(err, ErrNoBank) {
			t.Fatal(err)
		}
		return
	}
	if len(b.rows) == 0 {
		return
	}
	after := slices.Clone(b.rows)
	chosen := rapid.SliceOfNDistinct(rapid.IntRange(0, len(b.rows)-1), 0, 40, rapid.ID[int]).Draw(t, "overwritten")
	vectors := simd.NewMatrix(len(chosen), b.dim)
	var rows []int64
	offset := rapid.IntRange(0, 100).Draw(t, "offset")
	for i, c := range chosen {
		for d := range b.dim {
			vectors.Row(i)[d] = float32((i*5+d*11+offset)%19) - 9
		}
		after[c].vector = slices.Clone(vectors.Row(i))
		rows = append(rows, after[c].row)
	}
	var assign Assigner
	if b.lists > 0 {
		if _, err := m.db.UpdateRows(ctx, bank, rows, vectors, nil); !errors.Is(err, ErrGrouped) {
			t.Fatalf("update without lists: %v", err)
		}
		assign = byFirst(b.lists)
	}
	if _, err := m.db.UpdateRows(ctx, bank, append([]int64{b.next}, rows...), simd.NewMatrix(len(rows)+1, b.dim), assign); !errors.Is(err, ErrNoRow) {
		t.Fatalf("update of a row that is not there: %v", err)
	}
	if _, err := m.db.UpdateRows(ctx, bank, rows, vectors, assign); err != nil {
		t.Fatal(err)
	}
	b.rows = after
}

// annotate gives all rows another size.
func (m *model) annotate(bank string) {
	b := m.banks[bank]
	if b == nil || len(b.rows) == 0 {
		return
	}
	values := make([]Value, b.next)
	offset := int64(rapid.IntRange(0, 1000).Draw(m.t, "offset"))
	after := slices.Clone(b.rows)
	for i, r := range after {
		values[r.row] = Int(offset + r.row*7)
		after[i].size = values[r.row]
	}
	if _, err := m.db.SetAttributes(context.Background(), bank, []Attribute{{"size", values}}); err != nil {
		m.t.Fatal(err)
	}
	b.rows = after
}

// wantLists compares the list that every live row stands in with its own.
func (m *model) wantLists(s *Snapshot, b *modelBank) {
	lists, err := listsOf(s)
	if err != nil {
		m.t.Fatal(err)
	}
	if len(lists) != len(b.rows) || s.Info().Lists != b.lists {
		m.t.Fatalf("%d rows stand in %d lists, want %d in %d", len(lists), s.Info().Lists, len(b.rows), b.lists)
	}
	for _, r := range b.rows {
		want := int32(0)
		if b.lists > 0 {
			want = listOf(r.vector[0], b.lists)
		}
		if list, ok := lists[r.row]; !ok || list != want {
			m.t.Fatalf("row %d stands in list %d, want %d", r.row, list, want)
		}
	}
}

// listsOf returns the list that each live row stands in.
func listsOf(s *Snapshot) (map[int64]int32, error) {
	lists := map[int64]int32{}
	r := s.NewReader()
	for block := range s.Blocks() {
		runs, err := s.Runs(block)
		if err != nil {
			return nil, err
		}
		err = r.View(block, func(b *Block) error {
			for _, run := range runs {
				for i := run.From; i < run.To; i++ {
					if b.Dead[i] {
						continue
					}
					if _, twice := lists[b.Row[i]]; twice {
						return fmt.Errorf("row %d is there twice", b.Row[i])
					}
					lists[b.Row[i]] = run.List
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return lists, nil
}
