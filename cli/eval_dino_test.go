package cli

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"membank/store/dump/dumptest"
)

// DINO's four files give the accuracies of its eval_knn.py to the exact count.
func TestEvalDINO(t *testing.T) {
	m := dumptest.Lookup(t, "moco_v2")
	dir := t.TempDir()
	t.Setenv("TMPDIR", t.TempDir())
	saveTorch(t, filepath.Join(dir, "trainfeat.pth"), "FloatStorage", m.Train.Data, m.Train.Rows, m.Train.Dim)
	saveTorch(t, filepath.Join(dir, "testfeat.pth"), "FloatStorage", m.Test.Data, m.Test.Rows, m.Test.Dim)
	saveTorch(t, filepath.Join(dir, "trainlabels.pth"), "LongStorage", m.TrainLabels, len(m.TrainLabels))
	saveTorch(t, filepath.Join(dir, "testlabels.pth"), "LongStorage", m.TestLabels, len(m.TestLabels))
	var r evaluated
	document(t, &r, "eval", "knn", "--dino", dir)
	for _, at := range r.Results {
		for _, figure := range []string{"top1", "top5"} {
			want, _ := m.Figure(t, "knn", "dino_T0.07", fmt.Sprint(at["k"]), figure)
			if got := 100 * at[figure].(float64); math.Abs(got-want) > 1e-9 {
				t.Errorf("k=%v: %s %v, want %v", at["k"], figure, got, want)
			}
		}
	}
	if r.Protocol != "dino" || len(r.Results) != 4 {
		t.Errorf("%+v", r)
	}
	if left, _ := os.ReadDir(os.Getenv("TMPDIR")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if r := run(t, "eval", "knn", "--dino", dir, "--train", "x"); r.code != exitUsage {
		t.Errorf("%+v", r)
	}
	if err := os.Remove(filepath.Join(dir, "testlabels.pth")); err != nil {
		t.Fatal(err)
	}
	if r := run(t, "eval", "knn", "--dino", dir); r.code != exitNotFound {
		t.Errorf("%+v", r)
	}
}

// saveTorch writes a tensor in C order as torch.save does.
func saveTorch(t *testing.T, path, storage string, data any, shape ...int) {
	t.Helper()
	text := func(s string) string { return "X" + string(binary.LittleEndian.AppendUint32(nil, uint32(len(s)))) + s }
	number := func(v int) string { return "J" + string(binary.LittleEndian.AppendUint32(nil, uint32(v))) }
	sizes, strides, count := "", "", 1
	for i := len(shape) - 1; i >= 0; i-- {
		sizes, strides = number(shape[i])+sizes, number(count)+strides
		count *= shape[i]
	}
	pickle := "\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + "ctorch\n" + storage + "\n" + text("0") + text("cpu") + number(count) + "tQ" +
		number(0) + "(" + sizes + "t(" + strides + "t\x89ccollections\nOrderedDict\n)RtR."
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, body := range map[string]any{"archive/data.pkl": []byte(pickle), "archive/data/0": data} {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name})
		if err == nil {
			err = binary.Write(w, binary.LittleEndian, body)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}
