package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"membank/index"
	"membank/simd"
	"membank/store"
)

// groupBank groups a bank by a rule that has nothing to do with neighbourhood, so
// that its rows stand everywhere.
func groupBank(t *testing.T, dir, bank string, lists int, assign store.Assigner) {
	t.Helper()
	ctx := context.Background()
	db, err := store.Open(ctx, dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := db.Snapshot(bank)
	if err != nil {
		t.Fatal(err)
	}
	n := lists - 1 // the last is that of strays
	l := &index.Lists{Metric: index.Dot, Centroids: simd.NewMatrix(n, s.Dim()), Rows: make([]int64, n), Near: make([]float32, n), Radius: make([]float32, n)}
	for i := range n {
		l.Near[i], l.Radius[i] = 1, float32(s.MaxNorm()*1.001)
	}
	s.Close()
	if _, err := db.Group(ctx, bank, l.Encode(), assign, store.GroupOptions{Lists: lists, Memory: 1}); err != nil {
		t.Fatal(err)
	}
}

func byRow(lists int) store.Assigner {
	return func(list []int32, b *store.Block) error {
		for i := range list {
			list[i] = int32(b.Row[i]*7) % int32(lists)
		}
		return nil
	}
}

// inPassing are figures that say how rows are kept, not what they are.
var inPassing = regexp.MustCompile(`"(seconds|bytes|generation|expected_generation|freed|records|blocks)":[0-9.e+-]+`)

// Every command answers for a grouped bank as for the same rows in a flat one,
// after deletions, an interrupted life and compact, too.
func TestGroupedBankAnswersAsFlat(t *testing.T) {
	out := t.TempDir()
	manyRows(t, out, "train", 900, 2)
	var keys bytes.Buffer
	attributes := bytes.NewBufferString("size,split\n")
	for i := range 900 {
		keys.WriteString("img" + string(rune('a'+i%26)) + "/" + string(rune('a'+i/26%26)) + string(rune('a'+i/676)) + ".jpg\n")
		attributes.WriteString([]string{"1,a\n", "2,b\n", ",c\n"}[i%3])
	}
	write(t, filepath.Join(out, "keys.txt"), keys.String())
	write(t, filepath.Join(out, "attributes.csv"), attributes.String())
	write(t, filepath.Join(out, "gone.txt"), "imgb/aa.jpg\nimgz/ba.jpg\n")
	flat, grouped := filepath.Join(out, "flat"), filepath.Join(out, "grouped")
	both := func(args ...string) {
		t.Helper()
		var texts [2]string
		for i, dir := range []string{flat, grouped} {
			r := run(t, append([]string{"--db", dir}, args...)...)
			texts[i] = inPassing.ReplaceAllString(r.out, `"$1":0`)
			if r.code != exitOK {
				t.Fatalf("%v in %s: exit %d: %s", args, dir, r.code, r.err)
			}
		}
		if texts[0] != texts[1] {
			t.Errorf("%v: the grouped bank answers\n%.2000s\nthe flat one\n%.2000s", args, texts[1], texts[0])
		}
	}
	files := func(args ...string) {
		t.Helper()
		var bodies [2][]byte
		for i, dir := range []string{flat, grouped} {
			path := filepath.Join(out, "x"+args[len(args)-1])
			must(t, append([]string{"--db", dir}, append(args[:len(args)-1:len(args)-1], "-o", path)...)...)
			var err error
			if bodies[i], err = os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(bodies[0], bodies[1]) {
			t.Errorf("%v: the files differ", args)
		}
	}
	for _, dir := range []string{flat, grouped} {
		must(t, "--db", dir, "ingest", "train", filepath.Join(out, "train.npy"), "--labels", filepath.Join(out, "train_labels.npy"),
			"--keys", filepath.Join(out, "keys.txt"), "--attributes", filepath.Join(out, "attributes.csv"))
	}
	groupBank(t, grouped, "train", 9, byRow(9))
	ask := func() {
		t.Helper()
		both("verify", "--json")
		both("get", "train", "--rows", "0,899,17,3", "--json")
		both("get", "train", "--key", "imgc/aa.jpg", "--json")
		both("query", "train", "--row", "5", "-k", "30", "--json")
		both("query", "train", "--key", "imgc/aa.jpg", "-k", "30", "--metric", "l2", "--where", "size == 1 && label != 3", "--json")
		both("eval", "knn", "--train", "train", "--test", "train", "--leave-one-out", "--json")
		files("export", "train", ".npy")
		files("export", "train", ".csv")
		files("export", "train", ".npz")
	}
	ask()
	both("rm", "train", "--keys", filepath.Join(out, "gone.txt"), "--yes", "--json")
	both("rm", "train", "--where", `split == "b" && row % 2 == 1`, "--dry-run", "--json")
	ask()
	both("rm", "train", "--where", `split == "b" && row % 2 == 1`, "--yes", "--json")
	both("repair", "--json")
	both("compact", "--json")
	ask()
	// Odd rows with "b" are 1, 7, 13, …: 150, of which row 1 was gone already.
	if r := run(t, "--db", grouped, "show", "train", "--json"); r.code != exitOK || !bytes.Contains([]byte(r.out), []byte(`"rows":749`)) {
		t.Errorf("show: %s %s", r.out, r.err)
	}
	// A sixth of the rows is gone from both, and both were written anew.
	for _, dir := range []string{flat, grouped} {
		db, err := store.Open(context.Background(), dir, store.Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		infos, err := db.Banks("")
		if err != nil || infos[0].Lanes != infos[0].Rows {
			t.Errorf("%+v %v", infos, err)
		}
		db.Close()
	}
}
