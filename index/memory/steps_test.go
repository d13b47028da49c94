package memory

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"membank/simd"
	"membank/store/dump"
)

// trace is what a test did for some steps, and what came of it.
type trace struct {
	keepOld            []float64
	compound           []int64
	slotsInit          []float32
	slotsIDs           []int64
	slotsRows          []float32
	slotsFirst         []int64 // first id of each step, and their number
	slotsState         []float32
	queueInit          []float32
	queueRows          []float32
	queueFirst         []int64
	queueState         []float32
	cursor             []int64
	scores             []float32
	nceLoss, nceZ      []float64
	infoNCE            []float64
	swavQueue, swavNew []float32
	swavQ              []float64
}

const (
	traceSlots, traceDim     = 40, 6
	traceQueue, traceWidth   = 24, 5
	traceAnchors, traceK     = 4, 6
	traceOld, traceNew       = 3, 5
	tracePrototypes          = 4
	traceSteps, traceBankRow = 1000, 1000
)

// follow does random steps and writes everything down.
func follow(t *testing.T) *trace {
	t.Helper()
	r := generator(11)
	s := mustSlots(t, nil, Config{Rows: traceSlots, Views: []View{{Dim: traceDim, Init: InitUniform}}, Seed: 5})
	q := mustQueue(t, nil, Config{Rows: traceQueue, Views: []View{{Dim: traceWidth}}, Seed: 6})
	n := mustCreate(t, nil, "", Config{Kind: KindSlots, Rows: traceBankRow, Views: []View{{Dim: 1}}}, CreateOptions{})
	tr := &trace{slotsInit: slices.Clone(s.views[0].slab.data), queueInit: slices.Clone(q.views[0].slab.data)}
	for range traceSteps {
		ids := make([]int64, 1+r.IntN(30))
		for i := range ids {
			ids[i] = int64(r.IntN(traceSlots))
		}
		rows := unit(random(r, len(ids), traceDim))
		o := UpdateOptions{KeepOld: []float32{0, 0.5, 0.9}[r.IntN(3)], Compound: r.IntN(4) == 0}
		if r.IntN(10) == 0 { // a zero sum
			for d, x := range s.views[0].row(ids[0]) {
				rows.Row(0)[d] = -x
			}
			o.KeepOld = 0.5
		}
		tr.keepOld, tr.compound = append(tr.keepOld, float64(o.KeepOld)), append(tr.compound, map[bool]int64{true: 1}[o.Compound])
		tr.slotsFirst = append(tr.slotsFirst, int64(len(tr.slotsIDs)))
		tr.slotsIDs, tr.slotsRows = append(tr.slotsIDs, ids...), append(tr.slotsRows, rows.Data...)
		mustUpdate(t, s, ids, rows, o)
		tr.slotsState = append(tr.slotsState, s.views[0].slab.data...)

		batch := random(r, r.IntN(traceQueue+9), traceWidth)
		tr.queueFirst = append(tr.queueFirst, int64(len(tr.queueRows)/traceWidth))
		tr.queueRows = append(tr.queueRows, batch.Data...)
		w := mustPush(t, q, batch, PushOptions{})
		tr.queueState, tr.cursor = append(tr.queueState, q.views[0].slab.data...), append(tr.cursor, w.Cursor)

		scores := simd.NewMatrix(traceAnchors, 1+traceK)
		for i := range scores.Data {
			scores.Data[i] = float32(2*r.Float64() - 1)
		}
		l, err := n.NCE(background, scores, NCEOptions{Rule: ZEMA})
		if err != nil {
			t.Fatal(err)
		}
		info, err := InfoNCE(scores, .07)
		if err != nil {
			t.Fatal(err)
		}
		tr.scores = append(tr.scores, scores.Data...)
		tr.nceLoss, tr.nceZ, tr.infoNCE = append(tr.nceLoss, l.Loss), append(tr.nceZ, l.Z), append(tr.infoNCE, info.Loss)

		prototypes := unit(random(r, tracePrototypes, 8))
		old, err := PrototypeScores(unit(random(r, traceOld, 8)), prototypes)
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := PrototypeScores(unit(random(r, traceNew, 8)), prototypes)
		if err != nil {
			t.Fatal(err)
		}
		a, err := Sinkhorn(old, fresh, SinkhornOptions{})
		if err != nil {
			t.Fatal(err)
		}
		tr.swavQueue, tr.swavNew, tr.swavQ = append(tr.swavQueue, old.Data...), append(tr.swavNew, fresh.Data...), append(tr.swavQ, a.Data...)
	}
	tr.slotsFirst = append(tr.slotsFirst, int64(len(tr.slotsIDs)))
	tr.queueFirst = append(tr.queueFirst, int64(len(tr.queueRows)/traceWidth))
	return tr
}

const stepTolerance = 1e-6

// Every step equals one computed by the formulas in float64, one row and one loop at a
// time.
func TestStepsEqualTheFormulas(t *testing.T) {
	tr := follow(t)
	worst := map[string]float64{}
	note := func(what string, got, want float64) {
		if d := math.Abs(got - want); !(d <= worst[what]) {
			worst[what] = d
		}
	}
	bank := widened(tr.slotsInit)
	queue := widened(tr.queueInit)
	cursor, z := 0, 0.0
	for t := range traceSteps {
		before := slices.Clone(bank)
		for i := tr.slotsFirst[t]; i < tr.slotsFirst[t+1]; i++ {
			at := int(tr.slotsIDs[i]) * traceDim
			old := slices.Clone(before[at : at+traceDim])
			if tr.compound[t] == 1 {
				old = slices.Clone(bank[at : at+traceDim])
			}
			square := 0.0
			mixed := make([]float64, traceDim)
			for d := range mixed {
				mixed[d] = tr.keepOld[t]*old[d] + (1-tr.keepOld[t])*float64(tr.slotsRows[int(i)*traceDim+d])
				square += mixed[d] * mixed[d]
			}
			for d := range mixed {
				bank[at+d] = old[d]
				if square > 1e-24 { // float32 rows differ from these by rounding, so a zero sum is a tiny one here
					bank[at+d] = mixed[d] / math.Sqrt(square)
				}
			}
		}
		// The float32 rows go on from where they are.
		for i := range bank {
			got := float64(tr.slotsState[t*len(bank)+i])
			note("slots", got, bank[i])
			bank[i] = got
		}
		for i := tr.queueFirst[t]; i < tr.queueFirst[t+1]; i++ {
			for d := range traceWidth {
				queue[cursor*traceWidth+d] = float64(tr.queueRows[int(i)*traceWidth+d])
			}
			cursor = (cursor + 1) % traceQueue
		}
		note("cursor", float64(tr.cursor[t]), float64(cursor))
		for i := range queue {
			note("queue", float64(tr.queueState[t*len(queue)+i]), queue[i])
		}
		scores := tr.scores[t*traceAnchors*(1+traceK):][:traceAnchors*(1+traceK)]
		estimate := 0.0
		for _, s := range scores {
			estimate += math.Exp(float64(s)/.07) * traceBankRow / float64(len(scores))
		}
		if z == 0 {
			z = estimate
		} else {
			z = .99*z + .01*estimate
		}
		note("z", tr.nceZ[t]/z, 1)
		loss, info, c := 0.0, 0.0, float64(traceK)/traceBankRow
		for b := range traceAnchors {
			line, sum := scores[b*(1+traceK):][:1+traceK], 0.0
			for j, s := range line {
				e := math.Exp(float64(s) / .07)
				sum += e
				if j == 0 {
					loss -= math.Log(e/z/(e/z+c+1e-7)) / traceAnchors
				} else {
					loss -= math.Log(c/(e/z+c+1e-7)) / traceAnchors
				}
			}
			info -= math.Log(math.Exp(float64(line[0])/.07)/sum) / traceAnchors
		}
		note("nce", tr.nceLoss[t], loss)
		note("infonce", tr.infoNCE[t], info)
		for i, want := range plainSinkhorn(append(slices.Clone(tr.swavQueue[t*traceOld*tracePrototypes:][:traceOld*tracePrototypes]),
			tr.swavNew[t*traceNew*tracePrototypes:][:traceNew*tracePrototypes]...), tracePrototypes)[traceOld*tracePrototypes:] {
			note("sinkhorn", tr.swavQ[t*traceNew*tracePrototypes+i], want)
		}
	}
	judge(t, worst)
}

func judge(t *testing.T, worst map[string]float64) {
	t.Helper()
	for _, what := range []string{"slots", "queue", "cursor", "z", "nce", "infonce", "sinkhorn"} {
		if d, ok := worst[what]; ok && !(d <= stepTolerance) {
			t.Errorf("%s differs by %.2g", what, d)
		}
	}
}

func widened(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

// plainSinkhorn is SwAV's, without the shift: rows are samples.
func plainSinkhorn(scores []float32, prototypes int) []float64 {
	samples := len(scores) / prototypes
	q, total := make([]float64, len(scores)), 0.0
	for i, s := range scores {
		q[i] = math.Exp(float64(s) / .05)
		total += q[i]
	}
	for i := range q {
		q[i] /= total
	}
	for range 3 {
		for k := range prototypes {
			sum := 0.0
			for i := range samples {
				sum += q[i*prototypes+k]
			}
			for i := range samples {
				q[i*prototypes+k] /= sum * float64(prototypes)
			}
		}
		for i := range samples {
			sum := 0.0
			for k := range prototypes {
				sum += q[i*prototypes+k]
			}
			for k := range prototypes {
				q[i*prototypes+k] /= sum * float64(samples)
			}
		}
	}
	for i := range q {
		q[i] *= float64(samples)
	}
	return q
}

// The same by NumPy, which follows its own state from the first step to the last.
func TestStepsEqualNumPy(t *testing.T) {
	python := findNumPy(t)
	tr := follow(t)
	path := filepath.Join(t.TempDir(), "trace.npz")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	z := dump.NewNPZWriter(f)
	write := func(name string, data any, shape ...int64) {
		if err := z.Write(name, data, shape...); err != nil {
			t.Fatal(err)
		}
	}
	const steps = traceSteps
	write("keep_old", tr.keepOld)
	write("compound", tr.compound)
	write("slots_init", tr.slotsInit, traceSlots, traceDim)
	write("slots_ids", tr.slotsIDs)
	write("slots_rows", tr.slotsRows, int64(len(tr.slotsIDs)), traceDim)
	write("slots_first", tr.slotsFirst)
	write("slots_state", tr.slotsState, steps, traceSlots, traceDim)
	write("queue_init", tr.queueInit, traceQueue, traceWidth)
	write("queue_rows", tr.queueRows, int64(len(tr.queueRows)/traceWidth), traceWidth)
	write("queue_first", tr.queueFirst)
	write("queue_state", tr.queueState, steps, traceQueue, traceWidth)
	write("cursor", tr.cursor)
	write("nce_rows", []int64{traceBankRow})
	write("scores", tr.scores, steps, traceAnchors, 1+traceK)
	write("nce_loss", tr.nceLoss)
	write("nce_z", tr.nceZ)
	write("infonce_loss", tr.infoNCE)
	write("swav_queue", tr.swavQueue, steps, traceOld, tracePrototypes)
	write("swav_scores", tr.swavNew, steps, traceNew, tracePrototypes)
	write("swav_q", tr.swavQ, steps, traceNew, tracePrototypes)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(python, filepath.Join("testdata", "steps.py"), path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	worst := map[string]float64{}
	if err := json.Unmarshal(out, &worst); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if len(worst) != 7 {
		t.Errorf("NumPy compared %v", worst)
	}
	judge(t, worst)
}

// findNumPy returns a Python that has NumPy, or skips the test.
func findNumPy(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(name, "-c", "import numpy").Run() == nil {
			return name
		}
	}
	if os.Getenv("MEMBANK_REQUIRE_NUMPY") != "" {
		t.Fatal("no Python with NumPy")
	}
	t.Skip("no Python with NumPy (Debian: python3-numpy)")
	return ""
}
