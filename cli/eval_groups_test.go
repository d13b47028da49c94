package cli

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"membank/store/dump/dumptest"
)

// P@k over all queries is the reference's; the groups of a partition add up to it.
func TestEvalGroups(t *testing.T) {
	moco(t)
	csv := "half\n"
	for i := range 1000 {
		csv += fmt.Sprintln(i % 7)
	}
	path := write(t, filepath.Join(t.TempDir(), "a.csv"), csv)
	ssl := dumptest.Testdata(t, "ssl")
	must(t, "ingest", "asked", filepath.Join(ssl, "moco_v2", "test_features.npy"), "--labels", filepath.Join(ssl, "test_labels.npy"), "--attributes", path)
	var r evaluated
	document(t, &r, "eval", "groups", "--gallery", "train", "--queries", "asked", "--by", "half", "--bins", "half=2,5,9", "-k", "1,10")
	m := dumptest.Lookup(t, "moco_v2")
	for _, k := range []string{"1", "10"} {
		want, _ := m.Figure(t, "retrieval", "P@"+k)
		if got := r.Results[0]["P@"+k].(float64); math.Abs(got-want) > 1e-6 {
			t.Errorf("P@%s %v, want %v", k, got, want)
		}
		sum := 0.0
		for _, group := range r.Results[1:4] {
			sum += group["n"].(float64) * group["P@"+k].(float64)
		}
		if math.Abs(sum/1000-want) > 1e-6 {
			t.Errorf("groups add up to %v, want %v", sum/1000, want)
		}
	}
	if last := r.Results[4]; len(r.Results) != 5 || last["group"] != "9+" || last["n"] != 0.0 || last["P@1"] != nil || last["P@1_missing"] == nil {
		t.Errorf("the empty group: %v", last)
	}
	out := must(t, "eval", "groups", "--gallery", "train", "--queries", "asked", "--by", "half+label", "--min-n", "5", "-k", "5")
	if !strings.Contains(out, "6 × airplane") && !strings.Contains(out, "6 × 0") || !strings.Contains(out, "[") {
		t.Error(out)
	}
	for want, args := range map[int][]string{
		exitUsage:    {"--bins", "half=2,x"},
		exitBadInput: {"--by", "nothing"},
		exitNotFound: {"--queries", "absent"},
	} {
		if r := run(t, append([]string{"eval", "groups", "--gallery", "train", "--queries", "asked"}, args...)...); r.code != want {
			t.Errorf("%v: %+v", args, r)
		}
	}
}
