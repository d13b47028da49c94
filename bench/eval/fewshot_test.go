package eval

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"membank/simd"
	"membank/store"
	"membank/store/dump/dumptest"
)

func TestDraw(t *testing.T) {
	none := int64(store.NoLabel)
	labels := []int64{4, none, 4, -9, 4, 4, -9, none, 7, 4}
	classes := byClass(labels)
	seen := map[string]bool{}
	for seed := range uint64(40) {
		var last []int64
		for _, n := range []int{1, 2, 3, 100} {
			rows := draw(classes, n, seed)
			got := map[int64]int{}
			for _, row := range rows {
				got[labels[row]]++
			}
			if want := map[int64]int{4: min(n, 5), -9: min(n, 2), 7: 1}; !reflect.DeepEqual(got, want) || !slices.IsSorted(rows) {
				t.Fatalf("%d shots of seed %d: %v", n, seed, rows)
			}
			for _, row := range last {
				if !slices.Contains(rows, row) {
					t.Errorf("row %d of fewer shots is not among %d", row, n)
				}
			}
			last = rows
		}
		seen[fmt.Sprint(draw(classes, 1, seed))] = true
	}
	if len(seen) != 10 { // 5 rows of one class, 2 of another
		t.Errorf("40 seeds draw %d of 10 sets of one shot", len(seen))
	}
}

func TestFewShotAgainstOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 1))
	rows, queries := dyadic(r, 60, 16), dyadic(r, 20, 16)
	labels, truths := pick(r, 60, []int64{3, 5, store.NoLabel, 900, -2}), pick(r, 20, []int64{3, 5, 900, -2})
	db := open(t)
	train, test := set(t, write(t, db, "train", rows, labels)), set(t, write(t, db, "test", queries, truths))
	e := FewShot{KNN: KNN{K: []int{2, 4, 20}}, Shots: []int{5, 1, 2}, Tries: 3, Seed: 17}
	got, err := e.Evaluate(t.Context(), train, test, RunOptions{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	rule, _ := KNN{Preset: "dinov2"}.Protocol()
	var settings []string
	for _, at := range got.Results {
		settings = append(settings, fmt.Sprint(at.Shots, "/", at.K))
		var top1, top5, voted []float64
		for try := range 3 {
			chosen := draw(byClass(labels), at.Shots, 17+uint64(try))
			part, partLabels := simd.NewMatrix(len(chosen), 16), []int64{}
			for i, row := range chosen {
				copy(part.Row(i), rows.Row(int(row)))
				partLabels = append(partLabels, labels[row])
			}
			n := runNaive(rule, false, part, partLabels, queries, truths, at.K)
			top1 = append(top1, float64(n.top1)/20)
			top5 = append(top5, float64(n.top5)/20)
			voted = append(voted, float64(n.voted5)/20)
		}
		mean := func(x []float64) float64 { return (x[0] + x[1] + x[2]) / 3 }
		variance := 0.0
		for _, x := range top1 {
			variance += (x - mean(top1)) * (x - mean(top1)) / 2
		}
		if math.Abs(at.Top1-mean(top1)) > 1e-12 || math.Abs(at.Top5-mean(top5)) > 1e-12 || math.Abs(at.Top5Voted-mean(voted)) > 1e-12 || math.Abs(at.Top1Std-math.Sqrt(variance)) > 1e-12 {
			t.Errorf("%d shots, k=%d: %+v, want %v %v %v", at.Shots, at.K, at, top1, top5, voted)
		}
	}
	if want := []string{"1/1", "2/2", "5/2", "5/4", "5/5"}; !slices.Equal(settings, want) {
		t.Errorf("shots and neighbours %v, want %v", settings, want)
	}
	// A budget that holds no gathered rows leaves the others out of the search instead.
	masked, err := e.Evaluate(t.Context(), train, test, RunOptions{Memory: 64})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(masked.Results, got.Results) {
		t.Errorf("without gathering %+v, with %+v", masked.Results, got.Results)
	}
}

func TestFewShotLists(t *testing.T) {
	m := dumptest.Lookup(t, "moco_v2")
	db := open(t)
	train, test := set(t, write(t, db, "train", m.Train, m.TrainLabels)), set(t, write(t, db, "test", m.Test.Slice(0, 200), m.TestLabels[:200]))
	var a, b Split
	for i := range 300 {
		a.Keys, b.Keys = append(a.Keys, fmt.Sprint(i)), append(b.Keys, fmt.Sprint(1000+i))
	}
	got, err := FewShot{Lists: []Split{a, b}}.Evaluate(t.Context(), train, test, RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := make([]float64, 4)
	for _, first := range []int{0, 1000} {
		part := write(t, db, fmt.Sprint("part", first), m.Train.Slice(first, first+300), m.TrainLabels[first:first+300])
		r, _ := evaluate(t, KNN{Preset: "dinov2"}, part, test.snap, RunOptions{})
		for i, at := range r.Results {
			want[i] += at.Top1 / 2
		}
	}
	for i, at := range got.Results {
		if math.Abs(at.Top1-want[i]) > 1e-12 || at.Rows != 300 || got.Seed != nil || got.Tries != 2 {
			t.Errorf("%+v, want %v", at, want[i])
		}
	}
	for _, c := range []struct {
		e    FewShot
		want error
	}{
		{FewShot{Lists: []Split{{Keys: []string{"x"}}}}, ErrGroundTruth},
		{FewShot{Lists: []Split{{Keys: []string{"1", "1"}}}}, ErrGroundTruth},
		{FewShot{Lists: []Split{{}}}, ErrNoLabels},
		{FewShot{Lists: []Split{a}, Shots: []int{1}}, ErrProtocol},
		{FewShot{Shots: []int{0}}, ErrProtocol},
		{FewShot{Tries: -1}, ErrProtocol},
		{FewShot{KNN: KNN{LeaveOneOut: true}}, ErrProtocol},
		{FewShot{KNN: KNN{Preset: "x"}}, ErrProtocol},
	} {
		if _, err := c.e.Evaluate(t.Context(), train, test, RunOptions{}); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c.e, err)
		}
	}
	bare := set(t, write(t, db, "bare", m.Train.Slice(0, 5), nil))
	if _, err := (FewShot{}).Evaluate(t.Context(), bare, test, RunOptions{}); !errors.Is(err, ErrNoLabels) {
		t.Error(err)
	}
	if _, err := (FewShot{}).Evaluate(t.Context(), train, bare, RunOptions{}); !errors.Is(err, ErrNoLabels) {
		t.Error(err)
	}
	// Every labelled row votes in PAWS, whatever the shots.
	paws, err := FewShot{KNN: KNN{Preset: "paws"}, Shots: []int{3}, Tries: 1}.Evaluate(t.Context(), train, test, RunOptions{})
	if err != nil || len(paws.Results) != 1 || paws.Results[0].Effective != 30 {
		t.Errorf("%+v %v", paws, err)
	}
}
