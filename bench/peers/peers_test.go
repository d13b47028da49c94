package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// small is a comparison of a second or two.
func small(t *testing.T) Options {
	return Options{Dir: t.TempDir(), Sets: []string{"ssl"}, Rows: 2000, Dim: 32, Queries: 40, Singles: 2, K: []int{5},
		Threads: 2, Rounds: 2, Truth: 10, Budget: 100 * time.Millisecond, Peers: []string{}, Offline: true}
}

// missingNames are Report.Missing's names.
func missingNames(r *Report) (names []string) {
	for _, m := range r.Missing {
		names = append(names, m.Name)
	}
	return names
}

func TestMembankAloneIsExactOnBothSets(t *testing.T) {
	o := small(t)
	o.Sets, o.K = SetNames, []int{1, 5, 3000}
	report, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Sets) != 2 || len(report.Missing) != 0 {
		t.Fatalf("%d sets, missing %v", len(report.Sets), report.Missing)
	}
	for _, s := range report.Sets {
		if s.Different != 0 || s.Rows != o.Rows || s.Queries != o.Queries {
			t.Errorf("set %s: %+v", s.Set, s)
		}
		if len(s.Results) != 2*2*len(o.K) {
			t.Errorf("set %s: %d results of two paths in %d contests", s.Set, len(s.Results), 2*len(o.K))
		}
		if s.PeakBest <= 0 || s.PeakMedian > s.PeakBest {
			t.Errorf("set %s: peaks %v, %v", s.Set, s.PeakBest, s.PeakMedian)
		}
		for _, r := range s.Results {
			if !r.Ours || r.Ratio < 1 || r.Rounds != o.Rounds || r.Best < r.Median || r.Median <= 0 {
				t.Errorf("set %s: %+v", s.Set, r)
			}
			if r.Mode == Batch && (*r.Recall != 1 || r.RecallQueries != o.Truth || r.Queries != o.Queries) {
				t.Errorf("set %s, k=%d: recall %v over %d of %d queries", s.Set, r.K, *r.Recall, r.RecallQueries, r.Queries)
			}
		}
	}
	left, err := os.ReadDir(o.Dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestReportPrints(t *testing.T) {
	report, err := Run(context.Background(), small(t))
	if err != nil {
		t.Fatal(err)
	}
	report.Missing = append(report.Missing, Missing{"torch", "no Python", "pip install torch"})
	var plain, markdown bytes.Buffer
	if err := errors.Join(report.Write(&plain), report.WriteMarkdown(&markdown)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2,000 × 32", "batch of 40 queries, k = 5", "one query at a time", "1.00×",
		"not found: torch: no Python (pip install torch)"} {
		if !strings.Contains(plain.String(), want) {
			t.Errorf("no %q in\n%s", want, &plain)
		}
	}
	if !strings.Contains(markdown.String(), "| membank |") {
		t.Errorf("no table in\n%s", &markdown)
	}
	data, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var again Report
	if err := json.Unmarshal(data, &again); err != nil || *again.Sets[0].Results[0].Recall != 1 {
		t.Errorf("from JSON %+v, %v", again, err)
	}
	paths, err := report.WritePlots(t.TempDir())
	if err != nil || len(paths) != 2 || filepath.Base(paths[0]) != "ssl-batch-k5.svg" {
		t.Fatalf("plots %v, %v", paths, err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(text, []byte("membank exact")) {
			t.Errorf("%s does not name membank (%v)", path, err)
		}
		for d := xml.NewDecoder(bytes.NewReader(text)); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
		}
	}
}

func TestUnknownNamesAreRefused(t *testing.T) {
	o := small(t)
	o.Peers = []string{"annoy"}
	if _, err := Run(context.Background(), o); err == nil || !strings.Contains(err.Error(), `"annoy"`) {
		t.Errorf("peer: %v", err)
	}
	o = small(t)
	o.Sets = []string{"glove"}
	if _, err := Run(context.Background(), o); err == nil || !strings.Contains(err.Error(), `"glove"`) {
		t.Errorf("set: %v", err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Run(ctx, small(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("err %v", err)
	}
}

// A peer that is not there is named with what would provide it.
func TestMissingPeersSayHowToGetThem(t *testing.T) {
	t.Setenv("MEMBANK_FAISS_DRIVER", filepath.Join(t.TempDir(), "nothing"))
	t.Setenv("MEMBANK_PYTHON", filepath.Join(t.TempDir(), "nothing"))
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	o := small(t)
	o.Peers = []string{"faiss", "faiss-python", "numpy", "torch", "hnsw"}
	report, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if got := missingNames(report); len(got) != len(o.Peers) {
		t.Errorf("missing %v", got)
	}
	for _, m := range report.Missing {
		if m.Reason == "" || m.Remedy == "" {
			t.Errorf("%+v", m)
		}
	}
}

// The Go libraries are a module of their own: they take part where it builds from
// what the machine has.
func TestGoPeers(t *testing.T) {
	cache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Skipf("no Go: %v", err)
	}
	t.Setenv("GOCACHE", strings.TrimSpace(string(cache))) // it lies in the other one by default
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	o := small(t)
	o.Peers, o.Graphs = []string{"chromem", "hnsw"}, true
	report, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Missing) > 0 {
		t.Skipf("not at hand: %v", report.Missing)
	}
	for _, r := range report.Sets[0].Results {
		if r.Name == "chromem-go" && r.Mode == Batch && *r.Recall != 1 {
			t.Errorf("chromem is exact, yet its recall is %v", *r.Recall)
		}
		if r.Name == "hnsw" && r.Mode == Batch && (*r.Recall <= 0 || r.Exact) {
			t.Errorf("%+v", r)
		}
	}
}
