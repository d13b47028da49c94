package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"membank/store"
	"membank/store/dump/dumptest"
)

// cardBanks are two banks of MoCo's features, cut to keep the tests short, and
// cards of four commands on them.
func cardBanks(t *testing.T) (dir string, cards []string) {
	t.Helper()
	m := dumptest.Lookup(t, "moco_v2")
	database(t)
	ingestMethod(t, m)
	dir = t.TempDir()
	for _, command := range []string{
		"eval knn --train train --test test -k 1,20",
		"eval retrieval --gallery train --queries test",
		"diagnose train --pair-rows 500",
		"compare train train --rows 500",
	} {
		path := filepath.Join(dir, strings.ReplaceAll(strings.Fields(command)[0]+strings.Fields(command)[1], "-", "")+".json")
		must(t, append(strings.Fields(command), "--card", path, "--quiet")...)
		cards = append(cards, path)
	}
	return dir, cards
}

func TestCardRoundTrip(t *testing.T) {
	_, cards := cardBanks(t)
	equal := func(when string) {
		t.Helper()
		for _, path := range cards {
			d := decode(t, must(t, "card", "check", path, "--json", "--quiet", "--threads", "1"))
			if d["equal"] != true || len(d["differences"].([]any)) != 0 {
				t.Errorf("%s: %s: %v", when, path, d)
			}
		}
	}
	equal("at once")
	must(t, "index", "build", "train", "--quiet")
	equal("after index build")
	if d := decode(t, must(t, "card", "check", cards[0], "--json")); len(d["notes"].([]any)) != 1 {
		t.Errorf("no note that the bank is grouped: %v", d)
	}
	must(t, "index", "drop", "train", "--quiet")
	equal("after index drop")
	// The card's result is the command's own.
	shown := decode(t, must(t, "card", "show", cards[0], "--json"))
	run := decode(t, must(t, "eval", "knn", "--train", "train", "--test", "test", "-k", "1,20", "--json"))
	at := func(d map[string]any) any { return d["results"].([]any)[1].(map[string]any)["top1"] }
	if at(shown["result"].(map[string]any)) != at(run) || at(run) == nil {
		t.Errorf("%v on the card, %v by the command", at(shown["result"].(map[string]any)), at(run))
	}
	if people := must(t, "card", "show", cards[0]); !strings.Contains(people, "results[1].top1") || !strings.Contains(people, "--k=1,20") {
		t.Errorf("%s", people)
	}
}

// The digest is SHA-256 over the rows as documented, by a loop of this test's own.
func TestCardDigest(t *testing.T) {
	database(t)
	dir := t.TempDir()
	want := sha256.New()
	want.Write([]byte("membank bank digest 1\n\x04\x00\x00\x00"))
	var values []float32
	path := features(t, filepath.Join(dir, "x.npy"), 6, func(x []float32) { values = x })
	keys := []string{"a", "bb", "ccc", "d", "é", "f"}
	must(t, "ingest", "b", path, "--keys", write(t, filepath.Join(dir, "keys.txt"), strings.Join(keys, "\n")+"\n"))
	db, err := store.Open(t.Context(), os.Getenv("MEMBANK_DB"), store.Options{})
	if err == nil {
		_, err = db.DeleteRows(t.Context(), "b", []int64{2})
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for i, key := range keys {
		if i == 2 {
			continue
		}
		binary.Write(want, binary.LittleEndian, values[4*i:4*i+4])
		binary.Write(want, binary.LittleEndian, int64(math.MinInt64)) // store.NoLabel
		binary.Write(want, binary.LittleEndian, uint32(len(key)))
		want.Write([]byte(key))
	}
	out := filepath.Join(dir, "d.json")
	must(t, "diagnose", "b", "--card", out)
	c := readTestCard(t, out)
	if got := c.Banks[0]; got.SHA256 != hex.EncodeToString(want.Sum(nil)) || got.Rows != 5 || got.Dim != 4 {
		t.Errorf("%+v", got)
	}
}

func TestCardDifferences(t *testing.T) {
	dir, cards := cardBanks(t)
	knn, err := os.ReadFile(cards[0])
	if err != nil {
		t.Fatal(err)
	}
	differs := func(path string, want ...string) {
		t.Helper()
		r := run(t, "card", "check", path)
		if r.code != exitFailure {
			t.Errorf("%s: exit %d: %s%s", path, r.code, r.out, r.err)
		}
		for _, w := range want {
			if !strings.Contains(r.out, w) {
				t.Errorf("%s: no %q in\n%s", path, w, r.out)
			}
		}
	}
	// A figure that was edited, by much and by little.
	c := readTestCard(t, cards[0])
	figures, err := figuresOf(c.Result)
	if err != nil {
		t.Fatal(err)
	}
	var top1 string
	for _, f := range figures {
		if f.path == "results[1].top1" {
			top1 = f.value
		}
	}
	for i, other := range []string{"0.99", top1 + "0000001"} {
		edited := filepath.Join(dir, "edited.json")
		text := strings.ReplaceAll(string(knn), `"top1": `+top1, `"top1": `+other)
		if top1 == "" || text == string(knn) {
			t.Fatalf("edit %d: no top1 %q", i, top1)
		}
		write(t, edited, text)
		differs(edited, "figure results[1].top1 was "+other+", is "+top1)
	}
	// Markdown: as written it is equal, and neither its table nor its data can be edited.
	md := filepath.Join(dir, "knn.md")
	must(t, "eval", "knn", "--train", "train", "--test", "test", "--card", md)
	must(t, "card", "check", md)
	text, err := os.ReadFile(md)
	if err != nil {
		t.Fatal(err)
	}
	row := strings.Index(string(text), "| results\\[1].top1 | 0.")
	if row < 0 {
		t.Fatalf("no table in\n%s", text)
	}
	text[row+len("| results\\[1].top1 | 0.")] ^= 1
	differs(write(t, filepath.Join(dir, "edited.md"), string(text)), "of the Markdown is not what its data say")

	// The last bit of one value of a bank; a bank of another shape.
	npy := filepath.Join(dir, "test.npy")
	must(t, "export", "test", "-o", npy)
	must(t, "export", "test", "-o", filepath.Join(dir, "test.npz"))
	vectors, err := os.ReadFile(npy)
	if err != nil {
		t.Fatal(err)
	}
	vectors[len(vectors)-4] ^= 1
	labels := labelsFile(t, dumptest.Lookup(t, "moco_v2").TestLabels)
	must(t, "ingest", "test", write(t, npy, string(vectors)), "--labels", labels, "--replace")
	differs(cards[0], "bank test differs")
	must(t, "ingest", "test", features(t, filepath.Join(dir, "narrow.npy"), 40, nil), "--replace")
	differs(cards[0], "bank test differs", "the command fails on these banks")
	// A bank that is gone.
	must(t, "rm", "test", "--yes")
	if r := run(t, "card", "check", cards[0]); r.code != exitNotFound {
		t.Errorf("without its bank: exit %d: %s", r.code, r.err)
	}
	// The same rows again are the same bank, whatever its history.
	must(t, "ingest", "test", filepath.Join(dir, "test.npz"), "--labels", labels)
	if d := decode(t, must(t, "card", "check", cards[0], "--json")); d["equal"] != true {
		t.Errorf("rows that were ingested again: %v", d)
	}
}

func TestCardRefuses(t *testing.T) {
	m := dumptest.Lookup(t, "moco_v2")
	database(t)
	ingestMethod(t, m)
	before := state(t)
	dir := t.TempDir()
	path, out := filepath.Join(dir, "c.json"), filepath.Join(dir, "written")
	must(t, "eval", "knn", "--train", "train", "--test", "test", "--card", path)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := readTestCard(t, path)
	refused := func(what string, text []byte) {
		t.Helper()
		hostile := write(t, filepath.Join(dir, "hostile.json"), string(text))
		for _, verb := range []string{"check", "show"} {
			if r := run(t, "card", verb, hostile); r.code != exitBadInput || strings.Contains(r.err, "internal error") || strings.Contains(r.err, "\x1b") {
				t.Errorf("%s %s: exit %d: %s%s", verb, what, r.code, r.out, r.err)
			}
		}
	}
	for _, argv := range [][]string{
		{}, {"eval"}, {"eval", "nothing"}, {"rm", "--yes", "--", "train"}, {"ingest", "--", "x", path}, {"card", "check", "--", path},
		{"report", "--output=" + out, "--", "train"}, {"eval", "knn", "extra", "--train=train"}, {"--db=x", "eval", "knn"}, {"\x1b[2J"},
		{"eval", "knn", "--train=train", "--test=test", "--output=" + out}, {"eval", "knn", "--train=train", "--test=test", "-o=" + out},
		{"eval", "knn", "--o=" + out}, {"eval", "knn", "--card=" + out}, {"eval", "knn", "--db=" + out}, {"eval", "knn", "--json"}, {"eval", "knn", "--token-file=x"},
		{"eval", "knn", "--train", "train"}, {"eval", "knn", "--help"}, {"eval", "knn", "--leave-one-out=true"},
		{"cluster", "--clusters=3", "--", "train"}, {"cluster", "--clusters=3", "--no-attribute=false", "--", "train"}, {"rank", "--save", "--", "train"}, {"report", "--plots=" + out, "--", "train"},
		{"eval", "pseudo-labels", "--train=train", "--test=test", "--write"}, {"compare", "--images=" + dir, "--", "train", "test"},
	} {
		c := *c
		c.Argv = argv
		text, err := c.renderJSON()
		if err != nil {
			t.Fatal(err)
		}
		refused(strings.Join(argv, " "), text)
	}
	for cut := 0; cut < len(whole)-1; cut += 97 {
		refused("truncated", whole[:cut])
	}
	for name, text := range map[string]string{
		"a list": "[]", "null": "null", "two cards": string(whole) + string(whole), "deep": strings.Repeat("[", 1<<16), "binary": "\x00\xff\xfe",
		"an unknown field": strings.Replace(string(whole), `"argv"`, `"x": 1, "argv"`, 1), "a later format": strings.Replace(string(whole), `"membank_card": 1`, `"membank_card": 2`, 1),
		"no digest":    strings.Replace(string(whole), c.Banks[0].SHA256, "00", 1),
		"deep results": `{"membank_card":1,"version":"","simd":"","argv":["eval","knn"],"banks":[{"bank":"b","rows":1,"dim":1,"grouped":false,"sha256":"` + strings.Repeat("0", 64) + `"}],"result":{"a":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}}`,
	} {
		refused(name, []byte(text))
	}
	if r := run(t, "card", "check", filepath.Join(dir, "none.json")); r.code != exitNotFound {
		t.Errorf("no such file: exit %d: %s", r.code, r.err)
	}
	// Flags that are wrong are found before the work, and write nothing.
	for line, code := range map[string]int{
		"eval knn --train train --test test --card " + out + ".txt":        exitUsage,
		"eval knn --train train --test test --card " + out + "/no/c.json":  exitNotFound,
		"eval knn --protocol help --card " + out + ".json":                 exitUsage,
		"eval pseudo-labels --train train --test test --write --card c.md": exitUsage,
		"rank train --save --card c.md":                                    exitUsage,
		"cluster train -c 5 --card c.md":                                   exitUsage,
	} {
		if r := run(t, strings.Fields(line)...); r.code != code {
			t.Errorf("%s: exit %d, want %d: %s", line, r.code, code, r.err)
		}
	}
	if files, _ := filepath.Glob(out + "*"); len(files) > 0 || state(t) != before {
		t.Errorf("something was written: %v", files)
	}
}

// Only where rows are regrouped may numbers that are sums differ, and by little.
func TestSameValue(t *testing.T) {
	for _, c := range []struct {
		a, b        string
		exact, near bool
	}{
		{"1", "1.0", true, true}, {"384", "385", false, false}, {"0.5", "0.5000000001", false, true}, {"0.5", "0.500000001", false, false},
		{"1000000000000", "1000000000001", false, false}, {"null", "0", false, false}, {`"a"`, `"b"`, false, false}, {"-2.5", "2.5", false, false},
		{"1e-300", "0", false, false},
	} {
		if got := sameValue(c.a, c.b, false); got != c.exact {
			t.Errorf("%s and %s exactly: %v", c.a, c.b, got)
		}
		if got := sameValue(c.a, c.b, true); got != c.near {
			t.Errorf("%s and %s regrouped: %v", c.a, c.b, got)
		}
	}
}

func readTestCard(t *testing.T, path string) *card {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var c card
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	return &c
}

// Every evaluation has a card that is checked equal, and that a bank with one label
// changed is said to differ from.
func TestEveryEvaluationHasACard(t *testing.T) {
	m := dumptest.Lookup(t, "moco_v2")
	dir := database(t)
	labels := m.TestLabels[:300]
	rows := exportedRows(t, m.TestPath, 300)
	attributes := "key,group\n"
	for i := range labels {
		attributes += strconv.Itoa(i) + "," + string("ab"[i%2]) + "\n"
	}
	groups := write(t, filepath.Join(t.TempDir(), "groups.csv"), attributes)
	for _, name := range []string{"m/a/train", "m/a/test", "n/a/train", "n/a/test"} {
		must(t, "ingest", name, rows, "--labels", labelsFile(t, labels), "--attributes", groups)
	}
	lines := map[string]string{ // by what the card calls itself
		"eval knn":           "eval knn --train m/a/train --test m/a/test -k 5",
		"eval fewshot":       "eval fewshot --train m/a/train --test m/a/test --per-class-shots 1,5 --tries 2",
		"eval pseudo-labels": "eval pseudo-labels --train m/a/train --test m/a/test -k 5",
		"eval retrieval":     "eval retrieval --gallery m/a/train --queries m/a/test",
		"eval clusters":      "eval clusters m/a/train -c 10 --seeds 2",
		"eval groups":        "eval groups --gallery m/a/train --queries m/a/test --by group -k 5",
		"eval robustness":    "eval robustness --train m/a/train --test m/a/test --perturbed n/a/test -k 5",
		"eval transfer":      "eval transfer --banks m/a/train,m/a/test,n/a/train,n/a/test --only knn,retrieval -k 5",
		"diagnose":           "diagnose m/a/train",
		"compare":            "compare m/a/train n/a/train",
		"cluster":            "cluster m/a/train -c 10 --spherical --no-attribute",
		"duplicates":         "duplicates m/a/train --min-score 0.9",
		"label-errors":       "label-errors m/a/train -k 5 --show 3",
		"rank":               "rank m/a/train --by outlier",
		"select":             "select m/a/train -n 20 --seed 3",
		"report":             "report m/a/train n/a/train --test m/a/test,n/a/test -k 5,10 --map-rows 100 -o " + filepath.Join(t.TempDir(), "r.html"),
	}
	for _, name := range recordedNames() {
		if lines[name] == "" {
			t.Errorf("%s is not tested", name)
		}
	}
	before := state(t)
	t.Chdir(t.TempDir())
	for _, c := range evalCommand().Subcommands {
		if lines["eval "+c.Name] == "" {
			t.Errorf("eval %s is not tested", c.Name)
		}
	}
	cards := map[string]string{}
	for name, line := range lines {
		for _, kind := range []string{".json", ".md"} {
			path := filepath.Join(t.TempDir(), "card"+kind)
			must(t, append(strings.Fields(line), "--card", path, "--quiet")...)
			if kind == ".json" {
				cards[name] = path
				if c := readTestCard(t, path); strings.Join(c.Argv[:len(strings.Fields(name))], " ") != name || len(c.Banks) == 0 || len(c.Result) < 50 {
					t.Errorf("%s: the card is of %q, %d banks", name, c.Argv, len(c.Banks))
				}
			}
			if d := decode(t, must(t, "card", "check", path, "--json", "--quiet", "--threads", "1")); d["equal"] != true {
				t.Errorf("%s: %v", name, d)
			}
		}
	}
	if state(t) != before {
		t.Error("a card, or its check, changed the database")
	}
	if files, _ := filepath.Glob("*"); len(files) > 0 {
		t.Errorf("card check wrote %v", files)
	}
	labels = slices.Clone(labels)
	labels[7]++
	for _, name := range []string{"m/a/train", "m/a/test"} {
		must(t, "ingest", name, rows, "--labels", labelsFile(t, labels), "--attributes", groups, "--replace", "--db", dir)
	}
	for name, path := range cards {
		if r := run(t, "card", "check", path); r.code != exitFailure || !strings.Contains(r.out, "bank m/a/train differs") {
			t.Errorf("%s: exit %d after a label was changed\n%s%s", name, r.code, r.out, r.err)
		}
	}
	// Another parameter gives other figures; a card whose banks are not those of its
	// command says so.
	must(t, "ingest", "other", rows)
	for name, change := range map[string][2]string{
		"duplicates": {"--min-score=0.9", "--min-score=0.8"}, "label-errors": {"--k=5", "--k=6"}, "rank": {"--by=outlier", "--by=density"},
		"select": {"--seed=3", "--seed=4"}, "cluster": {"--clusters=10", "--clusters=9"}, "report": {"--k=5,10", "--k=5,11"},
	} {
		c := readTestCard(t, cards[name])
		at := slices.Index(c.Argv, change[0])
		if at < 0 {
			t.Fatalf("%s: no %s in %q", name, change[0], c.Argv)
		}
		c.Argv[at] = change[1]
		text, err := c.renderJSON()
		if err != nil {
			t.Fatal(err)
		}
		edited := write(t, filepath.Join(t.TempDir(), "edited.json"), string(text))
		if r := run(t, "card", "check", edited); r.code != exitFailure || !strings.Contains(r.out, "figure ") {
			t.Errorf("%s with %s: exit %d\n%s%s", name, change[1], r.code, r.out, r.err)
		}
		if name == "report" {
			continue
		}
		c = readTestCard(t, cards[name])
		c.Argv[len(c.Argv)-1] = "other"
		if text, err = c.renderJSON(); err != nil {
			t.Fatal(err)
		}
		write(t, edited, string(text))
		if r := run(t, "card", "check", edited); r.code != exitFailure || !strings.Contains(r.out, "bank m/a/train differs") && !strings.Contains(r.out, "bank other differs: was absent") {
			t.Errorf("%s on another bank: exit %d\n%s%s", name, r.code, r.out, r.err)
		}
	}
}

// exportedRows are the first rows of a file of features, as a file.
func exportedRows(t *testing.T, path string, n int) string {
	t.Helper()
	must(t, "ingest", "whole", path)
	out := filepath.Join(t.TempDir(), "rows.npy")
	numbers := make([]string, n)
	for i := range numbers {
		numbers[i] = strconv.Itoa(i)
	}
	must(t, "get", "whole", "--rows", strings.Join(numbers, ","), "-o", out)
	must(t, "rm", "whole", "--yes")
	return out
}
