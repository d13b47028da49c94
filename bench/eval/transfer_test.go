package eval

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// A rank is one more than the number of larger values, and half the number of others
// that are equal.
func TestMeanRanks(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 12 {
		values := make([]float64, n)
		for i := range values {
			values[i] = float64(rng.IntN(5)) / 7
		}
		for i, got := range meanRanks(values) {
			want := 0.5
			for _, v := range values {
				if v > values[i] {
					want++
				} else if v == values[i] {
					want += 0.5
				}
			}
			if got != want {
				t.Errorf("%v: %d has rank %v, want %v", values, i, got, want)
			}
		}
	}
	if r := meanRanks([]float64{0.1 + 0.2, 0.3, 0.4}); r[0] != 2.5 || r[1] != 2.5 || r[2] != 1 {
		t.Errorf("equal but for rounding: %v", r)
	}
}

// cellOf is a cell with the two figures of retrieval.
func cellOf(model, dataset string, value float64) *TransferCell {
	c := &TransferCell{Model: model, Dataset: dataset}
	c.Figures.add("model", model, "")
	c.Figures.add("dataset", dataset, "")
	c.Figures.number("map_full", value, "")
	c.Figures.number("R@1", 1-value, "")
	return c
}

func retrievalOnly() Transfer { return Transfer{Only: []string{"retrieval"}} }

// Values worked out by hand. On x: a 0.5, b 0.4, c 0.4, d 0.1; on y: 0.6, 0.7, 0.3, 0.2.
// Ranks 1, 2.5, 2.5, 4 and 2, 1, 3, 4; Spearman 3/√(4.5·5). Deviations from the means 0.35
// and 0.45 give Pearson 0.09/√(0.09·0.17).
func TestTransferTable(t *testing.T) {
	e := retrievalOnly()
	var cells []*TransferCell
	for i, v := range [][2]float64{{0.5, 0.6}, {0.4, 0.7}, {0.4, 0.3}, {0.1, 0.2}} {
		model := string(rune('a' + i))
		cells = append(cells, cellOf(model, "x", v[0]), cellOf(model, "y", v[1]))
	}
	cells = append(cells, cellOf("a", "z", 0.9), e.Without("b", "z", "nobody ingested it"), e.Without("e", "x", "no labels"))
	r, err := e.Table(cells)
	if err != nil {
		t.Fatal(err)
	}
	at := func(list []Figures, name string, keys ...string) float64 {
		t.Helper()
	next:
		for _, f := range list {
			for i := 0; i < len(keys); i += 2 {
				found := false
				for _, one := range f {
					found = found || one.Name == keys[i] && one.Value == keys[i+1]
				}
				if !found {
					continue next
				}
			}
			v, ok := f.Lookup(name)
			if !ok {
				v = math.NaN()
			}
			return v
		}
		t.Fatalf("no %v in %v", keys, list)
		return 0
	}
	same := func(what string, got, want float64) {
		t.Helper()
		if math.IsNaN(want) != math.IsNaN(got) || math.Abs(got-want) > 1e-12 {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	none := math.NaN()
	for model, want := range map[string][4]float64{ // rank on x, on y, mean, mean rank
		"a": {1, 2, 0.55, 1.5}, "b": {2.5, 1, 0.55, 1.75}, "c": {2.5, 3, 0.35, 2.75}, "d": {4, 4, 0.15, 4}, "e": {none, none, none, none},
	} {
		same(model+" on x", at(r.Results, "map_full_rank", "model", model, "dataset", "x"), want[0])
		same(model+" on y", at(r.Results, "map_full_rank", "model", model, "dataset", "y"), want[1])
		same("mean of "+model, at(r.Means, "mean", "figure", "map_full", "model", model), want[2])
		same("mean rank of "+model, at(r.Means, "mean_rank", "figure", "map_full", "model", model), want[3])
	}
	same("spearman", at(r.Correlations, "spearman", "figure", "map_full", "dataset_a", "x", "dataset_b", "y"), 3/math.Sqrt(4.5*5))
	same("pearson", at(r.Correlations, "pearson", "figure", "R@1", "dataset_a", "x", "dataset_b", "y"), 0.09/math.Sqrt(0.09*0.17))
	same("spearman of one model", at(r.Correlations, "spearman", "dataset_a", "x", "dataset_b", "z"), none)
	if len(r.Results) != 15 || len(r.Means) != 10 || len(r.Correlations) != 6 {
		t.Errorf("%d cells, %d means, %d correlations", len(r.Results), len(r.Means), len(r.Correlations))
	}
	if len(r.Missing) != 6 { // b, c, d, e on z; e on x and y
		t.Errorf("%+v", r.Missing)
	}
	if _, err := e.Table(append(cells, cellOf("a", "x", 1))); !errors.Is(err, ErrProtocol) {
		t.Error(err)
	}
	if _, err := e.Table([]*TransferCell{e.Without("a", "x", "nothing")}); !errors.Is(err, ErrTransfer) || !strings.Contains(err.Error(), "nothing") {
		t.Error(err)
	}
	if _, err := e.Table(nil); !errors.Is(err, ErrTransfer) {
		t.Error(err)
	}
	// A model that has other rows than the first is told.
	small, large := cellOf("a", "x", 0.5), cellOf("b", "x", 0.5)
	for c, rows := range map[*TransferCell]int64{small: 10, large: 20} {
		for _, name := range []string{"train_rows", "test_rows", "classes"} {
			c.Figures.add(name, rows, "")
		}
	}
	if r, err = e.Table([]*TransferCell{small, large}); err != nil || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "a has 10 train rows") {
		t.Errorf("%+v %v", r, err)
	}
	if r, err = e.Table([]*TransferCell{small, cellOf("b", "x", 0.5)}); err != nil || len(r.Notes) != 0 {
		t.Errorf("%+v %v", r, err)
	}
	// Models that are all equal have no correlation.
	var flat []*TransferCell
	for i := range 3 {
		m := string(rune('a' + i))
		flat = append(flat, cellOf(m, "x", 0.5), cellOf(m, "y", float64(i)/4))
	}
	if r, err = e.Table(flat); err != nil || !strings.Contains(r.Correlations[0][4].Missing, "equal on x") {
		t.Errorf("%v %v", r, err)
	}
}

// A cell's figures are those of the evaluators alone.
func TestTransferCell(t *testing.T) {
	db := open(t)
	labels := func(n, classes, first int) []int64 {
		l := make([]int64, n)
		for i := range l {
			l[i] = int64(first + i%classes)
		}
		return l
	}
	train := set(t, write(t, db, "train", dense(90, 6, 1), labels(90, 3, 0)))
	test := set(t, write(t, db, "test", dense(40, 6, 2), labels(40, 3, 0)))
	e := Transfer{Shots: []int{2, 12}, Tries: 3, Seed: 4}
	o := RunOptions{Threads: 2}
	c, err := e.Cell(t.Context(), "m", "d", train, test, o)
	if err != nil {
		t.Fatal(err)
	}
	knn, err := KNN{K: []int{20}}.EvaluateSets(t.Context(), train, test, o)
	if err != nil {
		t.Fatal(err)
	}
	few, err := FewShot{Shots: []int{2, 12}, Tries: 3, Seed: 4}.Evaluate(t.Context(), train, test, o)
	if err != nil {
		t.Fatal(err)
	}
	ranks, err := Retrieval{}.Evaluate(t.Context(), test, train, o)
	if err != nil {
		t.Fatal(err)
	}
	mean, _ := ranks.Results[0].Lookup("map_full")
	recall, _ := ranks.Results[0].Lookup("R@1")
	if few.Results[0].K != 2 || few.Results[2].K != 12 {
		t.Fatalf("%+v", few.Results)
	}
	for name, want := range map[string]float64{
		"knn_top1": knn.Results[0].Top1, "fewshot_2_top1": few.Results[0].Top1, "fewshot_12_top1": few.Results[2].Top1,
		"fewshot_12_top1_std": few.Results[2].Top1Std, "fewshot_12_k": 12, "map_full": mean, "R@1": recall,
		"train_rows": 90, "test_rows": 40, "classes": 3,
	} {
		if got, ok := c.Figures.Lookup(name); !ok || got != want || want == 0 {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}

	strange := set(t, write(t, db, "strange", dense(8, 6, 3), labels(8, 2, 7)))
	bare := set(t, write(t, db, "bare", dense(8, 6, 3), nil))
	narrow := set(t, write(t, db, "narrow", dense(8, 5, 3), labels(8, 3, 0)))
	for name, sides := range map[string][2]*Set{
		"no class": {train, strange}, `no labelled rows in bank "bare"`: {bare, test}, "no labelled rows": {train, bare}, "dim": {train, narrow},
	} {
		c, err := e.Cell(t.Context(), "m", "d", sides[0], sides[1], o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		missing := 0
		for _, f := range c.Figures {
			if f.Value == nil && strings.Contains(f.Missing, name) {
				missing++
			}
		}
		if missing != len(e.Ranked()) {
			t.Errorf("%s: %d figures are missing of %v: %+v", name, missing, e.Ranked(), c.Figures)
		}
	}
	one := set(t, write(t, db, "one", dense(1, 6, 3), labels(1, 1, 0)))
	if c, err := e.Cell(t.Context(), "m", "d", one, one, o); err != nil {
		t.Error(err)
	} else if v, ok := c.Figures.Lookup("map_full"); ok {
		t.Errorf("a row of the only class, that finds itself: %v", v)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if _, err := e.Cell(stopped, "m", "d", train, test, o); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
	for name, e := range map[string]Transfer{
		"two k": {Rule: KNN{K: []int{1, 2}}}, "leave-one-out": {Rule: KNN{LeaveOneOut: true}}, "part": {Only: []string{"x"}},
		"shots": {Shots: []int{0}}, "tries": {Tries: -1}, "preset": {Rule: KNN{Preset: "x"}},
	} {
		if _, err := e.Cell(t.Context(), "m", "d", train, test, o); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
