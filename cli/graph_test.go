package cli

import (
	"archive/zip"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"membank/index"
	"membank/simd"
	"membank/store/dump/dumptest"
)

// csr is a sparse matrix as scipy.sparse.load_npz would read it.
type csr struct {
	indptr  []int64
	indices []int32
	data    []float32
	shape   []int64
	format  string
}

// mustReadCSR reads the arrays with nothing but the zip and .npy formats.
func mustReadCSR(t *testing.T, path string) (m csr) {
	t.Helper()
	z, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	array := func(name, descr string) []byte {
		f, err := z.Open(name + ".npy")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b, err := io.ReadAll(f) // which compares the checksum
		if err != nil {
			t.Fatal(err)
		}
		head := 10 + int(binary.LittleEndian.Uint16(b[8:]))
		if !strings.Contains(string(b[:head]), "'descr': '"+descr+"'") {
			t.Fatalf("%s: %q, want %s", name, b[:head], descr)
		}
		return b[head:]
	}
	decode := func(b []byte, to any) {
		if _, err := binary.Decode(b, binary.LittleEndian, to); err != nil {
			t.Fatal(err)
		}
	}
	b := array("indptr", "<i8")
	m.indptr = make([]int64, len(b)/8)
	decode(b, m.indptr)
	b = array("indices", "<i4")
	m.indices = make([]int32, len(b)/4)
	decode(b, m.indices)
	b = array("data", "<f4")
	m.data = make([]float32, len(b)/4)
	decode(b, m.data)
	b = array("shape", "<i8")
	m.shape = make([]int64, len(b)/8)
	decode(b, m.shape)
	m.format = string(array("format", "|S3"))
	if len(z.File) != 5 {
		t.Errorf("%d arrays", len(z.File))
	}
	return m
}

// A graph of real features, some of them deleted, is what scoring all pairs in
// float64 says, for every metric, as scores and as distances.
func TestGraph(t *testing.T) {
	m := dumptest.Lookup(t, "byol")
	database(t)
	must(t, "ingest", "train", m.TrainPath)
	dead := map[int]bool{3: true, 4: true, m.Train.Rows - 1: true}
	must(t, "rm", "train", "--keys", write(t, filepath.Join(t.TempDir(), "leaked.txt"), "3\n4\n1999\n"))
	if m.Train.Rows != 2000 {
		t.Fatalf("%d rows", m.Train.Rows)
	}
	const k = 7
	out := t.TempDir()
	for _, metric := range []string{"cosine", "dot", "l2"} {
		file, distances := filepath.Join(out, metric+".npz"), filepath.Join(out, metric+"-distance.npz")
		var r graphReport
		if err := json.Unmarshal([]byte(must(t, "graph", "train", "-k", "7", "--metric", metric, "-o", file, "--json")), &r); err != nil {
			t.Fatal(err)
		}
		if r.Rows != 1997 || r.Edges != 1997*k || r.Shape != [2]int64{2000, 2000} || r.Seconds <= 0 {
			t.Fatalf("%s: %+v", metric, r)
		}
		g := mustReadCSR(t, file)
		if g.format != "csr" || g.shape[0] != 2000 || g.shape[1] != 2000 || len(g.indptr) != 2001 || g.indptr[0] != 0 || g.indptr[2000] != r.Edges || len(g.indices) != int(r.Edges) || len(g.data) != int(r.Edges) {
			t.Fatalf("%s: %q %v, %d %d %d", metric, g.format, g.shape, len(g.indptr), len(g.indices), len(g.data))
		}
		var d csr
		if metric != "dot" {
			must(t, "graph", "train", "-k", "7", "--metric", metric, "-o", distances, "--data", "distance")
			d = mustReadCSR(t, distances)
		}
		for i := range 2000 {
			from, to := g.indptr[i], g.indptr[i+1]
			if dead[i] {
				if to != from {
					t.Fatalf("%s: deleted row %d has %d neighbours", metric, i, to-from)
				}
				continue
			}
			if to-from != k {
				t.Fatalf("%s: row %d has %d neighbours", metric, i, to-from)
			}
			worst, seen := math.Inf(1), map[int32]bool{int32(i): true}
			for at := from; at < to; at++ {
				j := g.indices[at]
				score := pairScore(m.Train, i, int(j), metric)
				if seen[j] || dead[int(j)] {
					t.Fatalf("%s: row %d has row %d, itself, deleted or twice", metric, i, j)
				}
				seen[j] = true
				printed := float64(g.data[at])
				if metric == "l2" {
					printed = -printed
				}
				slack := 1e-5 * (1 + math.Abs(score))
				if math.Abs(printed-score) > slack || score > worst+2*slack {
					t.Fatalf("%s: row %d and %d: %v after %v, want %v", metric, i, j, printed, worst, score)
				}
				worst = score
				if d.data == nil {
					continue
				}
				want := 1 - score
				if metric == "l2" {
					want = math.Sqrt(-score)
				}
				if got := float64(d.data[at]); math.Abs(got-want) > 1e-4 || got < 0 || d.indices[at] != j {
					t.Fatalf("%s: row %d and %d are %v apart, want %v", metric, i, j, got, want)
				}
			}
			if i%100 != 0 {
				continue
			}
			for j := range 2000 {
				score := pairScore(m.Train, i, j, metric)
				if !dead[j] && !seen[int32(j)] && score > worst+2e-5*(1+math.Abs(worst)) {
					t.Fatalf("%s: row %d lacks row %d of score %v, its last has %v", metric, i, j, score, worst)
				}
			}
		}
	}
}

// pairScore is the score of two rows in float64, larger is nearer.
func pairScore(m simd.Matrix, i, j int, metric string) float64 {
	var dot, ii, jj float64
	for d, x := range m.Row(i) {
		a, b := float64(x), float64(m.Row(j)[d])
		dot, ii, jj = dot+a*b, ii+a*a, jj+b*b
	}
	switch metric {
	case "cosine":
		return dot / math.Sqrt(ii*jj)
	case "l2":
		return 2*dot - ii - jj
	}
	return dot
}

// -k 0 writes all pairs above the score, in both directions.
func TestRangeGraph(t *testing.T) {
	m := dumptest.Lookup(t, "moco_v2")
	database(t)
	must(t, "ingest", "train", m.TrainPath)
	file := filepath.Join(t.TempDir(), "g.npz")
	text := must(t, "graph", "train", "-k", "0", "--min-score", "0.9", "-o", file, "--memory", "64MiB")
	if !strings.Contains(text, "edges of 2,000 rows in train") {
		t.Error(text)
	}
	g := mustReadCSR(t, file)
	edges := map[[2]int32]bool{}
	for i := range 2000 {
		for at := g.indptr[i]; at < g.indptr[i+1]; at++ {
			edges[[2]int32{int32(i), g.indices[at]}] = true
		}
	}
	for i := range 2000 {
		for j := range 2000 {
			score := pairScore(m.Train, i, j, "cosine")
			if has := edges[[2]int32{int32(i), int32(j)}]; i != j && math.Abs(score-0.9) > 1e-5 && has != (score > 0.9) {
				t.Fatalf("rows %d and %d, score %v: edge %v", i, j, score, has)
			}
		}
	}
	// One row has no neighbours, and more than there are is all of them.
	must(t, "ingest", "one", features(t, filepath.Join(t.TempDir(), "one.npy"), 1, nil))
	must(t, "graph", "one", "-o", file)
	if g := mustReadCSR(t, file); len(g.indices) != 0 || len(g.indptr) != 2 {
		t.Errorf("one row: %+v", g)
	}
	must(t, "ingest", "few", features(t, filepath.Join(t.TempDir(), "few.npy"), 5, nil))
	must(t, "graph", "few", "-o", file)
	if g := mustReadCSR(t, file); len(g.indices) != 20 {
		t.Errorf("five rows: %+v", g)
	}
}

func TestGraphRefuses(t *testing.T) {
	database(t)
	dir := t.TempDir()
	must(t, "ingest", "b", features(t, filepath.Join(t.TempDir(), "good.npy"), 10, nil))
	old := write(t, filepath.Join(dir, "old.npz"), "as it was")
	for line, want := range map[string]int{
		"graph b":                                        exitUsage,
		"graph b -o g.csv":                               exitUsage,
		"graph b -k -1 -o " + old:                        exitUsage,
		"graph b -k 0 -o " + old:                         exitUsage,
		"graph b --data x -o " + old:                     exitUsage,
		"graph b --data distance --metric dot -o " + old: exitUsage,
		"graph b --metric x -o " + old:                   exitUsage,
		"graph c -o " + old:                              exitNotFound,
		"graph b -o " + dir + "/none/g.npz":              exitNotFound,
	} {
		if r := run(t, strings.Fields(line)...); r.code != want || strings.Count(r.err, "\n") != 1 {
			t.Errorf("%s: exit %d, %q", line, r.code, r.err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if code := Run(ctx, []string{"membank", "graph", "b", "-o", old}, nil, io.Discard, io.Discard); code != exitInterrupted {
		t.Errorf("interrupted: exit %d", code)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if text, _ := os.ReadFile(old); string(text) != "as it was" {
		t.Errorf("a command that failed changed %s", old)
	}
}

// A distance is never negative, and distances rise where scores fall.
func TestEdgeValue(t *testing.T) {
	cosine, err := edgeValue("distance", index.Cosine)
	if err != nil {
		t.Fatal(err)
	}
	if cosine(1.0000001) != 0 || cosine(1) != 0 || cosine(-1) != 2 || cosine(0.25) != 0.75 {
		t.Error("cosine")
	}
	l2, err := edgeValue("distance", index.L2)
	if err != nil || l2(0) != 0 || l2(9) != 3 {
		t.Errorf("l2: %v", err)
	}
}
