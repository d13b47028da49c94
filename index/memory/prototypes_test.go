package memory

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"testing"

	"membank/simd"
)

// φ by hand: cluster 0 has rows at distance 1 and 3, cluster 1 two at distance 2,
// cluster 2 one.
func TestConcentrations(t *testing.T) {
	rows := matrix(1, 1, 3, 12, 8, 20.5)
	centroids := matrix(1, 0, 10, 20)
	phi, err := Concentrations(rows, []int64{0, 0, 1, 1, 2}, centroids, 0)
	if err != nil {
		t.Fatal(err)
	}
	one := 2 / math.Log(12) // both large clusters; the singleton takes the largest
	for c := range 3 {
		near(t, "φ", phi[c], .2*one/one, 1e-12)
	}
	// Distances 1, 2, 4 of pairs: clipped to the 10th and 90th percentile.
	rows = matrix(1, 1, -1, 102, 98, 204, 196)
	if phi, err = Concentrations(rows, []int64{0, 0, 1, 1, 2, 2}, matrix(1, 0, 100, 200), .2); err != nil {
		t.Fatal(err)
	}
	raw := []float64{1.2, 2, 3.6} // 1+.2·(2−1), 2, 2+.8·(4−2), all by log 12
	mean := (raw[0] + raw[1] + raw[2]) / 3
	for c := range 3 {
		near(t, "clipped φ", phi[c], .2*raw[c]/mean, 1e-12)
	}
	l, err := PrototypeLoss(matrix(3, .5, .2, .1), [][]int64{{2, 0, 1}}, phi)
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := .5/phi[2], .2/phi[0], .1/phi[1]
	near(t, "loss", l.Loss, math.Log(math.Exp(a)+math.Exp(b)+math.Exp(c))-a, 1e-6)
}

// Rows in three directions and twice as many heads: centroids are normalised means
// of their rows, labels the largest dot products, samples that have no slot −100.
func TestRecluster(t *testing.T) {
	const rows = 90
	s := mustSlots(t, nil, Config{Rows: rows + 5, Views: []View{{Dim: 4}, {Dim: 4}}, Seed: 1})
	r := generator(2)
	samples := make([]int64, rows+5)
	ids := make([]int64, rows)
	var views [2]simd.Matrix
	for v := range views {
		views[v] = random(r, rows, 4)
		for i := range rows {
			for d := range 4 {
				views[v].Row(i)[d] *= .1
			}
			views[v].Row(i)[i%3]++
		}
		unit(views[v])
	}
	for i := range ids {
		ids[i], samples[i] = int64(i), int64(i*2)
	}
	samples[1] = samples[0] // padding: the later slot wins
	if _, err := s.Update(background, ids, views[:], UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	heads, err := s.Recluster(background, ReclusterOptions{Heads: []int{3, 3, 5}, Samples: samples, Total: 200, Epoch: 4})
	if err != nil {
		t.Fatal(err)
	}
	if heads[0].View != 0 || heads[1].View != 1 || heads[2].View != 0 {
		t.Errorf("heads take views %d %d %d", heads[0].View, heads[1].View, heads[2].View)
	}
	for h, head := range heads {
		if len(head.Labels) != 200 || head.Labels[3] != Absent || head.Labels[2] != Absent {
			t.Fatalf("head %d: labels %v", h, head.Labels[:5])
		}
		sums := make([][4]float64, head.Centroids.Rows)
		for i := range rows {
			best, most := -1, math.Inf(-1)
			for c := range head.Centroids.Rows {
				dot := 0.0
				for d, x := range views[head.View].Row(i) {
					dot += float64(x) * float64(head.Centroids.Row(c)[d])
				}
				if dot > most+1e-6 {
					best, most = c, dot
				}
			}
			if i != 0 && head.Labels[samples[i]] != int64(best) {
				t.Errorf("head %d: slot %d is %d, want %d", h, i, head.Labels[samples[i]], best)
			}
			for d, x := range views[head.View].Row(i) {
				sums[best][d] += float64(x)
			}
		}
		for c, sum := range sums {
			near(t, "norm of a centroid", simd.Norm(head.Centroids.Row(c)), 1, 1e-5)
			norm := math.Sqrt(sum[0]*sum[0] + sum[1]*sum[1] + sum[2]*sum[2] + sum[3]*sum[3])
			if norm > 0 && h < 2 { // converged: well apart
				near(t, "centroid", float64(head.Centroids.Row(c)[0]), sum[0]/norm, 1e-4)
			}
		}
	}
	again, err := s.Recluster(background, ReclusterOptions{Heads: []int{3}, Samples: samples, Epoch: 4, Absent: -1})
	if err != nil || !slices.Equal(again[0].Centroids.Data, heads[0].Centroids.Data) || again[0].Labels[3] != -1 {
		t.Errorf("the same epoch differs: %v", err)
	}
}

// plainODC is the bookkeeping of a step in float64 and plain loops: labels by the
// largest dot product, means of members.
type plainODC struct {
	rows      [][]float64
	labels    []int64
	centroids [][]float64
}

func (o *plainODC) means() {
	for c := range o.centroids {
		n := 0.0
		clear(o.centroids[c])
		for i, label := range o.labels {
			if label == int64(c) {
				n++
				for d, x := range o.rows[i] {
					o.centroids[c][d] += x
				}
			}
		}
		for d := range o.centroids[c] {
			o.centroids[c][d] /= max(n, 1)
		}
	}
}

func TestODCStepsEqualTheFormulas(t *testing.T) {
	const n, k, dim = 60, 4, 5
	db := database(t)
	r := generator(12)
	first := unit(random(r, n, dim))
	b := mustCreate(t, db, "odc", Config{Kind: KindSlots, Rows: n, Views: []View{{Dim: dim, Init: InitRows}}, Prototypes: k},
		CreateOptions{Views: []Rows{&memoryRows{m: first}}})
	s, _ := b.Slots()
	labels := make([]int64, n)
	for i := range labels {
		labels[i] = int64(i % k)
	}
	if _, err := s.ODCUpdate(background, []int64{0}, first.Slice(0, 1), ODCOptions{}); !errors.Is(err, ErrOptions) {
		t.Errorf("without labels: %v", err)
	}
	if err := s.ODCStart(background, labels, Log); err != nil {
		t.Fatal(err)
	}
	plain := &plainODC{labels: slices.Clone(labels), centroids: make([][]float64, k)}
	for i := range n {
		plain.rows = append(plain.rows, widened(first.Row(i)))
	}
	for c := range k {
		plain.centroids[c] = make([]float64, dim)
	}
	plain.means()
	for step := range int64(25) {
		ids := make([]int64, 8)
		for i := range ids {
			ids[i] = int64(r.IntN(n))
		}
		rows := unit(random(r, 8, dim))
		got, err := s.ODCUpdate(background, ids, rows, ODCOptions{MinCluster: 1})
		if err != nil {
			t.Fatal(err)
		}
		before := make([][]float64, n)
		for i := range before {
			before[i] = slices.Clone(plain.rows[i])
		}
		changed := map[int64]bool{}
		for i, id := range ids {
			norm := 0.0
			mixed := make([]float64, dim)
			for d := range mixed {
				mixed[d] = (before[id][d] + float64(rows.Row(i)[d])) / 2
				norm += mixed[d] * mixed[d]
			}
			for d := range mixed {
				plain.rows[id][d] = mixed[d] / (math.Sqrt(norm) + 1e-10)
			}
			changed[id] = true
		}
		moved := 0
		for id := range changed {
			best, most := int64(0), math.Inf(-1)
			for c := range plain.centroids {
				dot := 0.0
				for d, x := range plain.rows[id] {
					dot += x * plain.centroids[c][d]
				}
				if dot > most {
					best, most = int64(c), dot
				}
			}
			if plain.labels[id] != best {
				moved++
			}
			plain.labels[id] = best
		}
		near(t, "change ratio", got.ChangeRatio, float64(moved)/float64(len(changed)), 1e-12)
		if (step+1)%10 == 0 {
			plain.means()
		}
		state := contentsOf(t, s.Bank)
		if got.Dissolved == 0 && !slices.Equal(state.column.Labels, plain.labels) {
			t.Fatalf("step %d: labels %v, want %v", step, state.column.Labels, plain.labels)
		}
		if got.Dissolved > 0 {
			return // TestODCDissolvesSmallClusters goes on
		}
		for i := range n {
			for d, x := range plain.rows[i] {
				near(t, "row", float64(state.views[0][i*dim+d]), x, 1e-5)
			}
		}
		for c := range k {
			for d, x := range plain.centroids[c] {
				near(t, "centroid", float64(state.centres[c*dim+d]), x, 1e-5)
			}
		}
		if step == 15 {
			want := contentsOf(t, b)
			b = reopen(t, b)
			if s, _ = b.Slots(); !contentsOf(t, b).same(want) {
				t.Fatal("the reopened bank differs")
			}
		}
	}
	w, err := s.ODCWeights()
	if err != nil {
		t.Fatal(err)
	}
	sum, sizes := 0.0, make([]float64, k)
	for _, label := range plain.labels {
		sizes[label]++
	}
	for c := range sizes {
		sum += 1 / math.Sqrt(sizes[c]+1e-10)
	}
	for c := range sizes {
		near(t, "weight", w[c], 1/math.Sqrt(sizes[c]+1e-10)/sum, 1e-12)
	}
}

// memoryRows are rows of a matrix as Create takes them.
type memoryRows struct {
	m  simd.Matrix
	at int
}

func (r *memoryRows) Next(_ context.Context, m simd.Matrix) (int, error) {
	if r.at == r.m.Rows {
		return 0, io.EOF
	}
	n := min(m.Rows, r.m.Rows-r.at)
	copy(m.Data, r.m.Slice(r.at, r.at+n).Data)
	r.at += n
	return n, nil
}

// A cluster of three rows is dissolved: they join the large cluster whose centroid
// has the largest dot product, and the cluster gets half of the largest one, which
// lies in two heaps.
func TestODCDissolvesSmallClusters(t *testing.T) {
	const dim = 3
	var rows []float32
	var labels []int64
	add := func(n int, label int64, x, y, z float32) {
		for i := range n {
			rows, labels = append(rows, x, y+.001*float32(i), z), append(labels, label)
		}
	}
	add(12, 0, 1, 0, 0)
	add(10, 0, .8, .6, 0) // the other heap of the largest cluster
	add(9, 1, 0, 0, 1)
	add(3, 2, 0, .1, .9) // small, near cluster 1
	m := matrix(dim, rows...)
	b := mustCreate(t, nil, "", Config{Kind: KindSlots, Rows: int64(m.Rows), Views: []View{{Dim: dim, Init: InitRows}}, Prototypes: 3}, CreateOptions{Views: []Rows{&memoryRows{m: m}}})
	s, _ := b.Slots()
	if err := s.ODCStart(background, labels, Memory); err != nil {
		t.Fatal(err)
	}
	got, err := s.ODCUpdate(background, []int64{0}, matrix(dim, 1, 0, 0), ODCOptions{MinCluster: 5})
	if err != nil {
		t.Fatal(err)
	}
	if got.Dissolved != 1 || got.Empty != 0 || got.Smallest < 5 || got.Moved < 13 {
		t.Errorf("%+v", got)
	}
	c, err := s.Columns(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 31; i < 34; i++ {
		if c.Labels[i] != 1 {
			t.Errorf("row %d of the small cluster went to %d", i, c.Labels[i])
		}
	}
	if a, b := c.Labels[0], c.Labels[12]; a == b || a+b != 2 || slices.ContainsFunc(c.Labels[:12], func(l int64) bool { return l != a }) || slices.ContainsFunc(c.Labels[12:22], func(l int64) bool { return l != b }) {
		t.Errorf("the largest cluster was not cut between its heaps: %v", c.Labels[:22])
	}
	p, err := s.Prototypes()
	if err != nil {
		t.Fatal(err)
	}
	heap := c.Labels[12]
	near(t, "new centroid", float64(p.Row(int(heap))[0]), .8, 1e-5)
	near(t, "new centroid", float64(p.Row(int(heap))[1]), .6+.001*4.5, 1e-5)
}
