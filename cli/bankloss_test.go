package cli

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"membank/store/dump"
)

// drawn are rows of unit vectors.
func drawn(seed uint64, rows, dim int) []float32 {
	r := rand.New(rand.NewPCG(seed, 5))
	data := make([]float32, rows*dim)
	for i := range rows {
		norm := 0.0
		for d := range dim {
			x := r.NormFloat64()
			data[i*dim+d] = float32(x)
			norm += x * x
		}
		for d := range dim {
			data[i*dim+d] /= float32(math.Sqrt(norm))
		}
	}
	return data
}

func dots(a, b []float32, dim int) [][]float64 {
	out := make([][]float64, len(a)/dim)
	for i := range out {
		out[i] = make([]float64, len(b)/dim)
		for j := range out[i] {
			for d := range dim {
				out[i][j] += float64(a[i*dim+d]) * float64(b[j*dim+d])
			}
		}
	}
	return out
}

func answerOf[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

func close6(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-6*max(1, math.Abs(want))) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// plainSinkhorn is ssl.md's formula: exp, total, three times rows and columns.
func plainSinkhorn(scores [][]float64, epsilon float64, iterations int) [][]float64 {
	b, k := len(scores), len(scores[0])
	q, total := make([][]float64, b), 0.0
	for i := range q {
		q[i] = make([]float64, k)
		for j := range q[i] {
			q[i][j] = math.Exp(scores[i][j] / epsilon)
			total += q[i][j]
		}
	}
	for i := range q {
		for j := range q[i] {
			q[i][j] /= total
		}
	}
	for range iterations {
		for j := range k {
			sum := 0.0
			for i := range q {
				sum += q[i][j]
			}
			for i := range q {
				q[i][j] /= sum * float64(k)
			}
		}
		for i := range q {
			sum := 0.0
			for _, x := range q[i] {
				sum += x
			}
			for j := range q[i] {
				q[i][j] /= sum * float64(b)
			}
		}
	}
	for i := range q {
		for j := range q[i] {
			q[i][j] *= float64(b)
		}
	}
	return q
}

func plainSoftmax(s []float64, t float64) []float64 {
	out, sum := make([]float64, len(s)), 0.0
	for i, x := range s {
		out[i] = math.Exp(x / t)
		sum += out[i]
	}
	for i := range out {
		out[i] /= sum
	}
	return out
}

// The queue takes part once it is full, and the loss is that of the other crop.
func TestAssignIsSinkhorn(t *testing.T) {
	database(t)
	out := t.TempDir()
	const dim, k = 4, 3
	z, other, c := drawn(1, 5, dim), drawn(2, 5, dim), drawn(3, k, dim)
	older := drawn(4, 6, dim)
	zf, of, cf := arrayFile(t, out, "z.npy", z, 5, dim), arrayFile(t, out, "o.npy", other, 5, dim), arrayFile(t, out, "c.npy", c, k, dim)
	must(t, "bank", "init", "q", "--kind", "queue", "--rows", "6", "--dim", "4")
	check := func(rows int, args ...string) {
		t.Helper()
		got := answerOf[assigned](t, must(t, append([]string{"bank", "assign", "q", "--vectors", zf, "--prototypes", cf, "--other", of, "--json"}, args...)...))
		all := append(append([]float32{}, older[:rows*dim]...), z...)
		want := plainSinkhorn(dots(all, c, dim), .05, 3)[rows:]
		loss := 0.0
		for i, line := range dots(other, c, dim) {
			p := plainSoftmax(line, .1)
			for j := range p {
				close6(t, "assignment", got.Assignments[i][j], want[i][j])
				loss -= want[i][j] * math.Log(p[j]) / 5
			}
		}
		close6(t, "loss", *got.Loss, loss)
		if got.Queue != rows {
			t.Errorf("%d rows of the queue took part, want %d", got.Queue, rows)
		}
	}
	check(0)
	must(t, "bank", "push", "q", "--vectors", arrayFile(t, out, "p.npy", older[:4*dim], 4, dim))
	check(0)
	check(4, "--queue", "written")
	must(t, "bank", "push", "q", "--vectors", arrayFile(t, out, "p.npy", older[4*dim:], 2, dim))
	check(6)
	check(0, "--queue", "none")
	for _, args := range [][]string{{"--queue", "some"}, {"--epsilon", "0"}, {"--iterations", "x"}, {"--prototypes", filepath.Join(out, "none.npy")}, {"-o", "q.csv"}} {
		if r := run(t, append([]string{"bank", "assign", "q", "--vectors", zf, "--prototypes", cf}, args...)...); r.code == exitOK || r.code == exitFailure {
			t.Errorf("%v: exit %d: %s", args, r.code, r.err)
		}
	}
	if r := run(t, "bank", "assign", "q", "--vectors", zf); r.code == exitOK || !strings.Contains(r.err, "no prototypes") {
		t.Errorf("without prototypes: exit %d %s", r.code, r.err)
	}
}

func TestSmoothingAndConsistencyAreTheFormulas(t *testing.T) {
	database(t)
	out := t.TempDir()
	const dim, classes, n = 4, 3, 7
	x, y, rows := drawn(1, 2, dim), drawn(2, 2, dim), drawn(3, n, dim)
	memory := make([]float32, n*classes)
	labels := make([]int64, n)
	for i := range labels {
		labels[i] = int64(i % classes)
		memory[i*classes+i%classes] = 1
	}
	labels[4] = -1
	p := []float32{.5, .25, .25, .125, .125, .75}
	xf, yf, pf := arrayFile(t, out, "x.npy", x, 2, dim), arrayFile(t, out, "y.npy", y, 2, dim), arrayFile(t, out, "p.npy", p, 2, classes)
	rf, lf := arrayFile(t, out, "r.npy", rows, n, dim), arrayFile(t, out, "l.npy", labels)
	must(t, "bank", "init", "q", "--kind", "queue", "--rows", "9", "--dim", "4,3") // two positions stay free
	must(t, "bank", "push", "q", "--vectors", rf, "--vectors", arrayFile(t, out, "m.npy", memory, n, classes), "--labels", lf)
	scores, back := dots(x, rows, dim), dots(y, rows, dim)
	got := answerOf[smoothed](t, must(t, "bank", "smooth", "q", "--vectors", xf, "--probabilities", pf, "-T", "0.2", "--alpha", "0.8", "--threshold", "0.6", "--json"))
	sim := answerOf[smoothed](t, must(t, "bank", "smooth", "q", "--vectors", xf, "--probabilities", pf, "-T", "0.2", "--alpha", "0.8", "--method", "simmatch", "--json"))
	for i := range 2 {
		a := plainSoftmax(scores[i], .2)
		voting := 0.0
		for j, w := range a {
			if labels[j] >= 0 {
				voting += w
			}
		}
		for c := range classes {
			co, si := .8*float64(p[i*classes+c]), .8*float64(p[i*classes+c])
			for j, w := range a {
				co += .2 * w * float64(memory[j*classes+c])
				if labels[j] == int64(c) {
					si += .2 * w / voting
				}
			}
			close6(t, "CoMatch", got.Probabilities[i][c], co)
			close6(t, "SimMatch", sim.Probabilities[i][c], si)
		}
	}
	if got.Classes[1] != 2 || got.Accepted[0] || !got.Accepted[1] {
		t.Errorf("classes %v accepted %v", got.Classes, got.Accepted)
	}
	co2, ressl := 0.0, 0.0
	for i := range 2 {
		dot := dots(x[i*dim:(i+1)*dim], y[i*dim:(i+1)*dim], dim)[0][0]
		a, b := plainSoftmax(append([]float64{dot}, scores[i]...), .05), plainSoftmax(append([]float64{dot}, back[i]...), .05)
		for j := range a {
			co2 += .5 / 2 / 2 * (a[j]*math.Log(a[j]/b[j]) + b[j]*math.Log(b[j]/a[j]))
		}
		key, query := plainSoftmax(back[i], .04), plainSoftmax(scores[i], .1)
		for j := range key {
			ressl -= key[j] * math.Log(query[j]) / 2
		}
	}
	logits := dots(x, y, dim)
	contrastive, invariance := 0.0, 0.0
	for i := range 2 {
		r, c := plainSoftmax(logits[i], .1), plainSoftmax([]float64{logits[0][i], logits[1][i]}, .1)
		contrastive -= (math.Log(r[i]) + math.Log(c[i])) / 2
		for j := range r {
			invariance += 3 * r[j] * math.Log(r[j]/c[j]) / 2
		}
	}
	ask := func(args ...string) consistent {
		return answerOf[consistent](t, must(t, append([]string{"bank", "consistency", "q", "--vectors", xf, "--other", yf, "--json"}, args...)...))
	}
	close6(t, "CO2", ask("--alpha", "0.5").Loss, co2)
	close6(t, "ReSSL", ask("--kind", "ressl").Loss, ressl)
	relic := ask("--kind", "relic", "--alpha", "3")
	close6(t, "ReLIC", *relic.Contrastive, contrastive)
	close6(t, "ReLIC", *relic.Invariance, invariance)
	close6(t, "ReLIC", relic.Loss, contrastive+invariance)
	for _, args := range [][]string{
		{"consistency", "q", "--vectors", xf}, {"consistency", "q", "--vectors", xf, "--other", rf}, {"consistency", "q", "--vectors", xf, "--other", yf, "--kind", "kl"},
		{"smooth", "q", "--vectors", xf, "--probabilities", yf}, {"smooth", "q", "--vectors", rf, "--probabilities", pf}, {"transform", "q", "--vectors", xf, "--other", yf},
		{"transform", "q", "--vectors", xf, "--other", rf, "-o", filepath.Join(out, "ft.npz")},
	} {
		if r := run(t, append([]string{"bank"}, args...)...); r.code == exitOK || r.code == exitFailure {
			t.Errorf("%v: exit %d: %s", args, r.code, r.err)
		}
	}
}

func arraysOf(t *testing.T, path string) map[string][]float64 {
	t.Helper()
	all := map[string][]float64{}
	for _, name := range []string{"queries", "keys", "negatives", "lambda", "beta", "permutation", "labels", "centroids_0"} {
		a, err := dump.OpenArray(path, dump.Options{Array: name})
		if err != nil {
			continue
		}
		if a.Kind() == 'i' {
			ints, err := a.AllInts(-1 << 62)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range ints {
				all[name] = append(all[name], float64(x))
			}
			a.Close()
			continue
		}
		part := make([]float32, a.Len())
		for at := 0; at < len(part); {
			n, err := a.Floats(part[at:])
			if err != nil {
				t.Fatal(err)
			}
			at += n
		}
		a.Close()
		for _, x := range part {
			all[name] = append(all[name], float64(x))
		}
	}
	return all
}

func TestTransformMixesWhatItSays(t *testing.T) {
	database(t)
	out := t.TempDir()
	const dim, n = 4, 7
	q, k, rows := drawn(1, 2, dim), drawn(2, 2, dim), drawn(3, n, dim)
	qf, kf := arrayFile(t, out, "q.npy", q, 2, dim), arrayFile(t, out, "k.npy", k, 2, dim)
	must(t, "bank", "init", "m", "--kind", "queue", "--rows", "9", "--dim", "4", "--seed", "3")
	must(t, "bank", "push", "m", "--vectors", arrayFile(t, out, "r.npy", rows, n, dim))
	path := filepath.Join(out, "ft.npz")
	must(t, "bank", "transform", "m", "--vectors", qf, "--other", kf, "--step", "5", "-o", path)
	got := arraysOf(t, path)
	l, b := got["lambda"][0], got["beta"][0]
	if len(got["lambda"]) != 1 || l <= 1 || l >= 2 || b <= 0 || b >= 1 || len(got["permutation"]) != n || len(got["negatives"]) != n*dim {
		t.Fatalf("lambda %v beta %v permutation %v", got["lambda"], got["beta"], got["permutation"])
	}
	for i := range q {
		close6(t, "query", got["queries"][i], l*float64(q[i])+(1-l)*float64(k[i]))
		close6(t, "key", got["keys"][i], l*float64(k[i])+(1-l)*float64(q[i]))
	}
	seen := map[float64]bool{}
	for i, p := range got["permutation"] {
		seen[p] = true
		for d := range dim {
			close6(t, "negative", got["negatives"][i*dim+d], b*float64(rows[i*dim+d])+(1-b)*float64(rows[int(p)*dim+d]))
		}
	}
	if len(seen) != n {
		t.Errorf("not a permutation: %v", got["permutation"])
	}
	must(t, "bank", "transform", "m", "--vectors", qf, "--other", kf, "--step", "6", "-o", path)
	if arraysOf(t, path)["lambda"][0] == l {
		t.Error("another step drew the same number")
	}
}

// ODC, PCL and DeepCluster-v2 from the command line, against sums in float64.
func TestPrototypeVerbs(t *testing.T) {
	database(t)
	out := t.TempDir()
	const dim, n, k = 4, 24, 2
	rows, labels := drawn(1, n, dim), make([]int64, n)
	for i := range labels {
		labels[i] = int64(i % k)
	}
	rf, lf := arrayFile(t, out, "r.npy", rows, n, dim), arrayFile(t, out, "l.npy", labels)
	must(t, "bank", "init", "odc", "--vectors", rf, "--prototypes", "2")
	must(t, "bank", "odc-start", "odc", "--labels", lf)
	means := make([][]float64, k)
	for c := range means {
		means[c] = make([]float64, dim)
		for i := range n {
			if labels[i] == int64(c) {
				for d := range dim {
					means[c][d] += float64(rows[i*dim+d]) / (n / k)
				}
			}
		}
	}
	centroids := answerOf[[]bankRow](t, must(t, "bank", "get", "odc", "--centroids", "--json"))
	phi := make([]float64, k)
	for c := range k {
		for d := range dim {
			close6(t, "mean", float64(centroids[c].Vector[d]), means[c][d])
		}
		for i := range n {
			if labels[i] == int64(c) {
				square := 0.0
				for d := range dim {
					e := float64(rows[i*dim+d]) - means[c][d]
					square += e * e
				}
				phi[c] += math.Sqrt(square) / (n / k) / math.Log(n/k+10)
			}
		}
	}
	low, high := min(phi[0], phi[1]), max(phi[0], phi[1])
	for c := range phi { // numpy's percentiles of two numbers
		phi[c] = min(max(phi[c], low+.1*(high-low)), low+.9*(high-low))
	}
	mean := (phi[0] + phi[1]) / 2
	got := answerOf[concentrated](t, must(t, "bank", "concentrations", "odc", "-T", "0.3", "--json"))
	for c := range phi {
		phi[c] *= .3 / mean
		close6(t, "phi", got.Concentrations[c], phi[c])
	}
	pf := arrayFile(t, out, "phi.npy", phi)
	one := arrayFile(t, out, "one.npy", rows[:dim], 1, dim)
	loss := answerOf[struct{ Loss float64 }](t, must(t, "bank", "loss", "odc", "--kind", "prototype", "--vectors", one, "--positives", "1", "-n", "1", "--concentrations", pf, "--json"))
	s := [k]float64{}
	for c := range k {
		for d := range dim {
			s[c] += float64(rows[d]) * means[c][d] / phi[c]
		}
	}
	close6(t, "PCL", loss.Loss, math.Log(math.Exp(s[0])+math.Exp(s[1]))-s[1])

	step := answerOf[odcStepped](t, must(t, "bank", "odc", "odc", "--ids", "0", "--vectors", one, "--min-cluster", "1", "--loss-weights", "--step", "9", "--json"))
	want := int64(0)
	if s[1]*phi[1] > s[0]*phi[0] {
		want = 1
	}
	if step.Labels[0] != want || step.Step != 9 {
		t.Errorf("%+v, want label %d", step, want)
	}
	sizes := []float64{n/k - float64(want), n/k + float64(want)}
	sum := 1/math.Sqrt(sizes[0]) + 1/math.Sqrt(sizes[1])
	close6(t, "weight", step.Weights[0], 1/math.Sqrt(sizes[0])/sum)

	path := filepath.Join(out, "heads.npz")
	r := answerOf[reclustered](t, must(t, "bank", "recluster", "odc", "--heads", "3,2", "--epoch", "4", "-o", path, "--json"))
	arrays := arraysOf(t, path)
	if r.Samples != n || len(r.Heads) != 2 || len(arrays["labels"]) != 2*n || len(arrays["centroids_0"]) != 3*dim {
		t.Fatalf("%+v, %d labels", r, len(arrays["labels"]))
	}
	for c := range 3 {
		norm := 0.0
		for d := range dim {
			norm += arrays["centroids_0"][c*dim+d] * arrays["centroids_0"][c*dim+d]
		}
		close6(t, "norm", norm, 1)
	}
	current := answerOf[[]bankRow](t, must(t, "bank", "get", "odc", "--json"))
	for i := range n {
		best, most := 0, math.Inf(-1)
		for c := range 3 {
			dot := 0.0
			for d := range dim {
				dot += float64(current[i].Vector[d]) * arrays["centroids_0"][c*dim+d]
			}
			if dot > most+1e-6 {
				best, most = c, dot
			}
		}
		if arrays["labels"][i] != float64(best) {
			t.Errorf("row %d is %v, want %d", i, arrays["labels"][i], best)
		}
	}
	for _, args := range [][]string{
		{"odc", "odc", "--ids", "99", "--vectors", one}, {"odc", "odc", "--vectors", one}, {"odc-start", "odc"}, {"odc-start", "odc", "--labels", pf},
		{"recluster", "odc"}, {"recluster", "odc", "--heads", "3,x"}, {"recluster", "odc", "--heads", "3", "--absent", "4"},
		{"concentrations", "odc", "--labels", rf}, {"loss", "odc", "--kind", "prototype", "--vectors", one, "--positives", "1", "-n", "2", "--concentrations", pf},
		{"loss", "odc", "--kind", "infonce", "--z", "ema", "--vectors", one, "--positives", "1", "-n", "2"},
	} {
		if r := run(t, append([]string{"bank"}, args...)...); r.code == exitOK || r.code == exitFailure {
			t.Errorf("%v: exit %d: %s", args, r.code, r.err)
		}
	}
}
