package eval

import (
	"math"
	"slices"
)

// Radius is how far a query may turn before its neighbours decide otherwise. Angles
// are in radians, on the sphere of L2-normalised rows: a change of the query by an
// angle φ is one to cosine cos φ with what it was.
type Radius struct {
	Row     int64
	Nearest int64 // row of the gallery

	// Flip is the least angle at which another row, Rival, is nearest: turning the
	// query by more, in the plane of the query and Nearest − Rival and away from
	// that, flips it. Rival is −1 and Flip π where no other row was compared.
	Flip  float64
	Rival int64
	// Within is an angle below which the nearest row provably stays, whatever lies
	// beyond the rows compared: Flip itself if Exact.
	Within float64
	Exact  bool

	// Decision is an angle below which the class that the vote decides for provably
	// stays. It is a lower bound: the least angle that does flip the vote of k rows
	// is no less, and finding it is a search over the cells of a Voronoi diagram of
	// order k, which this does not do.
	Decision float64
}

// nearestRadius finds how far q must turn until another row is nearer than the first of
// rows; all are unit vectors in float64, those compared the nearest of the gallery.
// whole tells that they are all of it.
//
// Let a be the nearest row and b another, n = (a−b)/‖a−b‖. A unit vector v is at least
// as near to a as to b while v·n ≥ 0, a half of the sphere. Write q = cos β·u + sin β·n
// with u a unit vector orthogonal to n and sin β = q·n ≥ 0: the angle from q to any unit
// v with v·n ≤ 0 is at least β, because its cosine is cos β·(v·u) + sin β·(v·n) ≤ cos β;
// and v = u reaches it. So b overtakes a first after
//
//	β = asin((q·a − q·b)/‖a−b‖)
//
// along the geodesic to u, and the nearest row flips first at the least β of all b.
// Rows beyond those compared have an angle to q of at least that of the last of them, θ.
// Turning by φ takes a to an angle of at most θ_a+φ, and them to no less than θ−φ, so
// they cannot be nearer before φ = (θ−θ_a)/2: if the least β is no more, it is exact.
func nearestRadius(q []float64, rows [][]float64, whole bool) (r Radius, rival int) {
	r.Flip, rival = math.Pi, -1
	a := rows[0]
	for i, b := range rows[1:] {
		var dot, square float64
		for d := range q {
			v := a[d] - b[d]
			dot += q[d] * v
			square += v * v
		}
		if square < 1e-20 { // the same direction: it is never nearer
			continue
		}
		if beta := math.Asin(max(0, min(1, dot/math.Sqrt(square)))); beta < r.Flip {
			r.Flip, rival = beta, i+1
		}
	}
	r.Within, r.Exact = r.Flip, whole
	if !whole {
		safe := max(0, (angle(q, rows[len(rows)-1])-angle(q, a))/2)
		r.Exact = r.Flip <= safe
		r.Within = min(r.Flip, safe)
	}
	return r, rival
}

// decisionRadius is an angle below which a vote of the nearest k of rows cannot flip.
//
// Turning the query by φ changes its angle to every row by at most φ. So before that a
// class c has at least the vote that it gets with its own rows φ farther and all others
// φ nearer, and a class d at most what it gets with its own φ nearer and all others φ
// farther. While the least of the class that wins exceeds the most of every other, it
// wins. Both move one way as φ grows, so bisection finds where they meet. Rows beyond
// those compared cannot enter the first k before φ = (θ_last − θ_k)/2, the end of the
// search if there are more.
//
// classes are those of rows; thetas the angles to q, ascending; weight of a cosine
// must not fall with it.
func decisionRadius(thetas []float64, classes []int64, k int, whole bool, weight func(cosine float64) float64) float64 {
	k = min(k, len(thetas))
	distinct := slices.Compact(slices.Sorted(slices.Values(classes)))
	// vote is that of c with its rows turned away by phi and all others nearer by it.
	// Both lists keep their order, so the nearest k are merged from them; where angles
	// are equal the worse for c comes first, or with phi < 0 the better.
	vote := func(c int64, phi float64) float64 {
		next := func(i int, own bool) int {
			for i < len(thetas) && (classes[i] == c) != own {
				i++
			}
			return i
		}
		own, other, sum := next(0, true), next(0, false), 0.0
		for range k {
			mine, theirs := math.Inf(1), math.Inf(1)
			if own < len(thetas) {
				mine = min(math.Pi, max(0, thetas[own]+phi))
			}
			if other < len(thetas) {
				theirs = min(math.Pi, max(0, thetas[other]-phi))
			}
			if mine < theirs || mine == theirs && (phi < 0 || other == len(thetas)) {
				sum += weight(math.Cos(mine))
				own = next(own+1, true)
			} else {
				other = next(other+1, false)
			}
		}
		return sum
	}
	winner, most := int64(0), math.Inf(-1)
	for _, c := range distinct {
		if v := vote(c, 0); v > most {
			winner, most = c, v
		}
	}
	stays := func(phi float64) bool {
		least := vote(winner, phi)
		for _, d := range distinct {
			if d != winner && vote(d, -phi) >= least {
				return false
			}
		}
		return true
	}
	end := math.Pi
	if !whole {
		end = max(0, (thetas[len(thetas)-1]-thetas[k-1])/2)
	} else if len(distinct) == 1 {
		return end
	}
	if !stays(0) {
		return 0
	}
	if stays(end) {
		return end
	}
	low, high := 0.0, end
	for range 40 {
		if middle := (low + high) / 2; stays(middle) {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}

// angle between unit vectors, exact to rounding at both ends.
func angle(a, b []float64) float64 {
	var minus, plus float64
	for d := range a {
		minus += (a[d] - b[d]) * (a[d] - b[d])
		plus += (a[d] + b[d]) * (a[d] + b[d])
	}
	return 2 * math.Atan2(math.Sqrt(minus), math.Sqrt(plus))
}

// unit is a row L2-normalised in float64; a zero row stays zero.
func unit(row []float32) []float64 {
	u := make([]float64, len(row))
	square := 0.0
	for d, v := range row {
		u[d] = float64(v)
		square += u[d] * u[d]
	}
	norm := max(math.Sqrt(square), NormaliseEps)
	for d := range u {
		u[d] /= norm
	}
	return u
}
