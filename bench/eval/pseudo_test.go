package eval

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"membank/store"
)

// Labels, confidences, margins and agreement by their definitions, on dyadic rows; some
// of the rows asked have a label and some have none.
func TestPseudoLabels(t *testing.T) {
	none := int64(store.NoLabel)
	r := rand.New(rand.NewPCG(2, 9))
	rows, queries := dyadic(r, 50, 16), dyadic(r, 40, 16)
	labels, truths := pick(r, 50, []int64{none, 0, 1, 2}), pick(r, 40, []int64{none, 0, 1, 77})
	db := open(t)
	train, test := set(t, write(t, db, "train", rows, labels, "cat", "dog", "owl")), set(t, write(t, db, "test", queries, truths))
	const k = 7
	var got []PseudoLabel
	e := PseudoLabels{KNN: KNN{K: []int{k}}, MinConfidence: 0.5, MinMargin: 0.2, MinAgreement: 0.4, Each: func(l PseudoLabel) { got = append(got, l) }}
	result, err := e.Evaluate(t.Context(), train, test, RunOptions{Threads: 2, Memory: 10 << 10})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 40 || result.Rows != 40 {
		t.Fatalf("%d rows of 40, %d in the result", len(got), result.Rows)
	}
	accepted, labelled, right := 0, 0, 0
	above := make([]int, 21)
	for q, l := range got {
		order := slices.DeleteFunc(naiveRanking(Cosine, queries.Row(q), rows, -1), func(x int64) bool { return labels[x] == none })[:k]
		votes, neighbours, total := [3]float64{}, [3]float64{}, 0.0
		for _, x := range order {
			s, _ := similarity(Protocol{Normalise: true}, queries.Row(q), rows.Row(int(x)))
			votes[labels[x]] += math.Exp(s / 0.07)
			neighbours[labels[x]]++
			total += math.Exp(s / 0.07)
		}
		best := int64(0)
		for c := range int64(3) {
			if votes[c] > votes[best]*(1+1e-12) {
				best = c
			}
		}
		sorted := slices.Sorted(slices.Values(votes[:]))
		confidence, margin, agreement := votes[best]/total, (sorted[2]-sorted[1])/total, neighbours[best]/k
		if l.Class != best || l.Name != []string{"cat", "dog", "owl"}[best] || l.Label != truths[q] || l.Row != int64(q) ||
			math.Abs(l.Confidence-confidence) > 1e-9 || math.Abs(l.Margin-margin) > 1e-9 || math.Abs(l.Agreement-agreement) > 1e-12 {
			t.Errorf("row %d: %+v, want class %d, %v %v %v", q, l, best, confidence, margin, agreement)
		}
		if want := confidence >= 0.5 && margin >= 0.2 && agreement >= 0.4; l.Accepted != want {
			t.Errorf("row %d: accepted %v, want %v", q, l.Accepted, want)
		}
		if l.Accepted {
			accepted++
			if truths[q] != none {
				labelled++
			}
			if truths[q] == best {
				right++
			}
		}
		for i := range above {
			if l.Confidence >= float64(i)/20 {
				above[i]++
			}
		}
	}
	if result.Accepted != int64(accepted) || result.Coverage != float64(accepted)/40 || result.Labelled != int64(labelled) || *result.Precision != float64(right)/float64(labelled) {
		t.Errorf("%+v, want %d accepted, %d labelled, %d right", result, accepted, labelled, right)
	}
	for i, at := range result.Results {
		if at.Accepted != int64(above[i]) || at.MinConfidence != float64(i)/20 {
			t.Errorf("%+v, want %d", at, above[i])
		}
	}
}

func TestPseudoLabelsEdges(t *testing.T) {
	db := open(t)
	train := set(t, write(t, db, "train", matrix(2, 1, 0, 0, 1), []int64{4, 9}))
	bare := set(t, write(t, db, "bare", matrix(2, 1, 0.5), nil))
	r, err := PseudoLabels{}.Evaluate(t.Context(), train, bare, RunOptions{})
	if err != nil || r.Precision != nil || r.Coverage != 1 || r.K != 20 || r.Protocol != "dino" {
		t.Errorf("%+v %v", r, err)
	}
	// One labelled row, left out, has nobody to ask; one class is everybody's.
	one := set(t, write(t, db, "one", matrix(2, 1, 0), []int64{4}))
	if _, err := (PseudoLabels{KNN: KNN{LeaveOneOut: true}}).Evaluate(t.Context(), one, one, RunOptions{}); !errors.Is(err, ErrTooFew) {
		t.Error(err)
	}
	if _, err := (PseudoLabels{}).Evaluate(t.Context(), one, train, RunOptions{}); !errors.Is(err, ErrForegone) {
		t.Error(err)
	}
	for _, e := range []PseudoLabels{{KNN: KNN{K: []int{1, 2}}}, {MinConfidence: 1.5}, {MinMargin: math.NaN()}} {
		if _, err := e.Evaluate(t.Context(), train, bare, RunOptions{}); !errors.Is(err, ErrProtocol) {
			t.Errorf("%+v: %v", e, err)
		}
	}
	if _, err := (PseudoLabels{}).Evaluate(t.Context(), bare, train, RunOptions{}); !errors.Is(err, ErrNoLabels) {
		t.Error(err)
	}
}
