package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"membank/store"
)

// Rows that an expression picks are those that a plain loop picks. A row whose
// value is missing is found by nil and by nothing else.
func TestWhere(t *testing.T) {
	dir := database(t)
	files := t.TempDir()
	const rows = 200
	table, labels, keys := "year,score,place\n", "", ""
	year := func(i int) (int, bool) { return 1990 + i%30, i%7 != 0 }
	score := func(i int) float64 { return float64(i%11) / 4 }
	for i := range rows {
		text := ""
		if y, ok := year(i); ok {
			text = strconv.Itoa(y)
		}
		table += fmt.Sprintf("%s,%g,p%d\n", text, score(i), i%4)
		label := strconv.Itoa(i % 3)
		if i%10 == 9 {
			label = "-1"
		}
		labels += label + "\n"
		keys += fmt.Sprintf("img/%03d.png\n", i)
	}
	must(t, "ingest", "b", features(t, filepath.Join(files, "x.npy"), rows, nil),
		"--attributes", write(t, filepath.Join(files, "a.csv"), table), "--labels", write(t, filepath.Join(files, "l.txt"), labels),
		"--keys", write(t, filepath.Join(files, "k.txt"), keys), "--class-names", write(t, filepath.Join(files, "c.txt"), "cat\ndog\nowl\n"))
	must(t, "rm", "b", "--where", "row == 5")
	db, err := store.Open(context.Background(), dir, store.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	snap, err := db.Snapshot("b")
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	for source, holds := range map[string]func(i int) bool{
		"row < 10":                       func(i int) bool { return i < 10 },
		"label == 2":                     func(i int) bool { return i%10 != 9 && i%3 == 2 },
		"label == nil":                   func(i int) bool { return i%10 == 9 },
		"label != 2":                     func(i int) bool { return i%10 != 9 && i%3 != 2 },
		`class in ["dog", "owl"]`:        func(i int) bool { return i%10 != 9 && i%3 > 0 },
		`key matches "img/00.*"`:         func(i int) bool { return i < 10 },
		"year > 2010":                    func(i int) bool { y, ok := year(i); return ok && y > 2010 },
		"year == nil":                    func(i int) bool { _, ok := year(i); return !ok },
		"year + 1 == 2000":               func(i int) bool { y, ok := year(i); return ok && y == 1999 },
		`score >= 1.5 and place == "p1"`: func(i int) bool { return score(i) >= 1.5 && i%4 == 1 },
		`place startsWith "p" and not (row in 0..100)`: func(i int) bool { return i > 100 },
		"false": func(i int) bool { return false },
	} {
		got, err := rowsWhere(context.Background(), snap, source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		var want []int64
		for i := range rows {
			if i != 5 && holds(i) {
				want = append(want, int64(i))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: rows %v, want %v", source, got, want)
		}
	}
	for source, want := range map[string]string{
		"yaer > 3":        "unknown name yaer",
		`year == "x"`:     "mismatched types",
		`label == "cat"`:  "mismatched types",
		"row":             "expected bool",
		"row ==":          "unexpected token",
		`key matches "["`: "regexp",
		"":                "unexpected",
	} {
		_, err := rowsWhere(context.Background(), snap, source)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "knows row, key, label, class, place, score, year") {
			t.Errorf("%q: %v; want %q and the names", source, err, want)
			continue
		}
		if exit, _, _ := meaning(err); exit != exitUsage {
			t.Errorf("%q: exit %d", source, exit)
		}
	}
}
