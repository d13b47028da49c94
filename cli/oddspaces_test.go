package cli

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/gonum/mat"
)

// What the commands that need no labels should say of an odd set.

// heap says that no row differs from another in direction, or that none has one.
func heap(s *oddSet) bool {
	return zeroRows(s) == len(s.rows) || zeroRows(s) == 0 && directions(s) == 1
}

// equalRows says that all rows are one.
func equalRows(s *oddSet) bool {
	return !slices.ContainsFunc(s.rows, func(x []float32) bool { return !slices.Equal(x, s.rows[0]) })
}

func (o *oddRun) diagnose(s *oddSet) {
	n := len(s.rows)
	d := o.answer("diagnose", s.name)
	repeated, norms := 0, 0.0
	for i, x := range s.rows {
		if slices.ContainsFunc(s.rows[:i], func(y []float32) bool { return slices.Equal(x, y) }) {
			repeated++
		}
		norms += length(x) / float64(n)
	}
	d.near("rows", float64(n))
	d.near("zero_rows", float64(zeroRows(s)))
	d.near("exact_duplicate_rows", float64(repeated))
	d.near("mean_row_norm", norms)
	if n < 32 && d.value("verdict") != "undetermined" {
		o.Errorf("%s: verdict %v", d.line, d.value("verdict"))
	}
	if zeroRows(s) == n {
		d.missing("mean_unit_vector_norm", "mean_pairwise_cosine", "row_norm_histogram")
	}
	if n < 2 {
		d.missing("mean_pairwise_cosine", "rankme_raw", "uniform_t2", "per_dim_std_l2norm_times_sqrtD")
		return
	}
	cosines, spread := 0.0, 0.0
	for i, x := range s.rows {
		for _, y := range s.rows[:i] {
			c := oddCosine(x, y)
			cosines += c
			apart := length(x)/max(length(x), 1e-12) + length(y)/max(length(y), 1e-12) - 2*c // of unit rows, squared
			spread += math.Exp(-2 * apart)
		}
	}
	pairs := float64(n*(n-1)) / 2
	if zeroRows(s) < n {
		d.near("mean_pairwise_cosine", cosines/pairs)
		d.near("rankme_raw", rankMe(s))
	}
	d.near("uniform_t2", math.Log(spread/pairs))
	if n <= 10 || heap(s) {
		d.missing("hubness_k10_cosine_skew_biased")
	}
	if equalRows(s) {
		d.near("per_dim_std_l2norm_times_sqrtD", 0)
		d.missing("participation_ratio_raw", "covariance_top5_eigen_share")
	}
	k := min(10, n-1)
	name := fmt.Sprintf("knn_k%d_leave_one_out_top1", k)
	switch why := refusal(s, s, true); {
	case why != "" || heap(s):
		d.missing(name)
	case len(s.labelled()) == n:
		d.near(name, top1Of(accuracy(s, s, true, presetRules()[0], k)))
	}
	// The rows as views of themselves.
	d = o.answer("diagnose", s.name, "--views", s.name)
	own := 0.0
	for i, x := range s.rows {
		if ranked(x, s, upTo(n), -1, oddCosine)[0] == i {
			own++
		}
	}
	d.near("align_alpha2", 0)
	d.near("instance_retrieval_top1_v1_to_v2", own/float64(n))
	if heap(s) {
		d.near("infonce_T0.1_symmetric_all", math.Log(float64(n)))
		d.near("infonce_T0.1_bound_nats", 0)
	}
	if equalRows(s) {
		d.missing("lidar", "barlow_on_diag_sum")
	}
}

// rankMe is exp of the entropy of the shares of singular values.
func rankMe(s *oddSet) float64 {
	m := mat.NewDense(len(s.rows), len(s.rows[0]), nil)
	for i, x := range s.rows {
		for d, v := range x {
			m.Set(i, d, float64(v))
		}
	}
	var svd mat.SVD
	svd.Factorize(m, mat.SVDNone)
	sum, entropy := 0.0, 0.0
	for _, v := range svd.Values(nil) {
		sum += v
	}
	for _, v := range svd.Values(nil) {
		p := v/sum + 1e-7
		entropy -= p * math.Log(p)
	}
	return math.Exp(entropy)
}

func (o *oddRun) compare(s *oddSet) {
	const k = 2
	n := len(s.rows)
	why := ""
	if n < 2 {
		why = "too few rows"
	}
	d, ok := o.either(why, "compare", "normal", s.name, "-k", fmt.Sprint(k))
	if !ok {
		return
	}
	other := &oddSet{rows: o.normal.rows[:n]} // rows are matched by key, which is their number
	d.near("rows", float64(n))
	names := []string{"linear_cka", "procrustes_distance"}
	if n == 2 || equalRows(s) {
		d.missing(append(names, "debiased_cka")...)
	} else {
		d.near("linear_cka", linearCKA(other, s))
	}
	neighbours := []string{"mutual_knn_k2_overlap", "mutual_knn_k2_jaccard", "neighbour_rank_correlation_k2", "moved"}
	if n <= k+1 || heap(s) {
		d.missing(neighbours...)
	} else {
		overlap := 0.0
		for i := range s.rows {
			a, b := ranked(other.rows[i], other, upTo(n), i, oddCosine)[:k], ranked(s.rows[i], s, upTo(n), i, oddCosine)[:k]
			for _, j := range a {
				if slices.Contains(b, j) {
					overlap += 1 / float64(k*n)
				}
			}
		}
		d.near("mutual_knn_k2_overlap", overlap)
	}
	if len(s.rows[0]) != len(other.rows[0]) || zeroRows(s) == n {
		d.missing("mean_row_cosine")
		return
	}
	turned := 0.0
	for i, x := range s.rows {
		turned += oddCosine(x, other.rows[i]) / float64(n)
	}
	d.near("mean_row_cosine", turned)
}

// linearCKA is ‖YᵀX‖² / (‖XᵀX‖·‖YᵀY‖) of the rows less their means.
func linearCKA(a, b *oddSet) float64 {
	centred := func(s *oddSet) (rows [][]float64) {
		mean := make([]float64, len(s.rows[0]))
		for _, x := range s.rows {
			for d, v := range x {
				mean[d] += float64(v) / float64(len(s.rows))
			}
		}
		for _, x := range s.rows {
			row := make([]float64, len(x))
			for d, v := range x {
				row[d] = float64(v) - mean[d]
			}
			rows = append(rows, row)
		}
		return rows
	}
	square := func(x, y [][]float64) (sum float64) {
		for i := range x[0] {
			for j := range y[0] {
				v := 0.0
				for r := range x {
					v += x[r][i] * y[r][j]
				}
				sum += v * v
			}
		}
		return sum
	}
	x, y := centred(a), centred(b)
	return square(x, y) / math.Sqrt(square(x, x)*square(y, y))
}

func (o *oddRun) duplicates(s *oddSet) {
	const least = 0.98
	why := ""
	if zeroRows(s) == len(s.rows) {
		why = "no row that is not zero"
	}
	if d, ok := o.either(why, "duplicates", s.name); ok {
		pairs, in := 0, map[int]bool{}
		for i, x := range s.rows {
			for j, y := range s.rows[:i] {
				if oddCosine(x, y) >= least {
					pairs++
					in[i], in[j] = true, true
				}
			}
		}
		d.near("pairs", float64(pairs))
		d.near("grouped", float64(len(in)))
		d.near("zero_rows", float64(zeroRows(s)))
	}
	switch {
	case s == o.normal:
		o.refused("twice", "duplicates", s.name, s.name)
		return
	case len(s.rows[0]) != len(o.normal.rows[0]):
		why = "dimension"
	}
	if d, ok := o.either(why, "duplicates", "normal", s.name); ok {
		leaked := 0
		for _, x := range s.rows {
			if slices.ContainsFunc(o.normal.rows, func(y []float32) bool { return oddCosine(x, y) >= least }) {
				leaked++
			}
		}
		d.near("drop", float64(leaked))
	}
}

func (o *oddRun) rank(s *oddSet) {
	n, why := len(s.rows), ""
	switch {
	case n < 2:
		why = "too few rows"
	case zeroRows(s) == n:
		why = "no row that is not zero"
	}
	d, ok := o.either(why, "rank", s.name, "--by", "outlier")
	if !ok {
		return
	}
	k := min(10, n-1)
	unique, dense := 0.0, 0.0
	for i, x := range s.rows {
		order := ranked(x, s, upTo(n), i, oddCosine)
		unique += (1 - oddCosine(x, s.rows[order[0]])) / float64(n)
		for _, j := range order[:k] {
			dense += oddCosine(x, s.rows[j]) / float64(n*k)
		}
	}
	d.near("uniqueness", unique)
	d.near("density", dense)
	d.near("zero_rows", float64(zeroRows(s)))
	if heap(s) {
		d.near("outliers", 0)
	}
}

func (o *oddRun) selected(s *oddSet) {
	const most = 3
	n, why := len(s.rows), ""
	if zeroRows(s) == n {
		why = "no row that is not zero"
	}
	if d, ok := o.either(why, "select", s.name, "-n", fmt.Sprint(most)); ok {
		d.near("selected", float64(min(most, directions(s))))
		radius := 0.0
		for _, x := range s.rows {
			nearest := 0.0 // a zero row is near to nothing, and need not be
			if length(x) > 0 {
				nearest = math.Inf(1)
				for _, c := range d.list("found") {
					nearest = min(nearest, math.Sqrt(max(0, 2-2*oddCosine(x, s.rows[int(c["row"].(float64))]))))
				}
			}
			radius = max(radius, nearest)
		}
		if got, _ := d.value("radius").(float64); math.Abs(got-radius) > 1e-3 {
			o.Errorf("%s: radius %v, want %v", d.line, got, radius)
		}
	}
	d := o.answer("graph", s.name, "-k", "3", "-o", filepath.Join(o.dir, "graph.npz"))
	d.near("edges", float64(n*min(3, n-1)))
}

func (o *oddRun) cluster(s *oddSet) {
	n, classes, labelled := len(s.rows), s.classes(), s.labelled()
	agreements := func(d oddDocument, missing bool) {
		for _, name := range []string{"nmi", "ami", "ari", "purity"} {
			if (d.value(name) == nil) != missing {
				o.Errorf("%s: %s is %v, and should be missing: %v", d.line, name, d.value(name), missing)
			}
		}
	}
	none := len(labelled) < 2
	agreements(o.answer("cluster", s.name, "-c", "1", "--spherical", "--no-attribute"), true) // says nothing of classes
	why := ""
	if n < 2 {
		why = "fewer rows than clusters"
	}
	if d, ok := o.either(why, "cluster", s.name, "-c", "2", "--no-attribute"); ok {
		agreements(d, none || len(classes) == 1 || len(labelled) == 2 && n == 2)
		if equalRows(s) {
			d.near("objective", 0)
			d.near("largest", float64(n))
			if len(classes) > 1 {
				d.near("nmi", 0)
			}
		}
	}
	if equalRows(s) {
		why = "do not vary"
	}
	if d, ok := o.either(why, "cluster", s.name, "-c", "2", "--pca", "1", "--no-attribute"); ok {
		if v, _ := d.value("kept_variance").(float64); !(v > 0 && v <= 1+1e-9) {
			o.Errorf("%s: %v of the variance kept", d.line, v)
		}
	}
}

func (o *oddRun) report(s *oddSet) {
	page := filepath.Join(o.dir, "report.html")
	for _, args := range [][]string{{s.name}, {"normal", "--test", s.name}} {
		why := refusal(s, s, true)
		if len(args) > 1 {
			why = refusal(o.normal, s, false)
		}
		if _, ok := o.either(why, "report", append(args, "-k", "1,5", "--map-rows", "50", "-o", page)...); ok {
			if bad := unlike(o.mustRead(page)); bad != "" {
				o.Errorf("report %v shows %s", args, bad)
			}
		}
	}
}

func (o *oddRun) index(s *oddSet) {
	n := len(s.rows)
	o.brief = s != o.normal
	o.answer("index build", s.name).near("rows", float64(n))
	o.brief = false
	d := o.answer("query", s.name, "--from", s.name, "--recall", "0.9", "-k", "3", "--exclude-self")
	if len(d.lines) != n {
		o.Errorf("%s: %d answers to %d rows", d.line, len(d.lines), n)
		return
	}
	for i, line := range d.lines {
		hits, _ := line["neighbours"].([]any)
		order := ranked(s.rows[i], s, upTo(n), i, oddCosine)
		if s == o.normal {
			continue // several lists, of which not all are read
		}
		if len(hits) != min(3, n-1) {
			o.Errorf("%s: row %d has %d neighbours", d.line, i, len(hits))
			continue
		}
		for rank, h := range hits {
			o.near(fmt.Sprint(d.line, " row ", i), "score", h.(map[string]any)["score"], oddCosine(s.rows[i], s.rows[order[rank]]))
		}
	}
	if human := o.run("query", s.name, "--row", "0", "-k", "3"); human.code != exitOK || strings.TrimSpace(human.out) == "" {
		o.Errorf("query %s --row 0: exit %d %s%s", s.name, human.code, human.out, human.err)
	}
}
