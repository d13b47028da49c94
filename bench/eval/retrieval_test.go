package eval

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"membank/simd"
	"membank/store"
	"membank/store/dump"
	"membank/store/dump/dumptest"
)

func set(t testing.TB, s *store.Snapshot) *Set {
	t.Helper()
	r, err := NewSet(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func number(t testing.TB, f Figures, name string) float64 {
	t.Helper()
	v, ok := f.Lookup(name)
	if !ok {
		t.Errorf("no figure %q in %v", name, f)
	}
	return v
}

func retrieve(t testing.TB, e Retrieval, queries, gallery *Set, o RunOptions) *RetrievalResult {
	t.Helper()
	r, err := e.Evaluate(t.Context(), queries, gallery, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Every figure of the reference's section "retrieval" and the average precision of every
// query, of the collapsed methods, too: the reference ranks by float64, and so do we. The
// means agree to 1e-12, the precisions to the float32 that they are stored in.
func referenceRetrieval(t *testing.T) {
	check := func(t *testing.T, m dumptest.Method, section string, train simd.Matrix, labels []int64, perQuery bool) {
		db := open(t)
		gallery, queries := set(t, write(t, db, "train", train, labels)), set(t, write(t, db, "test", m.Test, m.TestLabels))
		var scores []QueryScore
		r := retrieve(t, Retrieval{Each: func(q QueryScore) { scores = append(scores, q) }}, queries, gallery, RunOptions{})
		want, _ := m.JSON(t)[section].(map[string]any)
		checked := 0
		for name, value := range want {
			switch name {
			case "map_first300_sklearn_average_precision_score", "map_first300_ours":
				sum := 0.0
				for _, q := range scores[:300] {
					sum += q.IR
				}
				within(t, name, sum/300, value.(float64), 1e-12)
			default:
				within(t, name, number(t, r.Results[0], name), value.(float64), 1e-12)
			}
			checked++
			reproduces(m.Name, section, name)
		}
		if checked < 14 {
			t.Errorf("the reference has %d figures of retrieval, want 14 at least", checked)
		}
		if !perQuery {
			return
		}
		precisions := averagePrecisions(t, m)
		for i, q := range scores {
			within(t, fmt.Sprint("AP of query ", i), q.IR, float64(precisions[i]), 0x1p-23)
		}
	}
	for _, m := range dumptest.Methods(t) {
		t.Run(m.Name, func(t *testing.T) { check(t, m, "retrieval", m.Train, m.TrainLabels, true) })
	}
	t.Run("fewer rows", func(t *testing.T) {
		m := dumptest.Lookup(t, "simclr_last")
		check(t, m, "retrieval_on_first2000_train_first1000_test", m.Train.Slice(0, 2000), m.TrainLabels[:2000], false)
	})
}

func averagePrecisions(t *testing.T, m dumptest.Method) []float32 {
	t.Helper()
	dir := dumptest.Testdata(t, "ssl")
	if shared, ok := dumptest.Shared(t); ok {
		dir = shared
	}
	a, err := dump.OpenArray(filepath.Join(dir, "reference", m.Name+"_average_precision.npy"), dump.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	v := make([]float32, a.Len())
	if n, err := a.Floats(v); n != len(v) || err != nil {
		t.Fatal(n, err)
	}
	return v
}

// Rankings by hand: relevant ranks, relevant rows in all, trapezoid, IR.
func TestAveragePrecisionVectors(t *testing.T) {
	for _, c := range []struct {
		ranks         []int // 0-based
		relevant      int64
		trapezoid, ir float64
	}{
		{[]int{1}, 1, 0.25, 0.5},
		{[]int{0, 2}, 2, 0.79166666666666666, 0.83333333333333333},
		{[]int{2, 5}, 3, 0.14444444444444444, 0.22222222222222222},
		{[]int{0, 1, 2}, 3, 1, 1},
	} {
		s := newRankScore([]int{1}, c.relevant)
		for _, rank := range c.ranks {
			s.find(int64(rank) + 1)
		}
		q := s.query(0, "")
		within(t, fmt.Sprint(c.ranks, " trapezoid"), q.Trapezoid, c.trapezoid, 1e-12)
		within(t, fmt.Sprint(c.ranks, " IR"), q.IR, c.ir, 1e-12)
	}
}

// Junk at raw ranks 0 and 3, rows to find at 2 and 4: corrected ranks 1 and 2.
func TestRevisitedVector(t *testing.T) {
	places := []place{{10, 1}, {12, 3}, {13, 4}, {14, 5}}
	j := judged{easy: []int64{12}, hard: []int64{14}, junk: []int64{10, 13}}
	s := scoreTruth([]int{1, 5, 10}, revisitedDifficulties[1], j, -1, places)
	q := s.query(0, "")
	within(t, "trapezoid", q.Trapezoid, 0.5*(0.0/1+1.0/2)/2+0.5*(1.0/2+2.0/3)/2, 1e-12)
	within(t, "trapezoid", q.Trapezoid, 0.4167, 1e-4)
	within(t, "IR", q.IR, 0.5833, 1e-4)
	// Three to find at ranks 1, 2, 3 have mP@5 = 1, not 0.6.
	sums := &truthSums{k: []int{1, 5}, precision: make([]float64, 2)}
	sums.add(scoreTruth([]int{1, 5}, plainDifficulties[0], judged{ok: []int64{10, 11, 12}}, -1, []place{{10, 1}, {11, 2}, {12, 3}}))
	if f := sums.figures(""); number(t, f, "mP@5") != 1 || number(t, f, "mP@1") != 1 {
		t.Errorf("mP@1 and mP@5 are %v and %v, want 1", number(t, f, "mP@1"), number(t, f, "mP@5"))
	}
	if s := scoreTruth([]int{1}, revisitedDifficulties[2], judged{easy: []int64{10}}, -1, places); s != nil {
		t.Error("a query without hard rows is scored at hard")
	}
}

// naiveRanking is all rows but those left out, nearest first, in float64 on dyadic
// rows, where every similarity is exact.
func naiveRanking(m Metric, query []float32, rows simd.Matrix, leave int) []int64 {
	p := Protocol{Metric: m, Normalise: m == Cosine}
	var order []int64
	score := make([]float64, rows.Rows)
	for x := range rows.Rows {
		score[x], _ = similarity(p, query, rows.Row(x))
		if x != leave {
			order = append(order, int64(x))
		}
	}
	slices.SortStableFunc(order, func(a, b int64) int {
		switch {
		case score[a] > score[b]:
			return -1
		case score[a] < score[b]:
			return 1
		}
		return 0
	})
	return order
}

func TestRetrievalAgainstDefinitions(t *testing.T) {
	none := int64(store.NoLabel)
	for _, c := range []struct {
		name           string
		rows, queries  int
		gallery, asked []int64
	}{
		{"four classes", 80, 30, []int64{0, 1, 2, 3}, []int64{0, 1, 2, 3}},
		{"gaps, unlabelled, unseen", 70, 8, []int64{none, -5, 1 << 40, 3}, []int64{none, -5, 3, 77}},
		{"lone classes", 6, 6, []int64{1, 2, 3, 4, 5, 6, 7}, []int64{1, 2, 3}},
		{"three rows", 3, 3, []int64{9, 7}, []int64{9, 7}},
	} {
		for _, metric := range []Metric{Cosine, Dot, L2} {
			for _, leave := range []bool{false, true} {
				t.Run(fmt.Sprint(c.name, " ", metric, " ", leave), func(t *testing.T) {
					r := rand.New(rand.NewPCG(5, uint64(c.rows)))
					rows, queries := dyadic(r, c.rows, 16), dyadic(r, c.queries, 16)
					labels, truths := pick(r, c.rows, c.gallery), pick(r, c.queries, c.asked)
					truths[0] = labels[0]
					db := open(t)
					gallery := set(t, write(t, db, "train", rows, labels))
					asked := set(t, write(t, db, "test", queries, truths))
					if leave {
						asked, queries, truths = nil, rows, labels
					}
					want := map[string]float64{}
					for q, label := range truths {
						if label == none {
							continue
						}
						self := -1
						if leave {
							self = q
						}
						order := slices.DeleteFunc(naiveRanking(metric, queries.Row(q), rows, self), func(x int64) bool { return labels[x] == none })
						total := 0.0
						for _, x := range order {
							if labels[x] == label {
								total++
							}
						}
						if total == 0 {
							want["skipped"]++
							continue
						}
						want["queries"]++
						hits, dcg, ideal := 0.0, 0.0, 0.0
						for i, x := range order {
							n := float64(i + 1)
							if i < 10 && n <= total {
								ideal += 1 / math.Log2(n+1)
							}
							if labels[x] != label {
								continue
							}
							before := 1.0
							if i > 0 {
								before = hits / float64(i)
							}
							hits++
							if hits == 1 {
								want["MRR"] += 1 / n
								for _, k := range []float64{1, 5, 10} {
									if n <= k {
										want[fmt.Sprint("R@", k)]++
									}
								}
							}
							for _, k := range []float64{1, 5, 10} {
								if n <= k {
									want[fmt.Sprint("P@", k)] += 1 / k
								}
							}
							want["map_full"] += hits / n / total
							want["map_trapezoid"] += (before + hits/n) / 2 / total
							if n <= total {
								want["R_precision"] += 1 / total
								want["MAP@R"] += hits / n / total
							}
							if i < 10 {
								dcg += 1 / math.Log2(n+1)
							}
						}
						want["NDCG@10_binary"] += dcg / ideal
					}
					got, err := Retrieval{Metric: metric, LeaveOneOut: leave}.Evaluate(t.Context(), asked, gallery, RunOptions{Threads: 3, Memory: 20 << 10})
					if want["queries"] == 0 {
						if !errors.Is(err, ErrNoLabels) {
							t.Fatalf("nothing to find: %v, %v", got, err)
						}
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					for _, f := range got.Results[0] {
						value := want[f.Name]
						switch f.Name {
						case "gallery":
							continue
						case "queries", "skipped":
						default:
							value /= want["queries"]
						}
						if g := number(t, got.Results[0], f.Name); math.Abs(g-value) > 1e-12 {
							t.Errorf("%s is %v, want %v", f.Name, g, value)
						}
					}
				})
			}
		}
	}
}

func TestRetrievalSameBits(t *testing.T) {
	m := dumptest.Lookup(t, "moco_v2")
	db := open(t)
	gallery, queries := set(t, write(t, db, "train", m.Train, m.TrainLabels)), set(t, write(t, db, "test", m.Test.Slice(0, 100), m.TestLabels[:100]))
	var first *RetrievalResult
	for _, level := range simd.Levels() {
		for _, o := range []RunOptions{{Threads: 1}, {Threads: 5}, {Threads: 2, Memory: 1 << 20}} {
			restore := simd.Use(level)
			r := retrieve(t, Retrieval{}, queries, gallery, o)
			restore()
			r.Seconds = 0
			if first == nil {
				first = r
			}
			if !reflect.DeepEqual(r, first) {
				t.Errorf("%s with %+v: %v, before %v", level, o, r, first)
			}
		}
	}
}

func TestGroundTruth(t *testing.T) {
	rows := matrix(2, 1, 0, 1, 0.1, 1, 0.2, 1, 0.3, 1, 0.4, 0, 1)
	db := open(t)
	keyed := func(bank string, vectors simd.Matrix, keys ...string) *Set {
		w, err := db.NewWriter(t.Context(), bank, 2, store.WriterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort()
		if err := w.Append(t.Context(), store.Rows{Vectors: vectors, Keys: keys}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		return set(t, snapshot(t, db, bank))
	}
	gallery := keyed("images", rows, "jpg/a.jpg", "jpg/b.jpg", "jpg/c.jpg", "jpg/d.jpg", "jpg/e.jpg", "jpg/f.jpg")
	queries := keyed("queries", matrix(2, 1, 0, 0, 1), "q1", "q2")
	// The ranking of q1 is a b c d e f: junk a and d, easy c, hard e.
	for _, text := range []string{
		`{"imlist":["f","e","d","c","b","a"],"qimlist":["q1","q2"],"gnd":[{"bbx":[1.5,2],"easy":[3],"hard":[1],"junk":[5,2]},{"easy":[],"hard":[],"junk":[0]}]}`,
		`{"gnd":[{"easy":[2],"hard":["e"],"junk":[0,"jpg/d.jpg"]},{}]}`,
		`{"gnd":[{"easy":["other/c.png"],"hard":["e.jpeg"],"junk":["a",3]},{}]}`,
	} {
		g, err := ReadGroundTruth(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		r := retrieve(t, Retrieval{Truth: g}, queries, gallery, RunOptions{})
		if r.Protocol != "revisited" || len(r.Results) != 3 {
			t.Fatalf("protocol %s with %d results", r.Protocol, len(r.Results))
		}
		for i, want := range []float64{
			0.25,                        // easy: c after b; a, d and e are junk
			0.5*(0.5)/2 + 0.5*(7.0/6)/2, // medium: c and e at ranks 1, 2
			0.25,                        // hard: e after b; a, c and d are junk
		} {
			within(t, text+" "+fmt.Sprint(i), number(t, r.Results[i], "map_trapezoid"), want, 1e-12)
			if number(t, r.Results[i], "skipped") != 1 || number(t, r.Results[i], "queries") != 1 {
				t.Errorf("%v", r.Results[i])
			}
		}
	}
	g, err := ReadGroundTruth(strings.NewReader(`{"gnd":[{"ok":[1,2],"junk":[0]},{"ok":[5]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if r := retrieve(t, Retrieval{Truth: g}, queries, gallery, RunOptions{}); r.Protocol != "ground truth" || len(r.Results) != 1 || number(t, r.Results[0], "map_full") != 1 {
		t.Errorf("%+v", r)
	}
	for _, text := range []string{
		`{`, `{}`, `[1]`, `{"gnd":[{"easy":[6]}]}`, `{"gnd":[{"easy":[-1]}]}`, `{"gnd":[{"easy":["x"]}]}`,
		`{"imlist":["a"],"gnd":[{"easy":[1]}]}`, `{"qimlist":["q1"],"gnd":[{},{}]}`, `{"qimlist":["q9"],"gnd":[{}]}`,
		`{"gnd":[{"easy":[1]},{"ok":[1]}]}`, `{"gnd":[{},{}]}`, `{"gnd":[{},{},{}]}`, `{"gnd":[{"easy":[1.5]}]}`,
		`{"gnd":[{"easy":[null]}]}`, `{"gnd":[{"easy":[""]}]}`, `{"gnd":[{"easy":[true]}]}`,
	} {
		g, err := ReadGroundTruth(strings.NewReader(text))
		if err == nil {
			_, err = Retrieval{Truth: g}.Evaluate(t.Context(), queries, gallery, RunOptions{})
		}
		if !errors.Is(err, ErrGroundTruth) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestRetrievalRefusals(t *testing.T) {
	db := open(t)
	one := set(t, write(t, db, "one", matrix(2, 1, 0), []int64{4}))
	two := set(t, write(t, db, "two", matrix(2, 1, 0, 0, 1), []int64{4, 5}))
	other := set(t, write(t, db, "other", matrix(2, 1, 0), []int64{6}))
	bare := set(t, write(t, db, "bare", matrix(2, 1, 0, 0, 1), nil))
	wide := set(t, write(t, db, "wide", matrix(3, 1, 0, 0), []int64{4}))
	for _, c := range []struct {
		name             string
		e                Retrieval
		queries, gallery *Set
		want             error
	}{
		{"a single row has no other", Retrieval{LeaveOneOut: true}, nil, one, ErrTooFew},
		{"one class", Retrieval{}, one, one, ErrForegone},
		{"classes of their own", Retrieval{LeaveOneOut: true}, nil, two, ErrForegone},
		{"no class in common", Retrieval{}, other, two, ErrForegone},
		{"no labels", Retrieval{}, bare, bare, ErrNoLabels},
		{"no labels to ask", Retrieval{}, bare, one, ErrNoLabels},
		{"dimensions", Retrieval{}, wide, one, store.ErrDim},
		{"k", Retrieval{K: []int{0}}, one, one, ErrProtocol},
		{"metric", Retrieval{Metric: "manhattan"}, one, one, ErrProtocol},
		{"two banks", Retrieval{LeaveOneOut: true}, bare, one, ErrLeaveOneOut},
	} {
		if _, err := c.e.Evaluate(t.Context(), c.queries, c.gallery, RunOptions{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Equal rows have no order but their numbers, and the result says so.
func TestEqualRowsAreTold(t *testing.T) {
	db := open(t)
	s := write(t, db, "equal", matrix(2, 1, 1, 1, 1, 1, 1, 1, 1), []int64{1, 1, 2, 2})
	r := retrieve(t, Retrieval{LeaveOneOut: true}, nil, set(t, s), RunOptions{})
	if len(r.Notes) != 2 || !strings.Contains(r.Notes[0], "only 3 rows can be ranked") || !strings.Contains(r.Notes[1], "4 rows of equal") {
		t.Errorf("%q", r.Notes)
	}
	k, _ := evaluate(t, KNN{K: []int{1, 2}, LeaveOneOut: true}, s, nil, RunOptions{})
	if k.TiedQueries != 4 || len(k.Notes) != 2 || !strings.Contains(k.Notes[0], "4 queries are equally near") {
		t.Errorf("%d %q", k.TiedQueries, k.Notes)
	}
}
