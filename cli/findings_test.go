package cli

import (
	"encoding/csv"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"membank/simd"
	"membank/store/dump/dumptest"
)

// readCSV reads a file that a command wrote, as maps from the header.
func readCSV(t *testing.T, path string) []map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var rows []map[string]string
	for _, line := range lines[1:] {
		row := map[string]string{}
		for i, name := range lines[0] {
			row[name] = line[i]
		}
		rows = append(rows, row)
	}
	return rows
}

func decode(t *testing.T, text string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return v
}

// attributesOf reads some attributes of a bank, row by row.
func attributesOf(t *testing.T, bank string, rows int) []map[string]any {
	t.Helper()
	list := make([]string, rows)
	for i := range list {
		list[i] = strconv.Itoa(i)
	}
	var records []struct{ Attributes map[string]any }
	if err := json.Unmarshal([]byte(must(t, "get", bank, "--rows", strings.Join(list, ","), "--json")), &records); err != nil {
		t.Fatal(err)
	}
	var out []map[string]any
	for _, r := range records {
		out = append(out, r.Attributes)
	}
	return out
}

// planted is 60 rows of features of which rows 57, 58 and 59 repeat rows 1, 2 and 2.
func planted(t *testing.T) string {
	m := dumptest.Lookup(t, "moco_v2")
	rows := simd.NewMatrix(60, m.Train.Dim)
	copy(rows.Data, m.Train.Data)
	for at, of := range map[int]int{57: 1, 58: 2, 59: 2} {
		copy(rows.Row(at), rows.Row(of))
	}
	return write(t, filepath.Join(t.TempDir(), "planted.npy"), string(npy("'<f4'", "(60, "+strconv.Itoa(m.Train.Dim)+")", rows.Data)))
}

// What duplicates finds is in the table, the .csv, the JSON and the attributes, and
// rm takes it from there.
func TestDuplicatesCommand(t *testing.T) {
	database(t)
	file := filepath.Join(t.TempDir(), "d.csv")
	must(t, "ingest", "train", planted(t))
	r := decode(t, must(t, "duplicates", "train", "--min-score", "0.9999", "-o", file, "--save", "--json"))
	for name, want := range map[string]float64{"rows": 60, "pairs": 4, "groups": 2, "grouped": 5, "drop": 3, "conflicts": 0} {
		if r[name] != want {
			t.Errorf("%s is %v, want %v", name, r[name], want)
		}
	}
	want := map[string]string{"1": "", "57": "1", "2": "", "58": "2", "59": "2"}
	got := map[string]string{}
	for _, row := range readCSV(t, file) {
		got[row["row"]] = row["of"]
		if group := map[string]string{"1": "1", "57": "1"}[row["row"]]; group == "" && row["group"] != "2" || group != "" && row["group"] != group {
			t.Errorf("row %s is in group %s", row["row"], row["group"])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%v, want %v", got, want)
	}
	for row, of := range want {
		if got[row] != of {
			t.Errorf("row %s repeats %q, want %q", row, got[row], of)
		}
	}
	for row, a := range attributesOf(t, "train", 60) {
		if of, has := want[strconv.Itoa(row)]; has != (a["duplicate_group"] != nil) || has && of != "" && a["duplicate_of"] != of {
			t.Errorf("row %d has attributes %v", row, a)
		}
	}
	text := must(t, "duplicates", "train", "--min-score", "0.9999", "--show", "1")
	if !strings.Contains(text, "4 pairs") || !strings.Contains(text, "3 to drop") || !strings.Contains(text, "and 4 more") {
		t.Error(text)
	}
	must(t, "rm", "train", "--where", "duplicate_of != nil")
	if text := must(t, "duplicates", "train", "--min-score", "0.9999", "--json"); decode(t, text)["pairs"] != 0.0 || !strings.Contains(text, `"found":[]`) {
		t.Error(text)
	}
}

func TestLeaks(t *testing.T) {
	database(t)
	m := dumptest.Lookup(t, "byol")
	file := func(name string, from, to int) string {
		part := m.Train.Slice(from, to)
		return write(t, filepath.Join(t.TempDir(), name), string(npy("'<f4'", "("+strconv.Itoa(part.Rows)+", "+strconv.Itoa(part.Dim)+")", part.Data[:part.Rows*part.Dim])))
	}
	must(t, "ingest", "train", file("a.npy", 0, 100))
	must(t, "ingest", "test", file("b.npy", 95, 130))
	r := decode(t, must(t, "duplicates", "train", "test", "--min-score", "0.99999", "--json", "--save"))
	if r["bank"] != "test" || r["in"] != "train" || r["drop"] != 5.0 || len(r["found"].([]any)) != 5 {
		t.Errorf("%v", r)
	}
	for row, a := range attributesOf(t, "test", 35) {
		if want := any(strconv.Itoa(95 + row)); row < 5 && a["leak_of"] != want || row >= 5 && a["leak_of"] != nil {
			t.Errorf("row %d has %v", row, a)
		}
	}
	if text := must(t, "duplicates", "train", "test", "--min-score", "0.99999"); !strings.HasPrefix(text, "5 of 35 rows in test have a row of cosine 0.99999 or more in train") {
		t.Error(text)
	}
}

func TestLabelErrorsCommand(t *testing.T) {
	database(t)
	x, labels := make([]float32, 80*4), make([]string, 80)
	for i := range 80 {
		x[4*i+i%2], x[4*i+2], x[4*i+3] = 3, float32(i%5)/9, float32(i%7)/9
		labels[i] = []string{"cat", "dog"}[i%2]
	}
	labels[11], labels[40] = "cat", "dog"
	file := filepath.Join(t.TempDir(), "e.csv")
	must(t, "ingest", "pets", write(t, filepath.Join(t.TempDir(), "x.npy"), string(npy("'<f4'", "(80, 4)", x))),
		"--labels", write(t, filepath.Join(t.TempDir(), "l.txt"), strings.Join(labels, "\n")+"\n"))
	r := decode(t, must(t, "label-errors", "pets", "-k", "9", "-o", file, "--save", "--json"))
	if r["candidates"] != 2.0 || r["rows"] != 80.0 || r["k"] != 9.0 {
		t.Errorf("%v", r)
	}
	var found []string
	for _, row := range readCSV(t, file) {
		found = append(found, row["row"]+" "+row["class"]+" "+row["suggested"])
	}
	slices.Sort(found)
	if !slices.Equal(found, []string{"11 cat dog", "40 dog cat"}) {
		t.Errorf("%v", found)
	}
	if a := attributesOf(t, "pets", 80); a[11]["label_suggested"] != "dog" || a[12]["label_suggested"] != nil {
		t.Errorf("%v %v", a[11], a[12])
	}
}

func TestRankCommand(t *testing.T) {
	database(t)
	must(t, "ingest", "train", planted(t))
	file := filepath.Join(t.TempDir(), "r.csv")
	for _, by := range []string{"uniqueness", "density", "outlier"} {
		r := decode(t, must(t, "rank", "train", "--by", by, "-o", file, "--json", "--show", "3"))
		if r["rows"] != 60.0 || len(r["found"].([]any)) != 3 {
			t.Errorf("%v", r)
		}
		last := math.Inf(1)
		rows := readCSV(t, file)
		for _, row := range rows {
			v, err := strconv.ParseFloat(row[by], 64)
			if err != nil || v > last {
				t.Errorf("%s: %v after %v (%v)", by, v, last, err)
			}
			last = v
		}
		if len(rows) != 60 {
			t.Errorf("%d rows", len(rows))
		}
		if by == "uniqueness" && last > 1e-6 {
			t.Errorf("a repeated row has uniqueness %v", last)
		}
	}
	must(t, "rank", "train", "--save")
	if a := attributesOf(t, "train", 2); a[1]["uniqueness"].(float64) > 1e-6 || a[0]["density"] == nil || a[0]["outlier"] == nil {
		t.Errorf("%v", a)
	}
}

func TestSelectCommand(t *testing.T) {
	database(t)
	must(t, "ingest", "train", planted(t))
	r := decode(t, must(t, "select", "train", "-n", "10", "--json", "--save"))
	if r["selected"] != 10.0 {
		t.Errorf("%v", r)
	}
	places := map[float64]bool{}
	for _, a := range attributesOf(t, "train", 60) {
		if v, ok := a["selected"].(float64); ok {
			places[v] = true
		}
	}
	if len(places) != 10 || !places[1] || !places[10] {
		t.Errorf("places %v", places)
	}
	if r := decode(t, must(t, "select", "train", "-n", "1000", "--json")); r["selected"] != 57.0 || r["radius"] != 0.0 {
		t.Errorf("all rows: %v", r)
	}
}

// Wrong usage and banks that cannot answer are said in one line, and change nothing.
func TestFindingRefuses(t *testing.T) {
	database(t)
	must(t, "ingest", "b", features(t, filepath.Join(t.TempDir(), "b.npy"), 10, nil))
	must(t, "ingest", "one", features(t, filepath.Join(t.TempDir(), "one.npy"), 1, nil))
	must(t, "ingest", "wide", write(t, filepath.Join(t.TempDir(), "w.npy"), string(npy("'<f4'", "(2, 8)", make([]float32, 16)))))
	before := state(t)
	for line, want := range map[string]int{
		"duplicates b --min-score 2":           exitUsage,
		"duplicates b --min-score x":           exitUsage,
		"duplicates b b":                       exitUsage,
		"duplicates b wide":                    exitBadInput,
		"duplicates none":                      exitNotFound,
		"duplicates b -o x.npz":                exitUsage,
		"duplicates b --show -1":               exitUsage,
		"duplicates b -o /no/such/place/x.csv": exitNotFound,
		"label-errors b":                       exitBadInput,
		"label-errors b --protocol none":       exitUsage,
		"label-errors b -k 0":                  exitUsage,
		"rank one":                             exitBadInput,
		"rank b --by size":                     exitUsage,
		"rank b -k none":                       exitUsage,
		"select wide":                          exitBadInput, // zero rows
		"select b -n 0":                        exitUsage,
		"select b --seed -1":                   exitUsage,
		"diagnose none":                        exitNotFound,
		"diagnose b --views wide":              exitBadInput,
		"diagnose b --group-by colour":         exitNotFound,
		"diagnose b -T 0":                      exitUsage,
		"diagnose b --metric none":             exitUsage,
		"diagnose b --pair-rows 0":             exitUsage,
		"compare b":                            exitUsage,
		"compare b none":                       exitNotFound,
		"compare b one":                        exitBadInput,
		"compare b wide -o x.npz":              exitUsage,
		"compare b wide --images x":            exitUsage,
		"compare b wide -k 0":                  exitUsage,
	} {
		if r := run(t, strings.Fields(line)...); r.code != want || strings.Count(r.err, "\n") != 1 || r.out != "" {
			t.Errorf("%s: exit %d, want %d; %q %q", line, r.code, want, r.out, r.err)
		}
	}
	if after := state(t); after != before {
		t.Errorf("the banks changed\nbefore %safter  %s", before, after)
	}
}
