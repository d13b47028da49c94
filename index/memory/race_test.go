package memory

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"membank/index"
	"membank/simd"
)

// Eight ranks write slots of their own and slots of all, while others read, search
// and make checkpoints. A row is written with one number in all its elements, so a
// torn one shows; a shared row is halved by every write, so a lost one does, too.
func TestRanksWriteAtOnce(t *testing.T) {
	const ranks, own, shared, dim, steps = 8, 20, 10, 16, 30
	db := database(t)
	b := mustCreate(t, db, "slots", Config{Kind: KindSlots, Rows: ranks*own + shared, Views: []View{{Dim: dim, Init: InitZeros}}}, CreateOptions{})
	s, err := b.Slots()
	if err != nil {
		t.Fatal(err)
	}
	same := func(v float32, rows int) simd.Matrix {
		m := simd.NewMatrix(rows, dim)
		for i := range m.Data {
			m.Data[i] = v
		}
		return m
	}
	all := make([]int64, shared)
	for i := range all {
		all[i] = ranks*own + int64(i)
	}
	const begun = 0x1p50
	mustUpdate(t, s, all, same(begun, shared), UpdateOptions{Renorm: RenormNone, Step: 1})

	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	writes := make([][shared]int, ranks)
	for rank := range ranks {
		writers.Go(func() {
			r := generator(uint64(rank))
			mine := make([]int64, own)
			for i := range mine {
				mine[i] = int64(rank*own + i)
			}
			for step := int64(2); step < steps+2; step++ {
				o := UpdateOptions{Renorm: RenormNone, Step: step, Durability: Durabilities[r.IntN(3)]}
				if step%8 != 0 && o.Durability == Sync {
					o.Durability = Log // an fsync each
				}
				mustUpdate(t, s, mine, same(float32(step), own), o)
				var some []int64
				for i := range shared {
					if r.IntN(6) == 0 {
						some = append(some, all[i])
						writes[rank][i]++
					}
				}
				o.KeepOld = 0.5
				mustUpdate(t, s, some, simd.NewMatrix(len(some), dim), o)
			}
		})
	}
	rows := make([]int64, ranks*own+shared)
	for i := range rows {
		rows[i] = int64(i)
	}
	for reader := range 2 {
		readers.Go(func() {
			last := slices.Repeat([]int64{-1}, len(rows))
			for {
				select {
				case <-stop:
					return
				default:
				}
				m, err := s.Gather(background, rows)
				if err != nil {
					t.Error(err)
					return
				}
				for i := range m[0].Rows {
					if row := m[0].Row(i); slices.Max(row) != slices.Min(row) {
						t.Errorf("row %d is torn: %v", i, row)
						return
					}
				}
				c, err := s.Columns(nil)
				if err != nil {
					t.Error(err)
					return
				}
				for i, v := range c.Version {
					if v < last[i] {
						t.Errorf("version of row %d went from %d to %d", i, last[i], v)
						return
					}
				}
				last = c.Version
				if reader == 0 {
					_, err = s.Nearest(background, same(1, 2), false, NearestOptions{Options: index.Options{K: 3}})
				} else {
					_, err = s.Sample(background, SampleOptions{N: 5, Scope: ScopeWritten})
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	readers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				// Of the same step there may be one with older rows: ErrStep.
				s.Checkpoint(background, 0)
			}
		}
	})
	writers.Wait()
	close(stop)
	readers.Wait()
	m, err := s.Gather(background, rows)
	if err != nil {
		t.Fatal(err)
	}
	for i := range ranks * own {
		if got := m[0].Row(i)[0]; got != steps+1 {
			t.Errorf("row %d is %v, its rank wrote %d last", i, got, steps+1)
		}
	}
	for i := range shared {
		want := float32(begun)
		for rank := range ranks {
			for range writes[rank][i] {
				want /= 2
			}
		}
		if got := m[0].Row(ranks*own + i)[0]; got != want {
			t.Errorf("shared row %d is %v, want %v: an update was lost", i, got, want)
		}
	}
	// All of it was logged by the last durable update, once there is one more.
	mustUpdate(t, s, []int64{0}, same(7, 1), UpdateOptions{Renorm: RenormNone, Durability: Log})
	want := contentsOf(t, s.Bank)
	if !contentsOf(t, reopen(t, s.Bank)).same(want) {
		t.Error("the reopened bank differs")
	}
}

// Batches of several ranks come into a queue whole, one after the other.
func TestRanksPushAtOnce(t *testing.T) {
	const ranks, batch, pushes = 8, 5, 40
	q := mustQueue(t, database(t), Config{Rows: ranks * batch * pushes, Views: []View{{Dim: 2, Init: InitZeros}}})
	var wg sync.WaitGroup
	for rank := range ranks {
		wg.Go(func() {
			for n := range pushes {
				m := simd.NewMatrix(batch, 2)
				for i := range batch {
					m.Row(i)[0], m.Row(i)[1] = float32(rank*pushes+n), float32(i)
				}
				mustPush(t, q, m, PushOptions{})
			}
		})
	}
	wg.Wait()
	c, err := q.Ordered(background)
	if err != nil {
		t.Fatal(err)
	}
	seen, last := map[float32]bool{}, map[int]float32{}
	for at := 0; at < len(c.Positions); at += batch {
		id := c.Views[0].Row(at)[0]
		for i := range batch {
			if row := c.Views[0].Row(at + i); row[0] != id || row[1] != float32(i) {
				t.Fatalf("row %d is %v in batch %v", at+i, row, id)
			}
		}
		rank := int(id) / pushes
		if before, ok := last[rank]; seen[id] || ok && before > id {
			t.Fatalf("batch %v of rank %d came twice or after %v", id, rank, before)
		}
		seen[id], last[rank] = true, id
	}
	if len(seen) != ranks*pushes {
		t.Fatalf("%d batches of %d", len(seen), ranks*pushes)
	}
}

// What Rows reads is of one moment: a row is that of its version, and of its label,
// whoever writes meanwhile.
func TestRowsAreOfOneMoment(t *testing.T) {
	b := mustCreate(t, database(t), "slots", Config{Kind: KindSlots, Rows: 64, Views: []View{{Dim: 4, Init: InitZeros}}}, CreateOptions{})
	s, err := b.Slots()
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]int64, 64)
	for i := range ids {
		ids[i] = int64(i)
	}
	const steps = 400
	done := make(chan struct{})
	go func() {
		defer close(done)
		for step := int64(1); step <= steps; step++ {
			m := simd.NewMatrix(len(ids), 4)
			for i := range m.Data {
				m.Data[i] = float32(step)
			}
			mustUpdate(t, s, ids, m, UpdateOptions{Renorm: RenormNone, Step: step, Durability: Memory, Labels: slices.Repeat([]int64{step}, len(ids))})
		}
	}()
	for reads, last := 0, int64(0); last < steps && !t.Failed(); reads++ {
		c, err := b.Rows(background, ids, nil)
		if err != nil {
			t.Fatal(err)
		}
		last = max(0, c.Version[0])
		for i, id := range c.Positions {
			if v := max(0, c.Version[i]); v != last || c.Views[0].Row(i)[0] != float32(v) || last > 0 && c.Labels[i] != last {
				t.Errorf("read %d: row %d is of step %v, its version of %d, that of row 0 of %d", reads, id, c.Views[0].Row(i)[0], c.Version[i], last)
			}
		}
	}
	<-done
	if _, err := b.Rows(background, []int64{64}, nil); !errors.Is(err, ErrID) {
		t.Errorf("a row that there is not: %v", err)
	}
}
