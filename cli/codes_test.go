package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"membank/store/dump"
)

// manyRows writes rows×64 features in a few clusters, and their labels.
func manyRows(t *testing.T, dir, name string, rows int, seed uint64) (features, labels string) {
	t.Helper()
	const dim, clusters = 64, 20
	rng := rand.New(rand.NewPCG(seed, 1))
	centre := rand.New(rand.NewPCG(1, 1))
	var centres [clusters][dim]float32
	for c := range centres {
		for d := range dim {
			centres[c][d] = float32(centre.NormFloat64()) + 0.5
		}
	}
	x, class := make([]float32, rows*dim), make([]int64, rows)
	for i := range class {
		class[i] = rng.Int64N(clusters)
		for d := range dim {
			x[i*dim+d] = centres[class[i]][d] + 0.1*float32(rng.NormFloat64())
		}
	}
	save := func(path string, shape []int64, data any) string {
		var b bytes.Buffer
		if err := dump.WriteNPY(&b, data, shape...); err != nil {
			t.Fatal(err)
		}
		return write(t, path, b.String())
	}
	return save(filepath.Join(dir, name+".npy"), []int64{int64(rows), dim}, x), save(filepath.Join(dir, name+"_labels.npy"), []int64{int64(rows)}, class)
}

// Codes come with an ingest, stay behind in an append that leaves them out, are
// completed by compact and by hand, and change no answer.
func TestSessionWithCodes(t *testing.T) {
	dir := database(t)
	out := t.TempDir()
	manyRows(t, out, "train", 17000, 2)
	manyRows(t, out, "more", 300, 3)
	manyRows(t, out, "test", 100, 4)
	golden(t, "codes", transcript(t, map[string]string{"$OUT": out, "$DB": dir}, `
		membank ingest train $OUT/train.npy --labels $OUT/train_labels.npy
		membank ingest --json plain $OUT/train.npy --labels $OUT/train_labels.npy --no-codes
		membank ingest small $OUT/test.npy --labels $OUT/test_labels.npy
		membank show train
		membank show --json train
		membank show plain
		membank show small
		membank ingest train $OUT/more.npy --labels $OUT/more_labels.npy --append --no-codes
		membank show train
		membank compact
		membank compact --json
		membank index codes train
		membank index codes train --relearn --json
		membank index codes plain
		membank index codes small
		membank index codes small --json
		membank index codes nothing
		membank index code train
		membank eval knn --train train --test small
		membank ingest train $OUT/more.npy --keys $OUT/none.txt --append`))
	for _, metric := range []string{"cosine", "dot", "l2"} {
		ask := []string{"query", "train", "--from", "small", "--json", "--metric", metric}
		if must(t, ask...) != must(t, append(ask, "--no-codes")...) {
			t.Errorf("%s: codes change answers", metric)
		}
	}
	same := func(text string) string {
		var r map[string]any
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatal(err)
		}
		delete(r, "seconds")
		again, _ := json.Marshal(r)
		return string(again)
	}
	ask := []string{"eval", "knn", "--train", "train", "--test", "small", "--json"}
	if with, without := same(must(t, ask...)), same(must(t, append(ask, "--no-codes")...)); with != without {
		t.Errorf("codes change accuracies:\n%s\n%s", with, without)
	}
	graph := func(name string, more ...string) []byte {
		path := filepath.Join(out, name)
		must(t, append([]string{"graph", "small", "-k", "5", "-o", path}, more...)...)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if !bytes.Equal(graph("with.npz"), graph("without.npz", "--no-codes")) {
		t.Error("codes change a graph")
	}
}

// cancelOnWrite cancels when the first result is written.
type cancelOnWrite struct {
	bytes.Buffer
	cancel func()
}

func (w *cancelOnWrite) Write(p []byte) (int, error) {
	w.cancel()
	return w.Buffer.Write(p)
}

// An ingest is done when it says so: an interruption after that costs the codes
// and nothing else, and exits 0. One that was asked for codes exits 130.
func TestInterruptedCodes(t *testing.T) {
	database(t)
	features, _ := manyRows(t, t.TempDir(), "train", 17000, 5)
	interrupted := func(out *cancelOnWrite, args ...string) (int, string) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		if out.cancel = cancel; args[0] != "ingest" {
			cancel()
		}
		var errs bytes.Buffer
		code := Run(ctx, append([]string{"membank"}, args...), strings.NewReader(""), out, &errs)
		return code, errs.String()
	}
	out := &cancelOnWrite{}
	code, errs := interrupted(out, "ingest", "train", features)
	if code != exitOK || !strings.HasPrefix(out.String(), "train: 17,000 rows") || !strings.Contains(errs, "membank index codes train makes them") {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	if text := must(t, "show", "train", "--json"); !strings.Contains(text, `"rows":17000`) || !strings.Contains(text, `"codes":null`) {
		t.Error(text)
	}
	if code, errs := interrupted(&cancelOnWrite{}, "index", "codes", "train"); code != exitInterrupted || !strings.Contains(errs, "interrupted") {
		t.Errorf("index codes: exit %d, %q", code, errs)
	}
	if text := must(t, "index", "codes", "train"); !strings.HasPrefix(text, "train: codes for 2 blocks") {
		t.Error(text)
	}
}
