package dumptest

import (
	"math"
	"testing"

	"membank/simd"
)

// Every method's stored scores are what float64 makes of the stored features: so
// features, ids and scores were read in the right order and type.
func TestReferencesBelongToFeatures(t *testing.T) {
	for _, m := range Methods(t) {
		t.Run(m.Name, func(t *testing.T) {
			if m.Train.Rows != len(m.TrainLabels) || m.Test.Rows != len(m.TestLabels) || m.Train.Dim != m.Test.Dim {
				t.Fatalf("train %d × %d with %d labels, test %d × %d with %d", m.Train.Rows, m.Train.Dim, len(m.TrainLabels), m.Test.Rows, m.Test.Dim, len(m.TestLabels))
			}
			ip, l2 := m.NN(t, "ip"), m.NN(t, "l2")
			for q := 0; q < ip.Queries; q += 37 {
				ids, scores := ip.Row(q)
				if got, want := cosine(m.Test.Row(q), m.Train.Row(int(ids[0]))), float64(scores[0]); math.Abs(got-want) > 1e-6 {
					t.Errorf("query %d: cosine %v, FAISS %v", q, got, want)
				}
				ids, scores = l2.Row(q)
				if got, want := squared(m.Test.Row(q), m.Train.Row(int(ids[0]))), float64(scores[0]); math.Abs(got-want) > 1e-3 {
					t.Errorf("query %d: squared distance %v, FAISS %v", q, got, want)
				}
			}
			for _, k := range []int{20, 200} {
				p := m.KNNPred(t, k)
				if len(p.Pred) != m.Test.Rows || len(p.Margin) != m.Test.Rows || len(p.Gap) != m.Test.Rows {
					t.Fatalf("k=%d: %d predictions for %d rows", k, len(p.Pred), m.Test.Rows)
				}
				right := 0
				for i, c := range p.Pred {
					if c == m.TestLabels[i] {
						right++
					}
				}
				want, ok := m.Figure(t, "knn", "float64_stable_T0.07", itoa(k), "top1")
				if got := 100 * float64(right) / float64(m.Test.Rows); !ok || math.Abs(got-want) > 1e-9 {
					t.Errorf("k=%d: predictions are %v %% right, the reference says %v", k, got, want)
				}
			}
		})
	}
}

func TestSmallMethodsAreAlwaysThere(t *testing.T) {
	for _, name := range []string{"moco_v2", "byol"} {
		m := Lookup(t, name)
		small := Features(t, Testdata(t, "ssl", name, "train_features.npy"))
		if !equal(small, m.Train) || m.Train.Rows != 2000 || m.Train.Dim != 256 {
			t.Errorf("%s: the copy in testdata differs", name)
		}
		if labels := Labels(t, Testdata(t, "ssl", "train_labels_2000.npy")); len(labels) != 2000 || labels[0] != m.TrainLabels[0] || labels[1999] != m.TrainLabels[1999] {
			t.Errorf("%s: the labels in testdata differ", name)
		}
	}
}

func equal(a, b simd.Matrix) bool {
	if a.Rows != b.Rows || a.Dim != b.Dim {
		return false
	}
	for i, v := range a.Data {
		if v != b.Data[i] {
			return false
		}
	}
	return true
}

func itoa(k int) string {
	if k == 20 {
		return "20"
	}
	return "200"
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	return ab / math.Sqrt(aa*bb)
}

func squared(a, b []float32) float64 {
	var s float64
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		s += d * d
	}
	return s
}
