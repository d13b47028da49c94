package cli

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
)

// What each command should say of an odd set.

func (o *oddRun) checkKNN(d oddDocument, results []map[string]any, gallery, queries *oddSet, leave bool, p preset) {
	o.Helper()
	voters := len(gallery.labelled())
	if leave {
		voters--
	}
	for _, at := range results {
		k := int(at["k"].(float64))
		asked := k
		if slices.Contains(p.ks, 0) {
			asked = 0
		}
		want := accuracy(gallery, queries, leave, p, asked)
		got := right{want.queries, int(at["correct1"].(float64)), int(at["correct5"].(float64)), int(at["correct5_voted"].(float64))}
		if got != want {
			o.Errorf("%s: k=%d has right %+v, want %+v", d.line, k, got, want)
		}
		o.near(d.line, "top1", at["top1"], top1Of(want))
		if e := int(at["effective_k"].(float64)); e != min(k, voters) {
			o.Errorf("%s: k=%d is effectively %d of %d", d.line, k, e, voters)
		}
	}
}

func (o *oddRun) knn(s *oddSet) {
	bank := s.name
	for i, p := range presetRules() {
		o.brief = i > 0
		if d, ok := o.either(refusal(s, s, true), "eval knn", "--train", bank, "--leave-one-out", "--protocol", p.name); ok {
			o.checkKNN(d, d.list("results"), s, s, true, p)
		}
		if d, ok := o.either(refusal(o.normal, s, false), "eval knn", "--train", "normal", "--test", bank, "--protocol", p.name); ok {
			o.checkKNN(d, d.list("results"), o.normal, s, false, p)
		}
	}
	o.brief = false
	dino := presetRules()[0]
	if d, ok := o.either(refusal(s, o.normal, false), "eval knn", "--train", bank, "--test", "normal", "-k", "1,5,100", "--per-class"); ok {
		o.checkKNN(d, d.list("results"), s, o.normal, false, dino)
		if len(s.classes()) <= 5 {
			d.notes("top-5 is right for every query of one of them")
		}
	}
	// The nearest row alone: where all are equally near, the answer says what it is worth.
	if d, ok := o.either(refusal(o.normal, s, false), "eval knn", "--train", "normal", "--test", bank, "-k", "1"); ok && zeroRows(s) > 0 {
		d.notes("equally near to all of their neighbours")
	}
	// Several checkpoints are refused as one, with the bank that is to blame.
	if d, ok := o.either(refusal(s, s, false), "eval knn", "--train", "three,"+bank, "--test", "three,"+bank, "-k", "5"); ok {
		list := d.list("results")
		o.checkKNN(d, list[len(list)-1:], s, s, false, dino)
	}
}

func (o *oddRun) fewshot(s *oddSet) {
	// So many shots that all rows vote, and nothing is left to the draw.
	d, ok := o.either(refusal(s, o.normal, false), "eval fewshot", "--train", s.name, "--test", "normal", "--per-class-shots", "100", "--tries", "2")
	for _, at := range d.list("results") {
		if k := at["k"].(float64); ok {
			o.near(d.line, "top1", at["top1"], top1Of(accuracy(s, o.normal, false, presetRules()[0], int(k))))
			o.near(d.line, "top1_std", at["top1_std"], 0)
		}
	}
	if d, ok := o.either(refusal(o.normal, s, false), "eval fewshot", "--train", "normal", "--test", s.name, "--per-class-shots", "1", "--tries", "1"); ok {
		o.near(d.line, "effective_k", d.list("results")[0]["effective_k"], 1)
	}
}

func (o *oddRun) pseudo(s *oddSet) {
	why := ""
	switch known := s.classes(); { // labels of the rows that are asked do not matter
	case len(s.rows[0]) != len(o.normal.rows[0]):
		why = "dimension"
	case len(known) == 0:
		why = "no labelled rows"
	case len(known) == 1:
		why = "labels alone decide"
	}
	o.either(why, "eval pseudo-labels", "--train", s.name, "--test", "normal")
	if why = refusal(o.normal, s, false); why != "dimension" {
		d := o.answer("eval pseudo-labels", "--train", "normal", "--test", s.name)
		d.near("coverage", 1)
		if why == "" {
			d.near("precision", top1Of(accuracy(o.normal, s, false, presetRules()[0], 20)))
		} else if v := d.value("precision"); v != nil { // nothing to compare with, or nothing that could be right
			o.Errorf("%s: precision %v", d.line, v)
		}
	}
}

func (o *oddRun) retrieval(s *oddSet) {
	check := func(d oddDocument, want retrieved) {
		r := d.list("results")[0]
		for name, v := range map[string]float64{
			"queries": want.queries, "map_full": want.ir, "map_trapezoid": want.trapezoid, "R@1": want.first1, "P@5": want.precision5, "MRR": want.mrr,
		} {
			o.near(d.line, name, r[name], v)
		}
	}
	if d, ok := o.either(refusal(s, s, true), "eval retrieval", "--gallery", s.name, "--leave-one-out"); ok {
		check(d, retrieval(s, s, true))
		if len(s.labelled()) <= 10 {
			d.notes("can be ranked")
		}
	}
	if d, ok := o.either(refusal(o.normal, s, false), "eval retrieval", "--gallery", "normal", "--queries", s.name); ok {
		check(d, retrieval(o.normal, s, false))
	}
	// Whitening learnt from rows that do not differ is none.
	if len(s.rows[0]) > 1 {
		why := ""
		switch {
		case len(s.rows) == 1:
			why = "directions need two at least"
		case directions(s) <= 1 && slices.Contains([]string{"same", "clash", "half", "allzero"}, s.name):
			why = "are equal"
		}
		o.either(why, "eval retrieval", "--gallery", "normal", "--queries", "eight", "--whiten", "dino", "--whiten-from", s.name)
	}
	// Copies: every row is its own, and equal pairs that are wrong come first. Revisited:
	// row 0 is easy, and row 0 is junk.
	path := filepath.Join(o.dir, "truth")
	write(o.T, path+".csv", "0,0\n")
	d := o.answer("eval retrieval", "--gallery", s.name, "--queries", s.name, "--copies", path+".csv", "-k", "100")
	before := 1.0 // pairs that score as much as the true one, itself included
	self := oddCosine(s.rows[0], s.rows[0])
	for i, x := range s.rows {
		for j, y := range s.rows {
			if i+j > 0 && oddCosine(x, y) > self-1e-9 {
				before++
			}
		}
	}
	if v, _ := d.list("results")[0]["uAP"].(float64); v < 1/before-1e-9 || v > 1 { // float32 tells some of the equal pairs apart
		o.Errorf("%s: uAP %v, with %v pairs as near as the true one", d.line, v, before)
	}
	write(o.T, path+".json", `{"gnd":[{"easy":[0],"hard":[],"junk":[]}]}`)
	d = o.answer("eval retrieval", "--gallery", s.name, "--queries", s.name, "--ground-truth", path+".json")
	place := slices.Index(ranked(s.rows[0], s, upTo(len(s.rows)), -1, oddCosine), 0)
	o.near(d.line, "map_full", d.list("results")[0]["map_full"], 1/float64(place+1))
	for text, why := range map[string]string{`{"gnd":[{"easy":[0],"junk":[0]}]}`: "two of its lists", `{"gnd":[{"junk":[0]}]}`: "anything to find"} {
		write(o.T, path+".json", text)
		o.refused(why, "eval retrieval", "--gallery", s.name, "--queries", s.name, "--ground-truth", path+".json")
	}
}

// upTo is 0, 1, … n-1.
func upTo(n int) (list []int) {
	for i := range n {
		list = append(list, i)
	}
	return list
}

func (o *oddRun) clusters(s *oddSet) {
	classes, labelled := s.classes(), s.labelled()
	why := ""
	if len(classes) == 0 {
		why = "no labelled rows"
	}
	agreements := []string{"nmi_arithmetic", "nmi_geometric", "ami", "ari", "purity", "hungarian_acc", "nmi_mean"}
	if d, ok := o.either(why, "eval clusters", s.name, "--seeds", "2"); ok {
		r := oddDocument{o, d.line, d.list("results")[:1]}
		switch {
		case len(classes) == 1 || len(labelled) == len(classes) && directions(s) == len(s.rows): // as many clusters as rows
			r.missing(agreements...)
		case directions(s)+min(zeroRows(s), 1) == 1: // one heap, which has nothing of the classes
			r.near("nmi_arithmetic", 0)
			r.near("ari", 0)
			r.missing("silhouette_cosine")
		case slices.Contains([]string{"three", "gaps", "some", "lone", "pairs", "dim1"}, s.name): // well apart
			for _, name := range agreements {
				r.near(name, 1)
			}
		case s.name == "pairsclash": // clusters are pairs, of which each has half of two classes
			for name, want := range map[string]float64{"nmi_arithmetic": 0.5, "purity": 0.5, "hungarian_acc": 0.5, "silhouette_cosine": 1} {
				r.near(name, want)
			}
		}
		if n := len(s.rows); n < 2 || len(classes) == 1 || directions(s)+min(zeroRows(s), 1) == 1 || directions(s) == n && len(classes) == n {
			r.missing("seeds_nmi", "seeds_ari")
		}
	}
	if len(s.rows) == 1 {
		o.refused("fewer rows than clusters", "eval clusters", s.name, "-c", "2")
	}
}

func (o *oddRun) groups(s *oddSet) {
	why := refusal(s, s, true)
	if why == "no labelled rows" {
		why = "unusable groups"
	}
	d, ok := o.either(why, "eval groups", "--gallery", s.name, "--leave-one-out", "--by", "label,g,label+g", "--min-n", "1", "-k", "1,3")
	if !ok {
		return
	}
	type tally struct{ n, matched, hits1, hits3, hit3 float64 }
	groups := map[string]*tally{}
	k3 := min(3, len(s.labelled())-1)
	for _, i := range s.labelled() {
		g := map[bool]string{true: "single", false: "rest"}[i == 0]
		order := ranked(s.rows[i], s, s.labelled(), i, oddCosine)
		hits := 0.0
		for _, j := range order[:k3] {
			if s.label(j) == s.label(i) {
				hits++
			}
		}
		for _, name := range []string{"all/all", fmt.Sprint("label/", s.label(i)), "g/" + g, fmt.Sprintf("label+g/%d × %s", s.label(i), g)} {
			if groups[name] == nil {
				groups[name] = &tally{}
			}
			at := groups[name]
			at.n++
			at.hits3 += hits
			at.hit3 += min(1, hits)
			if s.label(order[0]) == s.label(i) {
				at.hits1++
			}
			if !s.lone(i) {
				at.matched++
			}
		}
	}
	seen := 0
	for _, r := range d.list("results") {
		name := fmt.Sprint(r["by"], "/", r["group"])
		want := groups[name]
		if want == nil {
			if r["n"] != 0.0 || r["P@1"] != nil {
				o.Errorf("%s: group %s: %v, and nobody is in it", d.line, name, r)
			}
			continue
		}
		seen++
		o.near(d.line, name+" n", r["n"], want.n)
		if want.matched == 0 {
			if r["P@1"] != nil || r["hit@3"] != nil {
				o.Errorf("%s: group %s could not hit, and has %v", d.line, name, r)
			}
			continue
		}
		o.near(d.line, name+" P@1", r["P@1"], want.hits1/want.n)
		o.near(d.line, name+" P@3", r["P@3"], want.hits3/want.n/float64(k3))
		o.near(d.line, name+" hit@3", r["hit@3"], want.hit3/want.n)
		low, high := r["hit@3_low"].(float64), r["hit@3_high"].(float64)
		if p := want.hit3 / want.n; !(low <= p+1e-12 && p-1e-12 <= high && low >= 0 && high <= 1 && high-low > 0) {
			o.Errorf("%s: group %s: %v is not within %v and %v", d.line, name, p, low, high)
		}
	}
	if seen != len(groups) {
		o.Errorf("%s: %d groups of %d", d.line, seen, len(groups))
	}
	for _, gap := range d.list("gaps") {
		low, high, n := math.Inf(1), math.Inf(-1), 0
		for name, at := range groups {
			if by, _, _ := strings.Cut(name, "/"); by == gap["by"] && at.matched > 0 {
				p := at.hits1 / at.n
				if gap["k"] == 3.0 {
					p = at.hits3 / at.n / float64(k3)
				}
				low, high, n = min(low, p), max(high, p), n+1
			}
		}
		if n < 2 {
			if gap["P_gap"] != nil {
				o.Errorf("%s: a gap of %d groups: %v", d.line, n, gap)
			}
			continue
		}
		o.near(d.line, "P_gap", gap["P_gap"], high-low)
		if high > 0 {
			o.near(d.line, "P_ratio", gap["P_ratio"], low/high)
		}
	}
	// The floor: no group has so many.
	d = o.answer("eval groups", "--gallery", s.name, "--leave-one-out", "--min-n", "1000")
	for _, r := range d.list("results") {
		if r["P@1"] != nil {
			o.Errorf("%s: told below the floor: %v", d.line, r)
		}
	}
}

func (o *oddRun) robustness(s *oddSet) {
	why := refusal(o.normal, s, false)
	if d, ok := o.either(why, "eval robustness", "--train", "normal", "--test", s.name, "--perturbed", s.name); ok {
		for _, r := range d.list("results") {
			o.near(d.line, "top1", r["top1"], top1Of(accuracy(o.normal, s, false, presetRules()[0], 20)))
			o.near(d.line, "drop", r["drop"], 0)
			o.near(d.line, "neighbours_kept", r["neighbours_kept"], 1)
		}
		o.checkRadii(d, o.normal, s)
	}
	why = refusal(s, s, false)
	if why == "" && len(s.rows[0]) == 1 {
		why = "cannot turn"
	}
	if d, ok := o.either(why, "eval robustness", "--train", s.name, "--test", s.name); ok {
		o.checkRadii(d, s, s)
		d.notes("one bank")
	}
}

func (o *oddRun) checkRadii(d oddDocument, gallery, queries *oddSet) {
	radius, _ := d.value("radius").(map[string]any)
	angles := flips(gallery, queries)
	o.near(d.line, "queries", radius["queries"], float64(len(angles)))
	if len(angles) == 0 {
		if radius["nearest_flip_p50_degrees"] != nil {
			o.Errorf("%s: zero rows have a radius: %v", d.line, radius)
		}
		return
	}
	for _, p := range []int{5, 50, 95} {
		name := fmt.Sprintf("nearest_flip_p%d_degrees", p)
		if got, _ := radius[name].(float64); math.Abs(got-angles[(len(angles)-1)*p/100]) > 1e-3 {
			o.Errorf("%s: %s is %v, want %v", d.line, name, got, angles[(len(angles)-1)*p/100])
		}
	}
}

func (o *oddRun) labelErrors(s *oddSet) {
	const k = 5
	why := refusal(s, s, true)
	want, judged := 0, 0
	if why == "" {
		if want, judged = doubted(s, k); judged == 0 {
			why = "no label of bank"
		}
	}
	if d, ok := o.either(why, "label-errors", s.name, "-k", fmt.Sprint(k)); ok {
		d.near("candidates", float64(want))
	}
}
