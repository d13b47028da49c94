package dumptest

import (
	"fmt"
	"path/filepath"
	"testing"

	"membank/store/dump"
)

// Neighbours are FAISS's exact neighbours of the first Queries rows of Test among
// the rows of Train, K a query, best first: [Queries][K] each.
type Neighbours struct {
	Queries, K int
	IDs        []int64
	// Scores are cosines for "ip", larger is nearer, and squared distances between
	// the rows as they are for "l2", smaller is nearer. Squared distances carry an
	// absolute error of up to 2e-4.
	Scores []float32
}

// Row gives the neighbours of one query.
func (n Neighbours) Row(query int) (ids []int64, scores []float32) {
	return n.IDs[query*n.K : (query+1)*n.K], n.Scores[query*n.K : (query+1)*n.K]
}

// NN reads the reference neighbours; metric is "ip", the cosine, or "l2".
func (m Method) NN(t testing.TB, metric string) Neighbours {
	t.Helper()
	scores := map[string]string{"ip": "scores", "l2": "sqdist"}[metric]
	if scores == "" {
		t.Fatalf("dumptest: no reference neighbours for metric %q", metric)
	}
	path := func(what string) string {
		return filepath.Join(m.reference, fmt.Sprintf("%s_nn_%s_%s.npy", m.Name, metric, what))
	}
	s := Features(t, path(scores))
	n := Neighbours{Queries: s.Rows, K: s.Dim, Scores: s.Data}
	if n.IDs = integers(t, path("ids"), ""); len(n.IDs) != len(n.Scores) {
		t.Fatalf("%s: %d neighbours for %d scores", path("ids"), len(n.IDs), len(n.Scores))
	}
	return n
}

// KNNPred is the float64 DINO-rule prediction of each row of Test: T 0.07.
type KNNPred struct {
	K    int
	Pred []int64
	// Margin is the vote margin between the two best classes, relative; Gap the
	// difference of cosine between the K-th and the next neighbour. Compare
	// predictions only where Margin exceeds 1e-5 and Gap 1e-6: see Firm.
	Margin, Gap []float32
}

// Firm reports whether the prediction of a query is beyond rounding.
func (p KNNPred) Firm(query int) bool { return p.Margin[query] > 1e-5 && p.Gap[query] > 1e-6 }

// KNNPred reads the reference predictions for k = 20 or 200.
func (m Method) KNNPred(t testing.TB, k int) KNNPred {
	t.Helper()
	path := filepath.Join(m.reference, fmt.Sprintf("%s_knn_pred_k%d.npz", m.Name, k))
	return KNNPred{
		K:      k,
		Pred:   integers(t, path, "pred"),
		Margin: floats(t, path, "vote_margin_rel"),
		Gap:    floats(t, path, "boundary_gap"),
	}
}

// floats reads an array of floats.
func floats(t testing.TB, path, member string) []float32 {
	t.Helper()
	a, err := dump.OpenArray(path, dump.Options{Array: member})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	v := make([]float32, a.Len())
	if n, err := a.Floats(v); n != len(v) || err != nil {
		t.Fatalf("%s: %d of %d elements: %v", a.Name(), n, len(v), err)
	}
	return v
}

// integers reads an array of integers.
func integers(t testing.TB, path, member string) []int64 {
	t.Helper()
	a, err := dump.OpenArray(path, dump.Options{Array: member})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	v := make([]int64, a.Len())
	if n, err := a.Ints(v); n != len(v) || err != nil {
		t.Fatalf("%s: %d of %d elements: %v", a.Name(), n, len(v), err)
	}
	return v
}
