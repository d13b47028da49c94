package eval

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"membank/simd"
	"membank/store"
)

// texts are an attribute with a value of each row drawn from a list; "" is null.
func drawn(rows int, seed uint64, name string, values ...store.Value) store.Attribute {
	rng := rand.New(rand.NewPCG(seed, 3))
	a := store.Attribute{Name: name, Values: make([]store.Value, rows)}
	for i := range a.Values {
		a.Values[i] = values[rng.IntN(len(values))]
	}
	return a
}

// ranked is the order of a gallery by float64 cosine, ties to the smaller row.
func ranked(query []float32, gallery simd.Matrix, leave int) (rows []int, cosines []float64) {
	cosines = make([]float64, gallery.Rows)
	for i := range gallery.Rows {
		var dot, a, b float64
		for d, q := range query {
			g := float64(gallery.Row(i)[d])
			dot, a, b = dot+float64(q)*g, a+float64(q)*float64(q), b+g*g
		}
		cosines[i] = dot / math.Sqrt(a*b)
		if i != leave {
			rows = append(rows, i)
		}
	}
	slices.SortStableFunc(rows, func(x, y int) int {
		switch {
		case cosines[x] > cosines[y]:
			return -1
		case cosines[x] < cosines[y]:
			return 1
		}
		return 0
	})
	return rows, cosines
}

func TestGroupsAgainstCounting(t *testing.T) {
	db := open(t)
	faces, queries := dense(90, 6, 1), dense(150, 6, 2)
	write(t, db, "faces", faces, nil)
	write(t, db, "queries", queries, nil)
	null, f, m := store.Value{}, store.Text("f"), store.Text("m")
	sexOf := drawn(faces.Rows, 4, "sex", f, m, m, null)
	sex := drawn(queries.Rows, 5, "sex", f, m, m, null, store.Text("x"))
	age := drawn(queries.Rows, 6, "age", store.Int(17), store.Int(18), store.Float(29.5), store.Int(30), store.Int(80), null)
	for bank, list := range map[string][]store.Attribute{"faces": {sexOf}, "queries": {sex, age}} {
		if _, err := db.SetAttributes(t.Context(), bank, list); err != nil {
			t.Fatal(err)
		}
	}
	const floor = 12
	bins := func(v store.Value) string {
		n := v.Float() + float64(v.Int())
		switch {
		case v.IsNull():
			return ""
		case n < 18:
			return "<18"
		case n < 30:
			return "18-30"
		case n < 70:
			return "30-70"
		case n < 200:
			return "70-200"
		}
		return "200+"
	}
	gallery, asked := set(t, snapshot(t, db, "faces")), set(t, snapshot(t, db, "queries"))
	for _, least := range []float64{math.Inf(-1), 0.55} {
		e := Groups{Match: "sex", By: [][]string{{"age"}, {"sex", "age"}}, Bins: map[string]Bins{"age": {18, 30, 70, 200}}, K: []int{1, 3, 1000}, Floor: floor}
		if e.HasMinScore = least > -2; e.HasMinScore {
			e.MinScore = float32(least)
		}
		r, err := e.Evaluate(t.Context(), asked, gallery, RunOptions{Memory: 1 << 16, Threads: 3})
		if err != nil {
			t.Fatal(err)
		}
		type sums struct{ n, matched, hits, kept, any, covered float64 }
		want := map[string]*sums{}
		for q := range queries.Rows {
			if sex.Values[q].IsNull() {
				continue
			}
			order, cosines := ranked(queries.Row(q), faces, -1)
			order = slices.DeleteFunc(order, func(i int) bool { return sexOf.Values[i].IsNull() || cosines[i] < least })
			groups := []string{"all/all"}
			if age := bins(age.Values[q]); age != "" {
				groups = append(groups, "age/"+age, "sex+age/"+sex.Values[q].Text()+" × "+age)
			}
			for _, k := range e.K {
				hits, kept := 0.0, 0.0
				for _, i := range order[:min(k, len(order))] {
					kept++
					if sexOf.Values[i] == sex.Values[q] {
						hits++
					}
				}
				for _, group := range groups {
					at := fmt.Sprint(group, "@", k)
					if want[at] == nil {
						want[at] = &sums{}
					}
					s := want[at]
					s.n, s.hits, s.kept = s.n+1, s.hits+hits, s.kept+kept
					if slices.ContainsFunc(sexOf.Values, func(v store.Value) bool { return v == sex.Values[q] }) {
						s.matched++
					}
					s.any, s.covered = s.any+min(hits, 1), s.covered+min(kept, 1)
				}
			}
		}
		told, withheld := 0, 0
		for _, figures := range r.Results {
			by, group := figures[0].Value.(string), figures[1].Value.(string)
			n, _ := figures.Lookup("n")
			for _, k := range e.K {
				s := want[fmt.Sprint(by, "/", group, "@", k)]
				if s == nil {
					s = &sums{}
				}
				if n != s.n {
					t.Errorf("%s %s: n %v, want %v", by, group, n, s.n)
				}
				p, ok := figures.Lookup(fmt.Sprintf("P@%d", k))
				hit, _ := figures.Lookup(fmt.Sprintf("hit@%d", k))
				if ok != (s.n >= floor && s.kept > 0 && s.matched > 0) {
					t.Errorf("%s %s with n=%v: told %v", by, group, s.n, ok)
				}
				if !ok {
					withheld++
					continue
				}
				told++
				if math.Abs(p-s.hits/s.kept) > 1e-12 || math.Abs(hit-s.any/s.n) > 1e-12 {
					t.Errorf("%s %s k=%d: P %v hit %v, want %v %v", by, group, k, p, hit, s.hits/s.kept, s.any/s.n)
				}
				if covered, ok := figures.Lookup(fmt.Sprintf("coverage@%d", k)); ok != e.HasMinScore || ok && math.Abs(covered-s.covered/s.n) > 1e-12 {
					t.Errorf("%s %s k=%d: coverage %v", by, group, k, covered)
				}
				// Wilson's ends are where (p - x)² n = z² x (1 - x).
				for _, end := range []string{"_low", "_high"} {
					x, _ := figures.Lookup(fmt.Sprintf("hit@%d%s", k, end))
					if left, right := (hit-x)*(hit-x)*s.n, 1.959963984540054*1.959963984540054*x*(1-x); math.Abs(left-right) > 1e-9 {
						t.Errorf("%s %s k=%d: hit%s %v solves not Wilson's equation", by, group, k, end, x)
					}
				}
			}
		}
		if told < 15 || withheld < 6 {
			t.Errorf("%d figures told, %d withheld", told, withheld)
		}
		for _, gap := range r.Gaps {
			k, _ := gap.Lookup("k")
			low, high := math.Inf(1), math.Inf(-1)
			for at, s := range want {
				if strings.HasPrefix(at, gap[0].Value.(string)+"/") && strings.HasSuffix(at, fmt.Sprint("@", k)) && s.n >= floor && s.kept > 0 && s.matched > 0 {
					low, high = min(low, s.hits/s.kept), max(high, s.hits/s.kept)
				}
			}
			width, _ := gap.Lookup("P_gap")
			ratio, _ := gap.Lookup("P_ratio")
			if math.Abs(width-(high-low)) > 1e-12 || math.Abs(ratio-low/high) > 1e-12 {
				t.Errorf("%v: want %v and %v", gap, high-low, low/high)
			}
		}
		if r.Unmatched == 0 || r.Unranked == 0 || r.Skipped == 0 || len(r.Gaps) != 6 {
			t.Errorf("%+v", r)
		}
	}
}

// Published values of Wilson's interval: Newcombe 1998, table I, method 3.
func TestWilson(t *testing.T) {
	for _, c := range []struct{ hits, n, low, high float64 }{
		{81, 263, 0.2553, 0.3662}, {15, 148, 0.0624, 0.1605}, {0, 20, 0, 0.1611}, {1, 29, 0.0061, 0.1718}, {20, 20, 0.8389, 1},
	} {
		low, high := wilson(c.hits/c.n, int64(c.n))
		if math.Abs(low-c.low) > 5e-5 || math.Abs(high-c.high) > 5e-5 {
			t.Errorf("%v of %v: %.4f to %.4f, want %v to %v", c.hits, c.n, low, high, c.low, c.high)
		}
	}
}

func TestGroupsThatCannotBe(t *testing.T) {
	db := open(t)
	write(t, db, "one", dense(40, 3, 1), make([]int64, 40))
	write(t, db, "row", dense(1, 3, 1), make([]int64, 1))
	write(t, db, "lone", dense(2, 3, 1), []int64{1, 2})
	lone, row := set(t, snapshot(t, db, "lone")), set(t, snapshot(t, db, "row"))
	write(t, db, "bare", dense(40, 3, 1), nil)
	one, bare := set(t, snapshot(t, db, "one")), set(t, snapshot(t, db, "bare"))
	for name, c := range map[string]struct {
		e       Groups
		queries *Set
		want    error
	}{
		"no such attribute": {Groups{By: [][]string{{"age"}}}, one, ErrGroups},
		"no labels":         {Groups{}, bare, ErrGroups},
		"no such match":     {Groups{Match: "sex"}, one, ErrGroups},
		"k of 0":            {Groups{K: []int{0}}, one, ErrProtocol},
		"descending bins":   {Groups{By: [][]string{{"label"}}, Bins: map[string]Bins{"label": {3, 1}}}, one, ErrProtocol},
		"bins of nothing":   {Groups{Bins: map[string]Bins{"age": {3}}}, one, ErrProtocol},
	} {
		if _, err := c.e.Evaluate(t.Context(), c.queries, one, RunOptions{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// One class: all are hits, whatever the embeddings. No class in common, or none that
	// another row has: nobody hits.
	for _, c := range []struct {
		e                Groups
		queries, gallery *Set
		want             error
	}{
		{Groups{LeaveOneOut: true}, nil, one, ErrForegone},
		{Groups{}, lone, one, ErrForegone},
		{Groups{}, one, lone, ErrForegone},
		{Groups{LeaveOneOut: true}, nil, lone, ErrForegone},
		{Groups{LeaveOneOut: true}, nil, row, ErrTooFew},
	} {
		if _, err := c.e.Evaluate(t.Context(), c.queries, c.gallery, RunOptions{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.gallery.use.Bank, err)
		}
	}
}
