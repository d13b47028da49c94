package eval

import (
	"math"
	"slices"
	"strings"
	"testing"

	"membank/simd"
	"membank/store"
)

// Where all rows vote nothing is ranked: the shares are those of a float64 loop over
// all similarities, and the predictions those of a ranking of all rows.
func TestEveryoneVotes(t *testing.T) {
	const n, classes = 400, 7
	rows, queries := dense(n, 12, 1), dense(33, 12, 2)
	labels, asked := make([]int64, n), make([]int64, queries.Rows)
	for i := range labels {
		if labels[i] = int64(i*i%classes) * 10; i%9 == 0 {
			labels[i] = store.NoLabel
		}
	}
	for i := range asked {
		asked[i] = int64(i%classes) * 10
	}
	db := open(t)
	train, test := write(t, db, "train", rows, labels), write(t, db, "test", queries, asked)
	for _, e := range []KNN{{Preset: "paws"}, {Preset: "paws", T: 0.01}, {Preset: "solo-l2", K: []int{All}}, {Preset: "sklearn", K: []int{All}}} {
		for _, leave := range []bool{false, true} {
			e.LeaveOneOut = leave
			q, truth, against := queries, asked, test
			if leave {
				q, truth, against = rows, labels, train
			}
			result, got := evaluate(t, e, train, against, RunOptions{Threads: 3, Memory: 40 << 10})
			e.K = []int{n} // ranks: as many neighbours as there are
			ranked, want := evaluate(t, e, train, against, RunOptions{})
			e.K = result.Rules.K
			if len(got) != len(want) || result.Results[0].Correct1 != ranked.Results[0].Correct1 || result.Results[0].Correct5 != ranked.Results[0].Correct5 {
				t.Fatalf("%s: %+v, ranked %+v", result.Protocol, result.Results, ranked.Results)
			}
			for i, p := range got {
				w := want[i]
				if p.Class != w.Class || p.Right != w.Right || p.Agreement != w.Agreement || !math.IsInf(p.Gap, 1) {
					t.Fatalf("%s: %+v, ranked %+v", result.Protocol, p, w)
				}
				votes := votesOf(result.Rules, q.Row(int(p.Row)), rows, labels, map[bool]int{true: int(p.Row), false: -1}[leave])
				total, first := 0.0, 0.0
				for _, v := range votes {
					total, first = total+v, max(first, v)
				}
				// Similarities are float32's, and T magnifies what they err by.
				tolerance := 1e-12
				switch result.Rules.Weight {
				case Exp:
					tolerance = 1e-6 / result.Rules.T
				case Inverse:
					tolerance = 1e-5
				}
				if math.Abs(p.Share-first/total) > tolerance || math.Abs(p.Own-votes[truth[p.Row]]/total) > tolerance {
					t.Fatalf("%s: shares %v and %v, want %v and %v", result.Protocol, p.Share, p.Own, first/total, votes[truth[p.Row]]/total)
				}
				for _, pair := range [][2]float64{{p.Share, w.Share}, {p.Own, w.Own}, {p.Margin, w.Margin}} {
					if math.Abs(pair[0]-pair[1]) > 1e-12 {
						t.Fatalf("%s: %v, ranked %v", result.Protocol, pair[0], pair[1])
					}
				}
			}
		}
	}
}

// votesOf is the vote of every label, in float64 all along.
func votesOf(rule Protocol, q []float32, rows simd.Matrix, labels []int64, without int) map[int64]float64 {
	type voter struct {
		label      int64
		similarity float64
	}
	var list []voter
	for i := range rows.Rows {
		if labels[i] != store.NoLabel && i != without {
			s, _ := similarity(rule, q, rows.Row(i))
			list = append(list, voter{labels[i], s})
		}
	}
	best := slices.MaxFunc(list, func(a, b voter) int { return sign(a.similarity - b.similarity) }).similarity
	votes := map[int64]float64{}
	for _, v := range list {
		switch rule.Weight {
		case Exp:
			votes[v.label] += math.Exp((v.similarity - best) / rule.T)
		case Inverse:
			votes[v.label] += 1 / (-v.similarity + rule.Offset)
		default:
			votes[v.label]++
		}
	}
	return votes
}

// With one row a class leave-one-out finds no other: 0 %, and the result says why.
func TestLoneRowsAreCounted(t *testing.T) {
	db := open(t)
	for _, e := range []KNN{{LeaveOneOut: true}, {Preset: "paws", LeaveOneOut: true}} {
		bank := write(t, db, "bank"+e.Preset, matrix(2, 1, 0, 0, 1, 1, 1, 2, 1), []int64{4, 5, 6, 6})
		result, _ := evaluate(t, e, bank, bank, RunOptions{})
		if result.LoneQueries != 2 || !slices.ContainsFunc(result.Notes, func(s string) bool { return strings.Contains(s, "of 2 of 4 queries, which count as wrong") }) {
			t.Errorf("%s: %d lone queries, notes %q", result.Protocol, result.LoneQueries, result.Notes)
		}
		if other, _ := evaluate(t, KNN{}, bank, bank, RunOptions{}); other.LoneQueries != 0 {
			t.Errorf("%d lone queries where rows vote on themselves", other.LoneQueries)
		}
	}
}
