package cli

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"membank/store/dump/dumptest"
)

// The clean accuracy is the reference's; the clean rows in another order, with keys,
// lose nothing.
func TestEvalRobustness(t *testing.T) {
	moco(t)
	m := dumptest.Lookup(t, "moco_v2")
	keys, labels := "", ""
	var rows strings.Builder
	for i := m.Test.Rows - 1; i >= 0; i-- {
		keys += fmt.Sprintln(i)
		labels += fmt.Sprintln(m.TestLabels[i])
		for d, v := range m.Test.Row(i) {
			if d > 0 {
				rows.WriteString(",")
			}
			fmt.Fprint(&rows, v)
		}
		rows.WriteString("\n")
	}
	dir := t.TempDir()
	must(t, "ingest", "c/turned/3", write(t, filepath.Join(dir, "x.csv"), rows.String()), "--labels", write(t, filepath.Join(dir, "y.txt"), labels), "--keys", write(t, filepath.Join(dir, "k.txt"), keys))
	var r evaluated
	radii := filepath.Join(dir, "r.csv")
	document(t, &r, "eval", "robustness", "--train", "train", "--test", "test", "--perturbed", "c/*/*", "-o", radii)
	want, _ := m.Figure(t, "knn", "dino_T0.07", "20", "top1")
	for i, at := range r.Results {
		if got := at["top1"].(float64); math.Abs(100*got-want) > 1e-9 || at["drop"] != 0.0 || at["flipped"] != 0.0 || at["neighbours_kept"] != 1.0 {
			t.Errorf("%d: %v, want %v", i, at, want)
		}
	}
	if len(r.Results) != 2 || r.Results[1]["corruption"] != "turned" || r.Results[1]["severity"] != "3" {
		t.Errorf("%+v", r)
	}
	if text, err := os.ReadFile(radii); err != nil || strings.Count(string(text), "\n") != 1001 {
		t.Errorf("radii: %v", err)
	}
	if out := must(t, "eval", "robustness", "--train", "train", "--test", "test", "-k", "1"); !strings.Contains(out, "nearest_flip_p50_degrees") {
		t.Error(out)
	}
	for bank, want := range map[string][2]string{"test-c/fog/3": {"fog", "3"}, "fog-3": {"fog", "3"}, "a/pgd_eps8": {"pgd_eps", "8"}, "adv": {"adv", ""}, "7": {"7", "7"}} {
		if c, s := severityOf(bank); c != want[0] || s != want[1] {
			t.Errorf("%s: %s at %s", bank, c, s)
		}
	}
}
