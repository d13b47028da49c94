package memory

import (
	"errors"
	"math"
	"slices"
	"testing"

	"membank/index"
	"membank/simd"
	"membank/store"
)

// What the implementations of the field do differently, each with the option that
// does it. Numbers are small and exact unless a norm is taken.

func one1(values ...float32) simd.Matrix { return matrix(1, values...) }

// column is what a queue of dimension 1 holds, in the order of positions.
func column(t *testing.T, q *Queue, scope Scope) []float32 {
	t.Helper()
	c, err := q.Read(background, scope)
	if err != nil {
		t.Fatal(err)
	}
	return c.Views[0].Data
}

func zerosQueue(t *testing.T, rows int64, w Wrap, o Order) *Queue {
	return mustQueue(t, nil, Config{Rows: rows, Views: []View{{Dim: 1, Init: InitZeros}}, Wrap: w, Order: o})
}

// InstDisc and CMC: U(−a,a) with a = √(3/dim) has variance 1/dim and norm about 1,
// not 1. MoCo and PyContrast: normal, norm 1. VISSL: uniform, norm 1.
func TestInitialRows(t *testing.T) {
	const rows, dim = 4000, 64
	for _, init := range []Init{InitUnit, InitUniform, InitUniformUnit} {
		b := mustCreate(t, nil, "", Config{Kind: KindSlots, Rows: rows, Views: []View{{Dim: dim, Init: init}}, Seed: 3}, CreateOptions{})
		sum, square, most, units := 0.0, 0.0, 0.0, 0
		for i := range int64(rows) {
			row := b.views[0].row(i)
			for _, x := range row {
				sum += float64(x)
				square += float64(x) * float64(x)
				most = max(most, math.Abs(float64(x)))
			}
			if math.Abs(simd.Norm(row)-1) < 1e-6 {
				units++
			}
		}
		near(t, string(init)+": mean", sum/rows/dim, 0, 0.002)
		near(t, string(init)+": variance", square/rows/dim, 1.0/dim, 0.02/dim)
		a := math.Sqrt(3.0 / dim)
		switch init {
		case InitUniform:
			if units > rows/100 || most > a || most < 0.999*a {
				t.Errorf("uniform: %d rows of norm 1, largest element %v of %v", units, most, a)
			}
		case InitUniformUnit:
			if units != rows || most > 1.6*a {
				t.Errorf("uniform-unit: %d rows of norm 1, largest element %v", units, most)
			}
		default:
			if units != rows || most < 2*a {
				t.Errorf("unit: %d rows of norm 1, largest element %v: not normal", units, most)
			}
		}
	}
}

// VISSL's first forward averages the banks of all ranks and does not divide by the
// norm again: rows begin about 1/√R long.
func TestInitialRowsOfManyRanksAreShort(t *testing.T) {
	b := mustCreate(t, nil, "", Config{Kind: KindSlots, Rows: 500, Views: []View{{Dim: 128, Init: InitUniformUnit, Ranks: 16}}}, CreateOptions{})
	sum := 0.0
	for i := range int64(500) {
		sum += simd.Norm(b.views[0].row(i)) / 500
	}
	near(t, "mean norm", sum, 0.25, 0.01)
}

// Initial rows are a function of seed, view and row.
func TestInitialRowsAreRepeatable(t *testing.T) {
	make := func(seed uint64, rows int64) *Bank {
		return mustCreate(t, nil, "", Config{Kind: KindSlots, Rows: rows, Views: []View{{Dim: 5}, {Dim: 5}}, Seed: seed}, CreateOptions{})
	}
	a, again, longer, other := make(1, 50), make(1, 50), make(1, 9000), make(2, 50)
	for v := range 2 {
		if !slices.Equal(a.views[v].slab.data, again.views[v].slab.data) || !slices.Equal(a.views[v].slab.data, longer.views[v].slab.data[:250]) {
			t.Errorf("view %d differs from itself", v)
		}
	}
	if slices.Equal(a.views[0].slab.data, a.views[1].slab.data) || slices.Equal(a.views[0].slab.data, other.views[0].slab.data) {
		t.Error("another view or seed has the same rows")
	}
}

// mmselfsup and ODC weight the new row by their momentum, InstDisc the old one.
func TestMomentumOfTheNewRow(t *testing.T) {
	s := mustSlots(t, nil, Config{Rows: 2, Views: []View{{Dim: 2, Init: InitZeros}}})
	o := UpdateOptions{Renorm: RenormNone}
	mustUpdate(t, s, []int64{0, 1}, matrix(2, 4, 0, 4, 0), o)
	o.KeepOld = .25
	mustUpdate(t, s, []int64{0}, matrix(2, 0, 4), o)
	o.KeepOld = FromNew(.25)
	mustUpdate(t, s, []int64{1}, matrix(2, 0, 4), o)
	sameRow(t, "InstDisc", gathered(t, s.Bank, 0), []float32{1, 3})
	sameRow(t, "mmselfsup", gathered(t, s.Bank, 1), []float32{3, 1})
}

func TestRenormalisation(t *testing.T) {
	s := mustSlots(t, nil, Config{Rows: 3, Views: []View{{Dim: 2, Init: InitZeros}}})
	tiny := float32(2e-10)
	for i, how := range []Renorm{RenormL2, RenormL2Plus, RenormNone} {
		mustUpdate(t, s, []int64{int64(i)}, matrix(2, 0, tiny), UpdateOptions{Renorm: how})
	}
	near(t, "l2", float64(gathered(t, s.Bank, 0)[1]), 1, 1e-6)
	near(t, "l2-plus", float64(gathered(t, s.Bank, 1)[1]), 2.0/3, 1e-6) // 2e-10/(2e-10+1e-10)
	sameRow(t, "none", gathered(t, s.Bank, 2), []float32{0, tiny})
}

// A zero sum has no direction: the old row stays, in every variant.
func TestZeroSumKeepsTheOldRow(t *testing.T) {
	for _, how := range []Renorm{RenormL2, RenormL2Plus} {
		for _, compound := range []bool{false, true} {
			s := mustSlots(t, nil, Config{Rows: 1, Views: []View{{Dim: 2, Init: InitZeros}}})
			mustUpdate(t, s, []int64{0}, matrix(2, .6, .8), UpdateOptions{})
			old := gathered(t, s.Bank, 0)
			w := mustUpdate(t, s, []int64{0}, matrix(2, -old[0], -old[1]), UpdateOptions{KeepOld: .5, Renorm: how, Compound: compound})
			sameRow(t, string(how), gathered(t, s.Bank, 0), old)
			if w.Kept != 1 {
				t.Errorf("%s: %d kept", how, w.Kept)
			}
			w = mustUpdate(t, s, []int64{0, 0}, matrix(2, -old[0], -old[1], -old[0], -old[1]), UpdateOptions{KeepOld: .5, Renorm: how, Compound: compound})
			sameRow(t, string(how)+" twice", gathered(t, s.Bank, 0), old)
			if w.Kept != 2 || w.Rows != 1 {
				t.Errorf("%s: %d kept of %d rows", how, w.Kept, w.Rows)
			}
		}
	}
}

// Every implementation reads all old rows before it writes; which of two writes to
// one slot wins is unspecified there, and the last one here.
func TestDuplicateIDs(t *testing.T) {
	update := func(compound bool) []float32 {
		s := mustSlots(t, nil, Config{Rows: 2, Views: []View{{Dim: 2, Init: InitZeros}}})
		o := UpdateOptions{Renorm: RenormNone, Compound: compound}
		mustUpdate(t, s, []int64{1}, matrix(2, 8, 8), o)
		o.KeepOld = .5
		w := mustUpdate(t, s, []int64{1, 0, 1}, matrix(2, 16, 0, 5, 5, 0, 16), o)
		if w.Rows != 2 {
			t.Errorf("%d slots written", w.Rows)
		}
		return gathered(t, s.Bank, 1)
	}
	sameRow(t, "the last wins over the row before the batch", update(false), []float32{4, 12})
	sameRow(t, "compound", update(true), []float32{6, 10}) // ((8,8)+(16,0))/2 = (12,4); with (0,16): (6,10)
}

// CMC: two banks under one set of ids, written together or one of them.
func TestPairedBanks(t *testing.T) {
	s := mustSlots(t, nil, Config{Rows: 2, Views: []View{{Dim: 2, Init: InitZeros}, {Dim: 3, Init: InitZeros}}})
	_, err := s.Update(background, []int64{1}, []simd.Matrix{matrix(2, 1, 0), matrix(3, 0, 0, 1)}, UpdateOptions{})
	if err == nil {
		_, err = s.Update(background, []int64{0}, []simd.Matrix{{}, matrix(3, 0, 1, 0)}, UpdateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Gather(background, []int64{0, 1})
	if err != nil {
		t.Fatal(err)
	}
	sameRow(t, "first", m[0].Data, []float32{0, 0, 1, 0})
	sameRow(t, "second", m[1].Data, []float32{0, 1, 0, 0, 0, 1})
}

// Logits come from the bank before the batch.
func TestGatherThenUpdateReadsFirst(t *testing.T) {
	s := mustSlots(t, nil, Config{Rows: 2, Views: []View{{Dim: 2, Init: InitZeros}}})
	mustUpdate(t, s, []int64{0, 1}, matrix(2, 1, 0, 0, 1), UpdateOptions{})
	m, _, err := s.GatherThenUpdate(background, []int64{1, 0, 1}, []int64{1}, []simd.Matrix{matrix(2, -1, 0)}, UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sameRow(t, "before", m[0].Data, []float32{0, 1, 1, 0, 0, 1})
	sameRow(t, "after", gathered(t, s.Bank, 1), []float32{-1, 0})
}

// A row's version is the largest step that wrote it.
func TestVersions(t *testing.T) {
	s := mustSlots(t, nil, Config{Rows: 5, Views: []View{{Dim: 1}}})
	mustUpdate(t, s, []int64{0, 1}, one1(1, 1), UpdateOptions{Step: 10})
	mustUpdate(t, s, []int64{1, 2}, one1(1, 1), UpdateOptions{}) // 11
	mustUpdate(t, s, []int64{0, 3}, one1(1, 1), UpdateOptions{Step: 7})
	c, err := s.Columns(nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := []int64{10, 11, 11, 7, -1}; !slices.Equal(c.Version, want) {
		t.Errorf("versions %v, want %v", c.Version, want)
	}
	ages, never, mean, err := s.Staleness(0)
	if err != nil {
		t.Fatal(err)
	}
	if want := []Age{{0, 0, 2}, {1, 1, 1}, {2, 3, 0}, {4, 7, 1}}; !slices.Equal(ages, want) || never != 1 || mean != 1.25 {
		t.Errorf("ages %v, never %d, mean %v", ages, never, mean)
	}
	if _, err := s.Update(background, []int64{0}, []simd.Matrix{one1(1)}, UpdateOptions{Step: -1}); !errors.Is(err, ErrStep) {
		t.Errorf("step -1: %v", err)
	}
}

// PyContrast, stable-pretraining: (cursor+i) mod capacity; of a larger batch the
// last rows, at the positions where they would be had the batch come row by row.
func TestQueueModulo(t *testing.T) {
	q := zerosQueue(t, 5, WrapModulo, OrderRing)
	mustPush(t, q, one1(1, 2, 3), PushOptions{})
	w := mustPush(t, q, one1(4, 5, 6), PushOptions{})
	sameRow(t, "wrapped", column(t, q, ""), []float32{6, 2, 3, 4, 5})
	if w.Cursor != 1 || w.Fill != 5 || w.Dropped != 0 {
		t.Errorf("%+v", w)
	}
	w = mustPush(t, q, one1(10, 11, 12, 13, 14, 15, 16), PushOptions{})
	sameRow(t, "larger than the queue", column(t, q, ""), []float32{14, 15, 16, 12, 13})
	if w.Cursor != 3 || w.Dropped != 2 || w.Rows != 5 {
		t.Errorf("%+v", w)
	}
	c, err := q.Ordered(background)
	if err != nil {
		t.Fatal(err)
	}
	sameRow(t, "insertion order", c.Views[0].Data, []float32{12, 13, 14, 15, 16})
}

// MoCo, NNCLR, MSF, ReSSL: the batch must divide the capacity.
func TestQueueAssert(t *testing.T) {
	q := zerosQueue(t, 6, WrapAssert, OrderRing)
	mustPush(t, q, one1(1, 2, 3), PushOptions{})
	if _, err := q.Push(background, []simd.Matrix{one1(1, 2, 3, 4)}, PushOptions{}); !errors.Is(err, ErrBatch) {
		t.Errorf("4 into 6: %v", err)
	}
	sameRow(t, "unchanged", column(t, q, ScopeAll), []float32{1, 2, 3, 0, 0, 0})
	// all4one's typo: 98,340 for 98,304.
	big := mustQueue(t, nil, Config{Rows: 98340, Views: []View{{Dim: 1, Init: InitZeros}}, Wrap: WrapAssert})
	if _, err := big.Push(background, []simd.Matrix{simd.NewMatrix(256, 1)}, PushOptions{}); !errors.Is(err, ErrBatch) {
		t.Errorf("256 into 98340: %v", err)
	}
}

// lightly: what fits before the end, the rest of the batch is dropped, cursor to 0.
func TestQueueDropTail(t *testing.T) {
	q := zerosQueue(t, 5, WrapDropTail, OrderRing)
	mustPush(t, q, one1(1, 2, 3), PushOptions{})
	w := mustPush(t, q, one1(4, 5, 6), PushOptions{})
	sameRow(t, "dropped", column(t, q, ""), []float32{1, 2, 3, 4, 5})
	if w.Cursor != 0 || w.Dropped != 1 || w.Rows != 2 {
		t.Errorf("%+v", w)
	}
	w = mustPush(t, q, one1(7, 8, 9, 10, 11, 12, 13), PushOptions{})
	sameRow(t, "larger", column(t, q, ""), []float32{7, 8, 9, 10, 11})
	if w.Cursor != 0 || w.Dropped != 2 {
		t.Errorf("%+v", w)
	}
}

// XBM: zeros, only what was filled, batches no larger than the queue, write first and
// then without oneself.
func TestQueueOfXBM(t *testing.T) {
	q := mustQueue(t, nil, Config{Rows: 4, Views: []View{{Dim: 2, Init: InitZeros}}, Wrap: WrapBounded})
	if _, err := q.Push(background, []simd.Matrix{simd.NewMatrix(5, 2)}, PushOptions{}); !errors.Is(err, ErrBatch) {
		t.Errorf("5 into 4: %v", err)
	}
	if ready, _ := q.Ready(); ready {
		t.Error("an empty queue is full")
	}
	batch := matrix(2, 1, 0, 0, 1, .6, .8)
	n, err := q.PushThenNearest(background, []simd.Matrix{batch}, PushOptions{Labels: []int64{7, 8, store.NoLabel}}, batch, false, true, NearestOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := [][]int64{{2, 1}, {2, 0}, {1, 0}} // positions; 3 holds zeros and is not there
	for i, hits := range n.Hits {
		var rows []int64
		for _, h := range hits {
			rows = append(rows, h.Row)
		}
		if !slices.Equal(rows, want[i]) {
			t.Errorf("query %d: %v, want %v", i, rows, want[i])
		}
	}
	if !slices.Equal(n.Labels[0], []int64{store.NoLabel, 8}) || !slices.Equal(n.Vectors[1].Data, []float32{.6, .8, 1, 0}) {
		t.Errorf("labels %v, vectors %v", n.Labels[0], n.Vectors[1].Data)
	}
}

// MSF: write first, then search: a row is its own nearest neighbour, by design.
func TestQueueOfMSF(t *testing.T) {
	q := mustQueue(t, nil, Config{Rows: 8, Views: []View{{Dim: 4}}, Wrap: WrapAssert, Seed: 1})
	batch := unit(random(generator(5), 4, 4))
	n, err := q.PushThenNearest(background, []simd.Matrix{batch}, PushOptions{}, batch, true, false, NearestOptions{Options: index.Options{K: 1}, Scope: ScopeAll})
	if err != nil {
		t.Fatal(err)
	}
	for i, hits := range n.Hits {
		if hits[0].Row != int64(i) {
			t.Errorf("row %d finds %d", i, hits[0].Row)
		}
	}
}

// NNCLR: search first, then push; random rows are neighbours until overwritten, and
// carry no label. lightly's NNMemoryBank searches by cosine and returns the raw row.
func TestQueueOfNNCLR(t *testing.T) {
	q := mustQueue(t, nil, Config{Rows: 4, Views: []View{{Dim: 2}}, Seed: 9})
	mustPush(t, q, matrix(2, 30, 40), PushOptions{Labels: []int64{5}})
	ask := matrix(2, 3, 4)
	n, err := q.Nearest(background, ask, true, NearestOptions{Options: index.Options{K: 1}})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "cosine", float64(n.Hits[0][0].Score), 1, 1e-6)
	sameRow(t, "raw row", n.Vectors[0].Data, []float32{30, 40})
	if n.Labels[0][0] != 5 {
		t.Errorf("label %d", n.Labels[0][0])
	}
	if n, err = q.Nearest(background, ask, false, NearestOptions{Options: index.Options{K: 9}, Scope: ScopeAll}); err != nil || len(n.Hits[0]) != 4 || n.Labels[0][3] != store.NoLabel || n.Version[0][3] != -1 {
		t.Errorf("all rows: %+v, %v", n, err)
	}
	if n, err = q.Nearest(background, ask, false, NearestOptions{Options: index.Options{K: 9}}); err != nil || len(n.Hits[0]) != 1 {
		t.Errorf("pushed rows: %+v, %v", n, err)
	}
}

// MoCo: random unit columns are negatives until they are overwritten, and logits
// come from the queue before the batch.
func TestQueueOfMoCo(t *testing.T) {
	q := mustQueue(t, nil, Config{Rows: 4, Views: []View{{Dim: 8}}, Wrap: WrapAssert, Seed: 2})
	keys := unit(random(generator(1), 2, 8))
	before, w, err := q.ReadThenPush(background, ScopeAll, []simd.Matrix{keys}, PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		near(t, "norm of a random column", simd.Norm(before.Views[0].Row(i)), 1, 1e-6)
		if before.Version[i] != -1 {
			t.Errorf("column %d has version %d before the first batch", i, before.Version[i])
		}
	}
	after, err := q.Read(background, ScopeAll)
	if err != nil {
		t.Fatal(err)
	}
	sameRow(t, "pushed", after.Views[0].Slice(0, 2).Data, keys.Data)
	sameRow(t, "still random", after.Views[0].Slice(2, 4).Data, before.Views[0].Slice(2, 4).Data)
	if w.Cursor != 2 {
		t.Errorf("cursor %d", w.Cursor)
	}
}

// solo-learn's MoCoV2+: a queue for each view, moving together.
func TestQueueOfTwoViews(t *testing.T) {
	q := mustQueue(t, nil, Config{Rows: 3, Views: []View{{Dim: 1, Init: InitZeros}, {Dim: 2, Init: InitZeros}}})
	if _, err := q.Push(background, []simd.Matrix{one1(1)}, PushOptions{}); !errors.Is(err, ErrRows) {
		t.Errorf("one view of two: %v", err)
	}
	if _, err := q.Push(background, []simd.Matrix{one1(1, 2), matrix(2, 1, 1, 2, 2)}, PushOptions{}); err != nil {
		t.Fatal(err)
	}
	c, err := q.Ordered(background)
	if err != nil || !slices.Equal(c.Views[1].Data, []float32{1, 1, 2, 2}) {
		t.Errorf("%v, %v", c, err)
	}
}

// SwAV: a shift, row 0 newest; zeros, and not used until the oldest row is one of a
// batch; its length a multiple of the batch.
func TestQueueOfSwAV(t *testing.T) {
	if got := CapacityFor(3840, 1000); got != 3000 {
		t.Errorf("length %d", got)
	}
	q := zerosQueue(t, 6, WrapModulo, OrderShift)
	mustPush(t, q, one1(1, 2), PushOptions{Labels: []int64{1, 2}})
	sameRow(t, "one batch", column(t, q, ScopeAll), []float32{1, 2, 0, 0, 0, 0})
	mustPush(t, q, one1(3, 4), PushOptions{Labels: []int64{3, 4}})
	sameRow(t, "two batches", column(t, q, ScopeAll), []float32{3, 4, 1, 2, 0, 0})
	sameRow(t, "what was pushed", column(t, q, ""), []float32{3, 4, 1, 2})
	if ready, _ := q.Ready(); ready {
		t.Error("ready too early")
	}
	mustPush(t, q, one1(5, 6), PushOptions{Labels: []int64{5, 6}})
	mustPush(t, q, one1(7, 8), PushOptions{Labels: []int64{7, 8}})
	sameRow(t, "the oldest fell out", column(t, q, ""), []float32{7, 8, 5, 6, 3, 4})
	if ready, _ := q.Ready(); !ready {
		t.Error("not ready")
	}
	c, err := q.Columns([]int64{0, 5})
	if err != nil || !slices.Equal(c.Labels, []int64{7, 4}) {
		t.Errorf("labels %v, %v", c.Labels, err)
	}
	n, err := q.Nearest(background, one1(1), false, NearestOptions{Options: index.Options{K: 2, Metric: index.Dot}})
	if err != nil || n.Hits[0][0].Row != 1 || n.Hits[0][1].Row != 0 {
		t.Errorf("nearest %v, %v: positions count from the newest", n.Hits, err)
	}
	mustPush(t, q, one1(11, 12, 13, 14, 15, 16, 17, 18), PushOptions{})
	sameRow(t, "larger than the queue", column(t, q, ""), []float32{13, 14, 15, 16, 17, 18})
}

// Keys and labels stand beside rows and move with them.
func TestQueueKeysAndLabels(t *testing.T) {
	q := zerosQueue(t, 3, WrapModulo, OrderRing)
	mustPush(t, q, one1(1, 2), PushOptions{Labels: []int64{1, 2}, Keys: []string{"a", "b"}})
	mustPush(t, q, one1(3, 4), PushOptions{Labels: []int64{3, store.NoLabel}, Keys: []string{"c", "a"}})
	c, err := q.Read(background, "")
	if err != nil || !slices.Equal(c.Keys, []string{"a", "b", "c"}) || !slices.Equal(c.Labels, []int64{store.NoLabel, 2, 3}) {
		t.Errorf("%v, %v", c, err)
	}
}

func TestMistakesChangeNothing(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	s := mustSlots(t, nil, Config{Rows: 3, Views: []View{{Dim: 2}}})
	before := contentsOf(t, s.Bank)
	for name, c := range map[string]struct {
		ids  []int64
		rows simd.Matrix
		o    UpdateOptions
		want error
	}{
		"id beyond":         {[]int64{0, 3}, matrix(2, 1, 1, 1, 1), UpdateOptions{}, ErrID},
		"negative id":       {[]int64{-1}, matrix(2, 1, 1), UpdateOptions{}, ErrID},
		"NaN":               {[]int64{0, 1}, matrix(2, 1, 1, nan, 1), UpdateOptions{}, ErrRows},
		"Inf":               {[]int64{0}, matrix(2, inf, 1), UpdateOptions{}, ErrRows},
		"too large":         {[]int64{0}, matrix(2, 1e30, 1), UpdateOptions{}, ErrRows},
		"dimension":         {[]int64{0}, matrix(3, 1, 1, 1), UpdateOptions{}, ErrRows},
		"number":            {[]int64{0, 1}, matrix(2, 1, 1), UpdateOptions{}, ErrRows},
		"keep-old":          {[]int64{0}, matrix(2, 1, 1), UpdateOptions{KeepOld: 1.5}, ErrOptions},
		"keep-old NaN":      {[]int64{0}, matrix(2, 1, 1), UpdateOptions{KeepOld: nan}, ErrOptions},
		"renorm":            {[]int64{0}, matrix(2, 1, 1), UpdateOptions{Renorm: "l1"}, ErrOptions},
		"labels":            {[]int64{0}, matrix(2, 1, 1), UpdateOptions{Labels: []int64{1, 2}}, ErrRows},
		"durability":        {[]int64{0}, matrix(2, 1, 1), UpdateOptions{Durability: "disk"}, ErrOptions},
		"no database there": {[]int64{0}, matrix(2, 1, 1), UpdateOptions{Durability: Sync}, ErrNoDatabase},
	} {
		if _, err := s.Update(background, c.ids, []simd.Matrix{c.rows}, c.o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !contentsOf(t, s.Bank).same(before) {
		t.Error("the bank changed")
	}
	if _, err := s.Queue(); !errors.Is(err, ErrKind) {
		t.Errorf("slots as a queue: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Gather(background, []int64{0}); !errors.Is(err, ErrClosed) {
		t.Errorf("after the close: %v", err)
	}
	for name, c := range map[string]Config{
		"kind":            {Kind: "heap", Rows: 1, Views: []View{{Dim: 1}}},
		"rows":            {Kind: KindSlots, Views: []View{{Dim: 1}}},
		"views":           {Kind: KindSlots, Rows: 1},
		"dim":             {Kind: KindSlots, Rows: 1, Views: []View{{Dim: 0}}},
		"init":            {Kind: KindSlots, Rows: 1, Views: []View{{Dim: 1, Init: "ones"}}},
		"wrap of slots":   {Kind: KindSlots, Rows: 1, Views: []View{{Dim: 1}}, Wrap: WrapModulo},
		"wrap":            {Kind: KindQueue, Rows: 1, Views: []View{{Dim: 1}}, Wrap: "spiral"},
		"shift and drop":  {Kind: KindQueue, Rows: 1, Views: []View{{Dim: 1}}, Wrap: WrapDropTail, Order: OrderShift},
		"rows of a queue": {Kind: KindQueue, Rows: 1, Views: []View{{Dim: 1, Init: InitRows}}},
		"none given":      {Kind: KindSlots, Rows: 1, Views: []View{{Dim: 1, Init: InitRows}}},
		"prototypes":      {Kind: KindQueue, Rows: 1, Views: []View{{Dim: 1}}, Prototypes: 3},
	} {
		if _, err := Create(background, nil, "", c, CreateOptions{}); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
