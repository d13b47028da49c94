package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"membank/simd"
)

// A bank is grouped, asked with a recall, appended to and put back in order, and its
// exact answers stay what they were.
func TestIndexBuild(t *testing.T) {
	dir := t.TempDir()
	m := simd.NewMatrix(1200, 12)
	for i := range m.Rows {
		for d := range m.Row(i) {
			m.Row(i)[d] = float32((i%20*7+d*13)%11) + float32((i*31+d*17)%97)/97
		}
	}
	database(t)
	train := arrayFile(t, dir, "train.npy", m.Data, 1200, 12)
	more := arrayFile(t, dir, "more.npy", m.Data[:40*12], 40, 12)
	do := func(line string) string {
		t.Helper()
		return must(t, strings.Fields(line)...)
	}
	do("ingest train " + train)
	exact := do("query train --row 3,700 --exclude-self --json")
	var built struct {
		Bank  string
		NList int
		Rows  int64
		Tuned []struct {
			Recall float64
			NProbe int
		}
	}
	if err := json.Unmarshal([]byte(do("index build train --nlist 24 --seed 3 --json")), &built); err != nil {
		t.Fatal(err)
	}
	if built.Bank != "train" || built.NList != 24 || built.Rows != 1200 || len(built.Tuned) != 4 || built.Tuned[2].Recall != 0.99 || built.Tuned[2].NProbe < 1 {
		t.Errorf("index build says %+v", built)
	}
	if again := do("query train --row 3,700 --exclude-self --json"); again != exact {
		t.Errorf("exact answers were\n%s\nand are\n%s", exact, again)
	}
	if out := do("ls --json"); !strings.Contains(out, `"nlist":24`) {
		t.Error(out)
	}
	if out := do("query train --row 3 --recall 0.9 -k 2"); !strings.Contains(out, "approximate: recall@2 ") || !strings.Contains(out, "of 24 lists read by a query") {
		t.Error(out)
	}
	if out := do("query train --row 3 --nprobe 2 --json"); !strings.Contains(out, `"approximate":{"recall":`) || !strings.Contains(out, `"nlist":24`) {
		t.Error(out)
	}
	if out := do("query train --row 3 --nprobe 24 --json"); strings.Contains(out, "approximate") {
		t.Error(out)
	}
	do("ingest train " + more + " --append")
	if out := do("query train --row 1205 --nprobe 1 -k 2 --json"); !strings.Contains(out, `"row":5,`) {
		t.Errorf("the row that 1205 repeats is not found: %s", out)
	}
	if out := do("index show train"); !strings.Contains(out, "1,240, 1,200 when the lists were made") {
		t.Error(out)
	}
	do("index tune train --queries " + more + " -k 5 --recall 0.9")
	do("index drop train")
	if out := do("ls --json"); !strings.Contains(out, `"nlist":1`) {
		t.Error(out)
	}
	do("verify")
	for line, want := range map[string]string{
		"index show train":                      "is not grouped by list",
		"index build train --nlist 0":           "--nlist 0: not a number",
		"index build train --seed x":            "--seed x: not a seed",
		"index build train --metric hamming":    "no such metric",
		"index tune train --recall 2":           `"2" is not a recall`,
		"index build absent":                    "absent",
		"index tune train --queries a --from b": "exclude each other",
	} {
		if r := run(t, strings.Fields(line)...); r.code == exitOK || !strings.Contains(r.err, want) {
			t.Errorf("%s: exit %d, %q lacks %q", line, r.code, r.err, want)
		}
	}
}
