package eval

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"membank/simd"
	"membank/store"
)

// Two classes on a line; the queries lie on their rows.
func TestJSONIsTheContract(t *testing.T) {
	db := open(t)
	train := write(t, db, "train", matrix(2, 1, 0, 2, 0, 0, 1, 0, 3), []int64{0, 0, 1, 1})
	test := write(t, db, "test", matrix(2, 5, 1, 1, 5, 1, 6), []int64{0, 1, 0})
	result, err := KNN{K: []int{3, 1}}.Evaluate(t.Context(), train, test, RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(result)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"protocol": "dino (k=1,3)", "train_rows": 4.0, "test_rows": 3.0, "dim": 2.0, "classes": 2.0,
		"exact": true, "recall": 1.0, "self_excluded": false, "labels_matched_by": "number",
	} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	if s, ok := got["seconds"].(float64); !ok || s <= 0 {
		t.Errorf("seconds is %v", got["seconds"])
	}
	results := got["results"].([]any)
	if len(results) != 2 {
		t.Fatalf("%d results, want 2", len(results))
	}
	for i, k := range []float64{1, 3} {
		r := results[i].(map[string]any)
		for key, want := range map[string]any{"k": k, "effective_k": k, "T": 0.07, "top1": 2.0 / 3, "correct1": 2.0, "mean_per_class": 0.75} {
			if r[key] != want {
				t.Errorf("k=%v: %s is %v, want %v", k, key, r[key], want)
			}
		}
		for _, key := range []string{"top5", "top5_voted"} {
			if _, ok := r[key].(float64); !ok {
				t.Errorf("k=%v: %s is %v", k, key, r[key])
			}
		}
	}
	// With one neighbour one class counts, with three both do.
	if r := result.Results; r[0].Top5 != 2.0/3 || r[1].Top5 != 1 || r[1].Top5Voted != 1 {
		t.Errorf("top5 is %v and %v, voted %v; want 2/3, 1, 1", r[0].Top5, r[1].Top5, r[1].Top5Voted)
	}
	if result.Train.Bank != "train" || result.Test.Generation == 0 || result.Train.DType != "f32" || result.Test.Rows != 3 {
		t.Errorf("banks are recorded as %+v, %+v", result.Train, result.Test)
	}
}

func TestTIsNullWithoutATemperature(t *testing.T) {
	db := open(t)
	train := write(t, db, "train", matrix(1, 1, 2), []int64{0, 1})
	result, _ := evaluate(t, KNN{Preset: "solo-l2"}, train, train, RunOptions{})
	text, err := json.Marshal(result.Results[0])
	if err != nil || !strings.Contains(string(text), `"T":null`) {
		t.Errorf("%s, %v", text, err)
	}
	if r := result.Results[0]; r.K != 20 || r.EffectiveK != 2 {
		t.Errorf("k is %d, effective %d, want 20 and 2", r.K, r.EffectiveK)
	}
	// Asked against itself, the bank is right about every row, and says why.
	if !slices.ContainsFunc(result.Notes, func(s string) bool { return strings.Contains(s, "vote on themselves") }) {
		t.Errorf("notes are %q", result.Notes)
	}
}

// Two banks may number the same names differently.
func TestClassesAreMatchedByName(t *testing.T) {
	db := open(t)
	train := write(t, db, "train", matrix(2, 1, 0, 0, 1, 1, 1), []int64{0, 1, 2}, "cat", "dog", "owl")
	test := write(t, db, "test", matrix(2, 2, 0, 0, 2, 3, 3, 1, 0), []int64{2, 1, 0, 3}, "owl", "dog", "cat", "yak")
	result, predictions := evaluate(t, KNN{Preset: "msf-1", PerClass: true}, train, test, RunOptions{})
	if result.LabelsMatchedBy != "name" || result.Results[0].Correct1 != 3 || result.UnseenQueries != 1 || result.UnseenClasses != 1 {
		t.Errorf("got %+v", result)
	}
	if p := predictions[0]; p.Label != 2 || p.Class != 0 || !p.Right {
		t.Errorf("the cat is %+v", p)
	}
	want := []ClassAccuracy{
		{Label: 0, Name: "cat", Queries: 1, Top1: 1, Top5: 1, Correct1: 1, Correct5: 1, Taken: map[int64]int64{0: 1}},
		{Label: 1, Name: "dog", Queries: 1, Top1: 1, Top5: 1, Correct1: 1, Correct5: 1, Taken: map[int64]int64{1: 1}},
		{Label: 2, Name: "owl", Queries: 1, Top1: 1, Top5: 1, Correct1: 1, Correct5: 1, Taken: map[int64]int64{2: 1}},
		{Label: 3, Name: "yak", Unseen: true, Queries: 1, Taken: map[int64]int64{0: 1}}, // it points where the cat does
	}
	if got := result.Results[0].PerClass; !reflect.DeepEqual(got, want) {
		t.Errorf("per class %+v, want %+v", got, want)
	}
	if result.Results[0].MeanPerClass != 0.75 {
		t.Errorf("mean per class %v, want 3/4: the unseen class counts", result.Results[0].MeanPerClass)
	}
	// Without names on one side numbers decide, and owl and cat change places.
	numbers := write(t, db, "numbers", matrix(2, 2, 0, 0, 2, 3, 3), []int64{2, 1, 0})
	if result, _ = evaluate(t, KNN{Preset: "msf-1"}, train, numbers, RunOptions{}); result.LabelsMatchedBy != "number" || result.Results[0].Correct1 != 1 {
		t.Errorf("got %+v", result)
	}
}

// Numbers appended to a bank of names are classes without a name: they match
// each other by number, and never a class that has a name.
func TestClassesWithoutAName(t *testing.T) {
	db := open(t)
	more := store.WriterOptions{Mode: store.Append}
	write(t, db, "train", matrix(2, 1, 0, 0, 1), []int64{0, 1}, "cat", "dog")
	train := writeAs(t, db, "train", matrix(2, 1, 1), []int64{7}, more)
	write(t, db, "test", matrix(2, 2, 0), []int64{0}, "cat")
	test := writeAs(t, db, "test", matrix(2, 0, 2, 3, 3), []int64{1, 7}, more)
	result, predictions := evaluate(t, KNN{Preset: "msf-1"}, train, test, RunOptions{})
	for i, right := range []bool{true, false, true} {
		if predictions[i].Right != right {
			t.Errorf("got %+v", predictions[i])
		}
	}
	if result.UnseenQueries != 1 {
		t.Errorf("%d unseen queries, want 1: a class 1 without a name is not the dog", result.UnseenQueries)
	}
}

// With an exact duplicate the first neighbour need not be the row itself, and
// with inner products the longest row is everybody's first neighbour.
func TestLeaveOneOutLeavesOutTheRow(t *testing.T) {
	db := open(t)
	bank := write(t, db, "bank", matrix(2, 1, 0, 1, 0, 0, 1, 0, 9), []int64{7, 8, 5, 5})
	for _, c := range []struct {
		e    KNN
		want []int64
	}{
		{KNN{Preset: "msf-1", LeaveOneOut: true}, []int64{8, 7, 5, 5}},
		{KNN{Preset: "msf-1", Metric: Dot, LeaveOneOut: true}, []int64{8, 7, 5, 5}},
		{KNN{Preset: "msf-1"}, []int64{7, 7, 5, 5}},
	} {
		result, predictions := evaluate(t, c.e, bank, bank, RunOptions{})
		for i, p := range predictions {
			if p.Class != c.want[i] {
				t.Errorf("%s: row %d is %d, want %d", result.Protocol, i, p.Class, c.want[i])
			}
		}
		if result.SelfExcluded != c.e.LeaveOneOut {
			t.Errorf("%s: self excluded is %v", result.Protocol, result.SelfExcluded)
		}
	}
}

// Raw features of the usual size overflow the original's exp.
func TestVisslReportsOverflow(t *testing.T) {
	db := open(t)
	train := write(t, db, "train", matrix(2, 30, 0, 29, 1, 0, 30, 0.1, 0.1), []int64{0, 1, 2, 3})
	test := write(t, db, "test", matrix(2, 20, 20, 0.1, 0.1, 20, 0), []int64{0, 3, 0})
	result, _ := evaluate(t, KNN{Preset: "vissl", K: []int{1, 200}}, train, test, RunOptions{})
	if result.OverflowQueries != 2 {
		t.Errorf("%d queries overflow, want 2", result.OverflowQueries)
	}
	if len(result.Notes) == 0 || !strings.Contains(result.Notes[0], "overflows for 2 of 3") {
		t.Errorf("notes are %q", result.Notes)
	}
	if result, _ = evaluate(t, KNN{Preset: "vissl", Normalise: On}, train, test, RunOptions{}); result.OverflowQueries != 0 {
		t.Errorf("of unit rows %d queries overflow", result.OverflowQueries)
	}
}

// A zero query has cosine 0 with every row: the smallest rows vote.
func TestZeroQuery(t *testing.T) {
	db := open(t)
	train := write(t, db, "train", matrix(2, -1, 0, 1, 0, 0, 1), []int64{4, 3, 3})
	test := write(t, db, "test", matrix(2, 0, 0), []int64{4})
	if _, p := evaluate(t, KNN{K: []int{1}}, train, test, RunOptions{}); !p[0].Right || p[0].Gap != 0 {
		t.Errorf("got %+v", p[0])
	}
}

func TestDeletedRowsNeitherVoteNorAsk(t *testing.T) {
	db := open(t)
	write(t, db, "train", matrix(1, 1, 1, 1, 1, -1), []int64{1, 2, 2, 9, 3})
	write(t, db, "test", matrix(1, 1, 1), []int64{2, 1})
	for bank, rows := range map[string][]int64{"train": {0, 3}, "test": {1}} {
		if _, err := db.DeleteRows(t.Context(), bank, rows); err != nil {
			t.Fatal(err)
		}
	}
	result, _ := evaluate(t, KNN{K: []int{1}}, snapshot(t, db, "train"), snapshot(t, db, "test"), RunOptions{})
	if result.TrainRows != 3 || result.Classes != 2 || result.TestRows != 1 || result.TrainUnlabelled != 0 || result.Results[0].Correct1 != 1 {
		t.Errorf("got %+v", result)
	}
	result, _ = evaluate(t, KNN{LeaveOneOut: true}, snapshot(t, db, "train"), nil, RunOptions{})
	if result.TestRows != 3 || result.Results[0].EffectiveK != 2 {
		t.Errorf("leave-one-out: %+v", result)
	}
}

func TestEvaluateRefuses(t *testing.T) {
	db := open(t)
	two := write(t, db, "two", matrix(2, 1, 0, 0, 1), []int64{0, 1})
	three := write(t, db, "three", matrix(3, 1, 0, 0), []int64{0})
	bare := write(t, db, "bare", matrix(2, 1, 0), nil)
	for _, c := range []struct {
		name        string
		e           KNN
		train, test *store.Snapshot
		want        error
		names       []string
	}{
		{"dimensions", KNN{}, two, three, store.ErrDim, []string{"two", "three"}},
		{"gallery without labels", KNN{}, bare, two, ErrNoLabels, []string{"bare", "vote"}},
		{"queries without labels", KNN{}, two, bare, ErrNoLabels, []string{"bare", "ask"}},
		{"leave-one-out of two banks", KNN{LeaveOneOut: true}, two, three, ErrLeaveOneOut, []string{"two", "three"}},
		{"leave-one-out of one row", KNN{LeaveOneOut: true}, three, nil, ErrTooFew, []string{"three", "two"}},
		{"preset", KNN{Preset: "knn"}, two, two, ErrProtocol, []string{"knn", "dino"}},
	} {
		_, err := c.e.Evaluate(t.Context(), c.train, c.test, RunOptions{})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
			continue
		}
		for _, name := range c.names {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v does not name %q", c.name, err, name)
			}
		}
	}
}

func TestProgressAndCancel(t *testing.T) {
	db := open(t)
	const queries = 500
	m, labels := simd.NewMatrix(queries, 8), make([]int64, queries)
	for i := range labels {
		m.Row(i)[i%8], labels[i] = 1, int64(i%8)
	}
	labels[3] = store.NoLabel
	bank := write(t, db, "bank", m, labels)
	last := int64(-1)
	o := RunOptions{Memory: 64 << 10, Progress: func(done, total int64) {
		if total != queries || done < last || done > total {
			t.Errorf("progress %d of %d after %d", done, total, last)
		}
		last = done
	}}
	if _, err := (KNN{}).Evaluate(t.Context(), bank, bank, o); err != nil || last != queries {
		t.Errorf("ended at %d of %d: %v", last, queries, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	o.Progress = func(done, _ int64) {
		if done > 0 {
			cancel()
		}
	}
	if _, err := (KNN{}).Evaluate(ctx, bank, bank, o); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancel: %v", err)
	}
}

// A batch fits the budget, however many neighbours are kept, and is never empty.
func TestBatchSize(t *testing.T) {
	r := run{voters: math.MaxInt32, total: 1 << 40, ks: []int{200}, rule: Protocol{K: []int{200}}, options: RunOptions{Memory: 256 << 20}, result: &KNNResult{Dim: 2048}}
	if n := r.batchSize(); n < 1000 || n%simd.TileQueries != 0 {
		t.Errorf("%d queries of 2048 dimensions at k=200 in 256 MiB", n)
	}
	r.ks = []int{1_280_000}
	if n := r.batchSize(); n != 2 {
		t.Errorf("%d queries with all of 1.28 M neighbours in 256 MiB", n)
	}
	r.options.Memory = 1
	if n := r.batchSize(); n != 1 {
		t.Errorf("%d queries in no memory", n)
	}
}
