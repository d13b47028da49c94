package eval

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"membank/simd"
	"membank/store"
	"membank/store/dump/dumptest"
)

func cosine(a, b []float32) float64 {
	s, _ := similarity(Protocol{Normalise: true, Metric: Cosine}, a, b)
	return s
}

// Planted repeats among real features: what all pairs in float64 say.
func TestDuplicatesWithin(t *testing.T) {
	m := dumptest.Lookup(t, "moco_v2")
	rows := simd.NewMatrix(400, m.Train.Dim)
	copy(rows.Data, m.Train.Data)
	labels := slices.Clone(m.TrainLabels[:400])
	for _, pair := range [][2]int{{10, 200}, {10, 201}, {50, 51}, {300, 399}} {
		for d, v := range rows.Row(pair[0]) {
			rows.Row(pair[1])[d] = 2*v + 1e-3
		}
		labels[pair[1]] = labels[pair[0]]
	}
	labels[399]++
	labels[51] = store.NoLabel
	const least = 0.95
	parent := make([]int64, rows.Rows)
	for i := range parent {
		parent[i] = int64(i)
	}
	var pairs, drop int64
	var linked []int
	kept := make([]bool, rows.Rows)
	of := make([]int64, rows.Rows)
	for i := range rows.Rows {
		kept[i], of[i] = true, -1
		best, has := 0.0, false
		for j := range rows.Rows {
			s := cosine(rows.Row(i), rows.Row(j))
			if i == j || s < least {
				continue
			}
			if math.Abs(s-least) < 1e-6 {
				t.Fatalf("rows %d and %d are too close to the threshold for this test", i, j)
			}
			has = true
			if j > i {
				continue
			}
			pairs++
			if a, b := parent[i], parent[j]; a != b { // label propagation
				for x := range parent {
					if parent[x] == max(a, b) {
						parent[x] = min(a, b)
					}
				}
			}
			if kept[j] && s > best+1e-7 {
				best, of[i] = s, int64(j)
			}
		}
		if of[i] >= 0 {
			kept[i] = false
			drop++
		}
		if has {
			linked = append(linked, i)
		}
	}
	db := open(t)
	r, err := Duplicates{MinScore: least}.Within(t.Context(), write(t, db, "a", rows, labels), RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Pairs != pairs || r.Drop != drop || int(r.Grouped) != len(linked) || pairs < 6 {
		t.Errorf("%+v, want %d pairs, %d to drop, %d in groups", r, pairs, drop, len(linked))
	}
	groups := map[int64]bool{}
	for i, f := range r.Found {
		groups[f.Group] = true
		if f.Row != int64(linked[i]) || f.Group != parent[f.Row] {
			t.Errorf("%+v, want row %d in group %d", f, linked[i], parent[linked[i]])
		}
		if (f.Of >= 0) != (of[f.Row] >= 0) || f.Of >= 0 && !kept[f.Of] {
			t.Errorf("%+v, want it to repeat %d", f, of[f.Row])
		}
		if f.Of >= 0 && math.Abs(cosine(rows.Row(int(f.Row)), rows.Row(int(f.Of)))-float64(f.Score)) > 1e-6 {
			t.Errorf("%+v: the score is %v", f, cosine(rows.Row(int(f.Row)), rows.Row(int(f.Of))))
		}
		if f.Row == 399 && !f.Conflict || f.Row == 51 && f.Conflict {
			t.Errorf("%+v: labels %d and %d", f, labels[f.Row], labels[f.Of])
		}
	}
	if int64(len(groups)) != r.Groups {
		t.Errorf("%d groups, counted %d", len(groups), r.Groups)
	}
}

// Groups chain, but nothing is dropped for a row that it does not resemble.
func TestDuplicatesDoNotChain(t *testing.T) {
	rows := simd.NewMatrix(7, 2)
	for i := range rows.Rows { // 10 degrees apart: neighbours have cosine 0.985, next ones 0.940
		angle := float64(i) * math.Pi / 18
		rows.Row(i)[0], rows.Row(i)[1] = float32(math.Cos(angle)), float32(math.Sin(angle))
	}
	r, err := Duplicates{MinScore: 0.98}.Within(t.Context(), write(t, open(t), "a", rows, nil), RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Groups != 1 || r.Grouped != 7 || r.Drop != 3 || r.Pairs != 6 {
		t.Errorf("%+v", r)
	}
	for _, f := range r.Found {
		if f.Group != 0 || (f.Of >= 0) != (f.Row%2 == 1) || f.Of >= 0 && f.Score < 0.98 {
			t.Errorf("%+v", f)
		}
	}
}

func referenceDuplicates(t *testing.T) {
	m := dumptest.Lookup(t, "simclr_last")
	r, err := Duplicates{MinScore: 0.999}.Within(t.Context(), write(t, open(t), "a", m.Train, nil), RunOptions{})
	if err != nil || r.Pairs != 0 || r.Groups != 0 || len(r.Found) != 0 { // duplicates.json: feature_cosine_gt_0_999_pairs
		t.Errorf("%+v (%v), the reference has no pair", r, err)
	}
	reproduces("duplicates", "feature_cosine_gt_0_999_pairs")
}

func TestDuplicatesBetween(t *testing.T) {
	m := dumptest.Lookup(t, "moco_v2")
	test := simd.NewMatrix(60, m.Test.Dim)
	copy(test.Data, m.Test.Data)
	labels := slices.Clone(m.TestLabels[:60])
	copy(test.Row(7), m.Train.Row(123))
	copy(test.Row(8), m.Train.Row(123))
	labels[7], labels[8] = m.TrainLabels[123], m.TrainLabels[123]+1
	db := open(t)
	train, leaked := write(t, db, "train", m.Train.Slice(0, 500), m.TrainLabels[:500]), write(t, db, "test", test, labels)
	r, err := Duplicates{MinScore: 0.9999}.Between(t.Context(), leaked, train, RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := []Duplicate{{7, 123, 123, r.Found[0].Score, false}, {8, 123, 123, r.Found[0].Score, true}}
	if !slices.Equal(r.Found, want) || r.Groups != 1 || r.Drop != 2 || r.Mixed != 1 || r.In != "train" {
		t.Errorf("%+v", r)
	}
	if _, err := (Duplicates{}).Between(t.Context(), leaked, write(t, db, "other", dense(3, 4, 1), nil), RunOptions{}); !errors.Is(err, store.ErrDim) {
		t.Errorf("other dimensions: %v", err)
	}
}

// clusters are rows around a few directions, with their labels.
func clusters(each, dim, count int) (simd.Matrix, []int64) {
	m := dense(each*count, dim, 11)
	labels := make([]int64, m.Rows)
	for i := range m.Rows {
		labels[i] = int64(i % count)
		for d := range m.Row(i) {
			m.Row(i)[d] *= 0.1
		}
		m.Row(i)[i%count] += 2
	}
	return m, labels
}

// Of clear clusters with some labels changed, those rows and no others are found.
func TestLabelErrors(t *testing.T) {
	m, labels := clusters(40, 8, 4)
	truth := slices.Clone(labels)
	want := []int64{3, 17, 90, 151}
	for _, row := range want {
		labels[row] = (labels[row] + 1) % 4
	}
	labels[5] = store.NoLabel
	r, err := LabelErrors{}.Run(t.Context(), write(t, open(t), "a", m, labels, "a", "b", "c", "d"), RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var found []int64
	for i, e := range r.Found {
		found = append(found, e.Row)
		if e.Suggested != truth[e.Row] || e.Label != labels[e.Row] || e.Votes <= e.Own || i > 0 && e.Doubt() > r.Found[i-1].Doubt() {
			t.Errorf("%+v, it was %d", e, truth[e.Row])
		}
	}
	slices.Sort(found)
	if !slices.Equal(found, want) || r.Candidates != 4 || r.Disagree != 4 || r.Rows != 159 || r.Classes != 4 || len(r.Thresholds) != 4 || r.Thresholds[1].Name != "b" {
		t.Errorf("%v in %+v, want %v", found, r, want)
	}
	if _, err := (LabelErrors{}).Run(t.Context(), write(t, open(t), "a", m, nil), RunOptions{}); !errors.Is(err, ErrNoLabels) {
		t.Errorf("no labels: %v", err)
	}
}

// Shares and thresholds on real features, once more by hand.
func TestLabelErrorsNaively(t *testing.T) {
	m := dumptest.Lookup(t, "moco_v2")
	const n, k = 150, 7
	rows, labels := m.Train.Slice(0, n), m.TrainLabels[:n]
	type row struct{ own, best, suggested float64 }
	var all []row
	thresholds := map[int64][2]float64{}
	for i := range n {
		order := []int{}
		for j := range n {
			if j != i {
				order = append(order, j)
			}
		}
		slices.SortStableFunc(order, func(x, y int) int { return sign(cosine(rows.Row(i), rows.Row(y)) - cosine(rows.Row(i), rows.Row(x))) })
		votes, total := make([]float64, 10), 0.0
		for _, j := range order[:k] {
			w := math.Exp(cosine(rows.Row(i), rows.Row(j)) / 0.07)
			votes[labels[j]] += w
			total += w
		}
		best := 0
		for c, v := range votes {
			if v > votes[best] {
				best = c
			}
		}
		all = append(all, row{votes[labels[i]] / total, votes[best] / total, float64(best)})
		at := thresholds[labels[i]]
		thresholds[labels[i]] = [2]float64{at[0] + votes[labels[i]]/total, at[1] + 1}
	}
	want := map[int64]row{}
	for i, r := range all {
		limit := thresholds[int64(r.suggested)]
		if r.suggested != float64(labels[i]) && r.best >= limit[0]/limit[1] {
			want[int64(i)] = r
		}
	}
	r, err := LabelErrors{K: k}.Run(t.Context(), write(t, open(t), "a", rows, labels), RunOptions{})
	if err != nil || len(r.Found) != len(want) || len(want) < 10 {
		t.Fatalf("%d candidates, want %d (%v)", len(r.Found), len(want), err)
	}
	if r.Tied != 0 {
		t.Errorf("%d tied rows", r.Tied)
	}
	same, err := LabelErrors{}.Run(t.Context(), write(t, open(t), "same", repeatRow(dense(1, 4, 1), 6), []int64{0, 1, 0, 1, 0, 1}), RunOptions{})
	if !errors.Is(err, ErrTooFew) {
		t.Errorf("equal rows: %+v (%v)", same, err)
	}
	// Row 0 is mislabelled among duplicates, as many as vote: that is no tie. Row 9 is
	// alone in its class, and nothing speaks for it or against it.
	doubles := simd.NewMatrix(10, 2)
	for i := range 10 {
		doubles.Row(i)[0], doubles.Row(i)[1] = 1, float32(i/5)
	}
	found, err := LabelErrors{K: 4}.Run(t.Context(), write(t, open(t), "dup", doubles, []int64{1, 0, 0, 0, 0, 1, 1, 1, 1, 2}), RunOptions{})
	if err != nil || len(found.Found) != 1 || found.Found[0].Row != 0 || found.Lone != 1 || found.Tied != 0 {
		t.Errorf("%+v %v", found, err)
	}
	for _, e := range r.Found {
		w, ok := want[e.Row]
		if !ok || float64(e.Suggested) != w.suggested || math.Abs(e.Own-w.own) > 1e-4 || math.Abs(e.Votes-w.best) > 1e-4 {
			t.Errorf("%+v, want %+v", e, w)
		}
	}
}

func TestDensity(t *testing.T) {
	const k = 4
	m, _ := clusters(15, 6, 3)
	for d := range m.Row(44) { // an outlier
		m.Row(44)[d] = -1
	}
	copy(m.Row(1), m.Row(4)) // a duplicate
	db := open(t)
	write(t, db, "a", m, nil)
	if _, err := db.DeleteRows(t.Context(), "a", []int64{0, 20}); err != nil {
		t.Fatal(err)
	}
	r, err := Density{K: k}.Run(t.Context(), snapshot(t, db, "a"), RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var live []int
	for i := range m.Rows {
		if i != 0 && i != 20 {
			live = append(live, i)
		}
	}
	near, reach := map[int][]int{}, map[int]float64{}
	d := func(i, j int) float64 { return max(0, 1-cosine(m.Row(i), m.Row(j))) }
	for _, i := range live {
		order := []int{}
		for _, j := range live {
			if i != j {
				order = append(order, j)
			}
		}
		slices.SortStableFunc(order, func(x, y int) int { return sign(d(i, x) - d(i, y)) })
		near[i] = order[:k]
	}
	for _, i := range live {
		sum := 0.0
		for _, j := range near[i] {
			sum += max(d(i, j), d(j, near[j][k-1])) / k
		}
		reach[i] = 1 / (sum + 1e-10)
	}
	outliers := int64(0)
	for x, f := range r.Found {
		i := live[x]
		var lof, density float64
		for _, j := range near[i] {
			lof += reach[j] / reach[i] / k
			density += (1 - d(i, j)) / k
		}
		if lof > 1.5 {
			outliers++
		}
		if f.Row != int64(i) || math.Abs(f.Density-density) > 1e-6 || math.Abs(f.Uniqueness-d(i, near[i][0])) > 1e-6 || math.Abs(f.Outlier-lof) > 1e-3*lof {
			t.Errorf("%+v, want row %d: density %v, uniqueness %v, factor %v", f, i, density, d(i, near[i][0]), lof)
		}
	}
	if r.Outliers != outliers || outliers == 0 || r.Rows != 43 || len(r.Found) != 43 {
		t.Errorf("%+v, want %d outliers", r, outliers)
	}
	// All equal: nothing is an outlier, and nothing unique.
	same, err := Density{}.Run(t.Context(), write(t, db, "same", repeatRow(dense(1, 4, 1), 12), nil), RunOptions{})
	if err != nil || same.Outliers != 0 || same.Uniqueness > 1e-6 || math.Abs(same.Density-1) > 1e-6 {
		t.Errorf("equal rows: %+v (%v)", same, err)
	}
	// So do rows of one direction, whose cosines are 1 or what rounds to less.
	line, err := Density{}.Run(t.Context(), write(t, db, "line", dense(100, 1, 6), nil), RunOptions{})
	if err != nil || line.Outliers != 0 {
		t.Errorf("rows of one dimension: %+v (%v)", line, err)
	}
	if _, err := (Density{}).Run(t.Context(), write(t, db, "one", dense(1, 4, 1), nil), RunOptions{}); !errors.Is(err, ErrTooFew) {
		t.Errorf("one row: %v", err)
	}
}

func TestKCentre(t *testing.T) {
	m := dense(300, 5, 21)
	clear(m.Row(8))
	copy(m.Row(9), m.Row(10))
	db := open(t)
	write(t, db, "a", m, nil)
	if _, err := db.DeleteRows(t.Context(), "a", []int64{30}); err != nil {
		t.Fatal(err)
	}
	s := snapshot(t, db, "a")
	r, err := KCentre{N: 25, Seed: 3}.Run(t.Context(), s, RunOptions{Threads: 2})
	if err != nil || r.Selected != 25 || r.Zeros != 1 {
		t.Fatalf("%+v (%v)", r, err)
	}
	distance := func(i, j int) float64 { return math.Sqrt(max(0, 2-2*cosine(m.Row(i), m.Row(j)))) }
	nearest := func(i, among int) float64 {
		least := math.Inf(1)
		for _, f := range r.Found[:among] {
			least = min(least, distance(i, int(f.Row)))
		}
		return least
	}
	farthest := func(among int) (most float64) {
		for i := range m.Rows {
			if i != 8 && i != 30 {
				most = max(most, nearest(i, among))
			}
		}
		return most
	}
	for n, f := range r.Found[1:] {
		if want := farthest(n + 1); math.Abs(nearest(int(f.Row), n+1)-want) > 1e-5 || math.Abs(f.Distance-want) > 1e-5 {
			t.Errorf("choice %d, row %d, is %v away, and the farthest row %v", n+1, f.Row, nearest(int(f.Row), n+1), want)
		}
	}
	if want := farthest(25); math.Abs(r.Radius-want) > 1e-5 {
		t.Errorf("radius %v, want %v", r.Radius, want)
	}
	again, err := KCentre{N: 25, Seed: 3}.Run(t.Context(), s, RunOptions{Threads: 1})
	if err != nil || !slices.Equal(again.Found, r.Found) {
		t.Errorf("one thread chooses other rows (%v)", err)
	}
	// More than there are: all distinct directions, once each.
	all, err := KCentre{N: 1000}.Run(t.Context(), s, RunOptions{})
	if err != nil || all.Selected != 297 || all.Radius != 0 {
		t.Errorf("all of them: %d, radius %v (%v)", all.Selected, all.Radius, err)
	}
	for name, c := range map[string]struct {
		m    simd.Matrix
		n    int
		want error
	}{"zero rows": {simd.NewMatrix(5, 3), 2, ErrTooFew}, "none": {dense(5, 3, 1), 0, ErrProtocol}} {
		if _, err := (KCentre{N: c.n}).Run(t.Context(), write(t, db, fmt.Sprint("b", c.n), c.m, nil), RunOptions{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	one, err := KCentre{N: 3}.Run(t.Context(), write(t, db, "one", repeatRow(dense(1, 3, 2), 9), nil), RunOptions{})
	if err != nil || one.Selected != 1 || one.Radius != 0 {
		t.Errorf("equal rows: %+v (%v)", one, err)
	}
}
