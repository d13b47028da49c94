package eval

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func normed(rows [][]float64) {
	for _, r := range rows {
		n := 0.0
		for _, v := range r {
			n += v * v
		}
		for d := range r {
			r[d] /= math.Sqrt(n)
		}
	}
}

// turn moves a unit vector by an angle towards another.
func turn(q, to []float64, phi float64) []float64 {
	dot, norm := 0.0, 0.0
	for d := range q {
		dot += q[d] * to[d]
	}
	t := make([]float64, len(q))
	for d := range q {
		t[d] = to[d] - dot*q[d]
		norm += t[d] * t[d]
	}
	for d := range q {
		t[d] = math.Cos(phi)*q[d] + math.Sin(phi)*t[d]/math.Sqrt(norm)
	}
	return t
}

// By construction: just below the radius no direction flips the nearest row, least of
// all the one stated; just above, that one does. And no vote flips within Decision.
func TestRadius(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 8))
	random := func(dim int) []float64 {
		r := make([]float64, dim)
		for d := range r {
			r[d] = rng.NormFloat64()
		}
		normed([][]float64{r})
		return r
	}
	cosine := func(a, b []float64) (c float64) {
		for d := range a {
			c += a[d] * b[d]
		}
		return c
	}
	exact, decided, least := 0, 0, math.Inf(1)
	for trial := range 60 {
		dim, k := 2+trial%5, 1+trial%7
		rows := make([][]float64, 60)
		classOf := map[*float64]int64{}
		for i := range rows {
			rows[i] = random(dim)
			classOf[&rows[i][0]] = int64(rng.IntN(3))
		}
		weight := func(c float64) float64 { return math.Exp((c - 1) / 0.3) }
		if trial%2 == 0 {
			weight = func(float64) float64 { return 1 }
		}
		q := random(dim)
		order := func(v []float64) {
			slices.SortFunc(rows, func(a, b []float64) int {
				switch ca, cb := cosine(v, a), cosine(v, b); {
				case ca > cb:
					return -1
				case ca < cb:
					return 1
				}
				return 0
			})
		}
		decide := func(v []float64) (class int64, tied bool) {
			order(v)
			var votes [3]float64
			for _, r := range rows[:k] {
				votes[classOf[&r[0]]] += weight(cosine(v, r))
			}
			for c, x := range votes {
				if x > votes[class] {
					class = int64(c)
				}
			}
			for c, x := range votes {
				tied = tied || int64(c) != class && x == votes[class]
			}
			return class, tied
		}
		order(q)
		pool := 60
		if trial%3 == 0 {
			pool = 12
		}
		r, rival := nearestRadius(q, rows[:pool], pool == 60)
		all, _ := nearestRadius(q, rows, true)
		if r.Exact && r.Flip != all.Flip || r.Within > all.Flip+1e-12 {
			t.Fatalf("%d of 60 rows: %+v, of all %+v", pool, r, all)
		}
		if pool == 60 && !r.Exact {
			t.Fatal("not exact over all rows")
		}
		a, b := rows[0], rows[rival]
		away := make([]float64, dim) // −(a−b)
		for d := range away {
			away[d] = b[d] - a[d]
		}
		if over := turn(q, away, r.Flip+1e-7); cosine(over, b) <= cosine(over, a) {
			t.Errorf("trial %d: turning by more than %v does not flip", trial, r.Flip)
		}
		thetas, classes := make([]float64, pool), make([]int64, pool)
		for i, row := range rows[:pool] {
			thetas[i], classes[i] = angle(q, row), classOf[&row[0]]
		}
		decision := decisionRadius(thetas, classes, k, pool == 60, weight)
		before, tied := decide(q)
		if decision > 0 && tied {
			t.Errorf("trial %d: a tie within %v", trial, decision)
		}
		to := [][]float64{away}
		to = append(to, rows...)
		for range 300 {
			to = append(to, random(dim))
		}
		targets := slices.Clone(to)
		for _, toward := range targets {
			under := turn(q, toward, max(0, r.Within-1e-7))
			order(under)
			if &rows[0][0] != &a[0] {
				t.Fatalf("trial %d: another row is nearest within %v", trial, r.Within)
			}
			if after, _ := decide(turn(q, toward, max(0, decision-1e-9))); decision > 1e-9 && after != before {
				t.Fatalf("trial %d, k=%d: the vote flips within %v", trial, k, decision)
			}
		}
		if r.Exact {
			exact++
		}
		if decision > 0 {
			decided++
		}
		least = min(least, r.Flip)
	}
	if exact < 40 || decided < 30 || least <= 0 {
		t.Errorf("%d exact, %d decided, least %v", exact, decided, least)
	}
}

// One neighbour each way, 30° and 50° off: the border is in the middle, 10° away, and a
// vote of one is sure for just as long.
func TestRadiusInThePlane(t *testing.T) {
	at := func(degrees float64) []float64 {
		return []float64{math.Cos(degrees * math.Pi / 180), math.Sin(degrees * math.Pi / 180)}
	}
	r, rival := nearestRadius(at(0), [][]float64{at(30), at(-50)}, true)
	if math.Abs(r.Flip-10*math.Pi/180) > 1e-12 || rival != 1 {
		t.Errorf("%+v", r)
	}
	one := func(float64) float64 { return 1 }
	if d := decisionRadius([]float64{math.Pi / 6, math.Pi * 5 / 18}, []int64{4, 7}, 1, true, one); math.Abs(d-10*math.Pi/180) > 1e-9 {
		t.Errorf("decision %v", d)
	}
	if d := decisionRadius([]float64{1, 2}, []int64{4, 4}, 1, true, one); d != math.Pi {
		t.Errorf("one class: %v", d)
	}
	if r, rival := nearestRadius(at(0), [][]float64{at(30), at(30)}, true); rival != -1 || r.Flip != math.Pi {
		t.Errorf("equal rows: %+v", r)
	}
}
