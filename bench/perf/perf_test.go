package perf

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"membank/simd"
)

// sound checks what every figure promises, and that those named are among them and
// have a limit.
func sound(t *testing.T, figures []Figure, limited ...string) {
	t.Helper()
	for _, f := range figures {
		if f.Name == "" || f.Unit == "" || f.Value < 0 {
			t.Errorf("%+v", f)
		}
		if f.Limit != 0 && f.OfPeak != f.Value/f.Limit {
			t.Errorf("%s: %v of %v is not %v", f.Name, f.Value, f.Limit, f.OfPeak)
		}
	}
	for _, want := range limited {
		found := false
		for _, f := range figures {
			found = found || strings.HasPrefix(f.Name, want) && f.Limit > 0 && f.Value > 0
		}
		if !found {
			t.Errorf("no figure %q with a limit among %+v", want, figures)
		}
	}
}

// nothingLeft gives a directory that must be empty at the end.
func nothingLeft(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
	return dir
}

func TestKernels(t *testing.T) {
	before := simd.Active()
	figures, err := Kernels(context.Background(), KernelOptions{Dim: 40, Threads: []int{1, 2}, Rounds: 1, Time: time.Millisecond, Bytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for _, level := range simd.Levels() {
		sound(t, figures, "tile "+string(level)+" 1 thread", "tile "+string(level)+" 2 threads", "scan "+string(level)+" 1 thread",
			"code scan, 32 dims, "+string(level)+" 2 threads", "code scan, 128 dims, "+string(level)+" 1 thread", "code dots, 256 dims, every 5th row, "+string(level)+" 1 thread")
	}
	if simd.Active() != before {
		t.Errorf("the level is %s afterwards, was %s", simd.Active(), before)
	}
}

func TestSearch(t *testing.T) {
	var stages []string
	figures, err := Search(context.Background(), SearchOptions{
		Dir: nothingLeft(t), Rows: 17000, Dim: 64, Rank: 16, Queries: 20, Single: 2, K: []int{5, 50}, Threads: 2, Rounds: 2, Time: time.Millisecond,
		Progress: func(stage string, done, total int64) {
			stages = append(stages, stage)
			if done < 0 || done > total {
				t.Errorf("%s: %d of %d", stage, done, total)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	sound(t, figures, "batch of 20 queries, k=5, fp32", "batch of 20 queries, k=50, codes", "one query, k=5, fp32", "one query, k=5, codes")
	for _, name := range []string{"learning the basis", "  pairs that pass the first stage", "  codes over fp32"} {
		if !slices.ContainsFunc(figures, func(f Figure) bool { return strings.HasPrefix(f.Name, name) && f.Value > 0 }) {
			t.Errorf("no %q among %+v", name, figures)
		}
	}
	if len(stages) == 0 || stages[len(stages)-1] != "measuring" {
		t.Errorf("stages %q", stages)
	}
}

func TestIngest(t *testing.T) {
	figures, err := Ingest(context.Background(), IngestOptions{Dir: nothingLeft(t), Rows: 17000, Dim: 64, Rounds: 2})
	if err != nil {
		t.Fatal(err)
	}
	sound(t, figures, "ingest of a .npy until it is durable", "ingest, until its codes", "ingest and codes, with making")
}

func TestKMeans(t *testing.T) {
	figures, err := KMeans(context.Background(), KMeansOptions{Dir: nothingLeft(t), Rows: 3000, Dim: 64, Clusters: 20, Iterations: 2, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	sound(t, figures, "k-means iteration, fp32", "k-means iteration, codes", "k-means iteration, codes, from k-means++")
	if _, err := KMeans(context.Background(), KMeansOptions{Dir: nothingLeft(t), Rows: 30, Dim: 4, Clusters: 31}); err == nil {
		t.Error("31 clusters of 30 rows are no error")
	}
}

func TestEvaluate(t *testing.T) {
	figures, err := Evaluate(context.Background(), EvaluateOptions{
		Dir: nothingLeft(t), Bytes: 5 << 20, Dim: 64, Queries: 100, Classes: 10, K: []int{5}, Memory: 256 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	sound(t, figures, "kNN evaluation")
	if runtime.GOOS == "linux" {
		sound(t, figures, "resident memory of ingest", "resident memory of building codes", "resident memory of evaluation")
	}
	last := figures[len(figures)-1]
	if last.Name != "top-1 at k=5" || last.Value < 0.3 || last.Value > 1 {
		t.Errorf("%+v, and chance is 0.1", last)
	}
}

// Codes change the time of an evaluation and none of its figures.
func TestEvaluateWithoutCodes(t *testing.T) {
	accuracies := func(noCodes bool) (list []Figure) {
		figures, err := Evaluate(context.Background(), EvaluateOptions{
			Dir: nothingLeft(t), Rows: 17000, Dim: 64, Queries: 100, Classes: 10, K: []int{5, 20}, Memory: 256 << 20, NoCodes: noCodes,
		})
		if err != nil {
			t.Fatal(err)
		}
		coded := slices.ContainsFunc(figures, func(f Figure) bool { return f.Name == "learning the basis of the codes" })
		if coded == noCodes {
			t.Errorf("NoCodes is %v, and there are codes: %v", noCodes, coded)
		}
		for _, f := range figures {
			if strings.HasPrefix(f.Name, "top-1") {
				list = append(list, f)
			}
		}
		return list
	}
	if with, without := accuracies(false), accuracies(true); len(with) != 2 || !slices.Equal(with, without) {
		t.Errorf("with codes %+v, without %+v", with, without)
	}
}

func TestBenchmarksStop(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	dir := nothingLeft(t)
	_, kernels := Kernels(ctx, KernelOptions{Dim: 8, Bytes: 1 << 16})
	_, search := Search(ctx, SearchOptions{Dir: dir, Rows: 1000, Dim: 8})
	_, ingest := Ingest(ctx, IngestOptions{Dir: dir, Rows: 1000, Dim: 8})
	_, evaluate := Evaluate(ctx, EvaluateOptions{Dir: dir, Bytes: 1 << 16, Dim: 8})
	for i, err := range []error{kernels, search, ingest, evaluate} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("benchmark %d: %v", i, err)
		}
	}
}

func TestFigureJSON(t *testing.T) {
	text, err := json.Marshal([]Figure{{Name: "a", Value: 2, Unit: "GB/s", Limit: 4, OfPeak: 0.5}, {Name: "b", Value: 1, Unit: "ms"}})
	want := `[{"name":"a","value":2,"unit":"GB/s","limit":4,"of_peak":0.5},{"name":"b","value":1,"unit":"ms","limit":null,"of_peak":null}]`
	if err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
}

func TestResidency(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("known on Linux only")
	}
	before := resident()
	stop := watchResidency()
	b := pages(64 << 20)
	peak := stop()
	if grown := peak.anonymous - before.anonymous; !peak.known || grown < 32<<20 {
		t.Errorf("64 MiB more, and the peak grew by %d bytes", grown)
	}
	runtime.KeepAlive(b)
}
