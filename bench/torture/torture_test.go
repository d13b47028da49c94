package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"membank/store"
)

// The test binary is its own child.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == ChildArgument {
		os.Exit(Child(os.Args[2:]))
	}
	os.Exit(m.Run())
}

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func mustRun(t *testing.T, o Options) Report {
	t.Helper()
	o.Dir, o.Log = t.TempDir(), testLog{t}
	report, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestNothingIsFound(t *testing.T) {
	report := mustRun(t, Options{Kills: 6, Damages: 25})
	if len(report.Faults) > 0 {
		t.Fatalf("%+v", report.Faults)
	}
	if report.Kills.InFlight < 6 || report.Damages.Total < 25 ||
		report.Damages.Right+report.Damages.Reads+report.Damages.Refused < 25 {
		t.Fatalf("%+v", report)
	}
	b, err := json.Marshal(report)
	if err != nil || !bytes.Contains(b, []byte(`"in_flight"`)) {
		t.Fatal(string(b), err)
	}
	var table bytes.Buffer
	if err := report.Write(&table); err != nil || !strings.Contains(table.String(), "within a change") {
		t.Fatal(table.String(), err)
	}
}

func TestUnknownScenario(t *testing.T) {
	if _, err := Run(context.Background(), Options{Only: "earthquake"}); err == nil {
		t.Fatal("no error")
	}
}

// Torture that finds nothing may be blind. With a fault built into the store it
// must see.
func TestFaultsAreFound(t *testing.T) {
	if testing.Short() {
		t.Skip("builds three programs")
	}
	for _, c := range []struct {
		tag, says string
		o         Options
	}{
		{"faultnochecksum", "bank", Options{Only: "damages", Damages: 600, Seed: 3}},
		{"faultorder", "older state", Options{Only: "kills", Kills: 200, Seed: 3}},
		{"faultnosync", "", Options{Only: "power", Seed: 3}},
	} {
		t.Run(c.tag, func(t *testing.T) {
			program := filepath.Join(t.TempDir(), "torture")
			if runtime.GOOS == "windows" {
				program += ".exe"
			}
			build := exec.Command("go", "build", "-tags", c.tag, "-o", program, "membank/bench/torture/run")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			c.o.Child = []string{program, ChildArgument}
			c.o.Faults = 1
			report := mustRun(t, c.o)
			if len(report.Faults) == 0 {
				if len(report.Skipped) > 0 {
					t.Skip(report.Skipped)
				}
				t.Fatalf("%s was not found: %+v", c.tag, report)
			}
			f := report.Faults[0]
			if !strings.Contains(f.Message, c.says) || !strings.Contains(f.Repeat, "--seed") {
				t.Fatalf("found, but not as %q: %+v", c.says, f)
			}
			if _, err := os.Stat(f.Kept); err != nil {
				t.Fatalf("the evidence is gone: %v", err)
			}
		})
	}
}

// Every kind of damage changes the copy, the same for the same seed.
func TestDamageDamages(t *testing.T) {
	root := t.TempDir()
	older := template{dir: filepath.Join(root, "older")}
	whole := template{dir: filepath.Join(root, "whole")}
	for _, tree := range []template{older, whole} {
		for _, name := range []string{"a", "b/c"} {
			path := filepath.Join(tree.dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			content := bytes.Repeat([]byte(filepath.Base(tree.dir)+name), 300)
			if err := os.WriteFile(path, append(content, make([]byte, 100)...), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	var err error
	if whole.files, err = filesBelow(whole.dir); err != nil || len(whole.files) != 2 {
		t.Fatal(whole.files, err)
	}
	kinds := map[string]int{}
	for seed := range uint64(150) {
		var texts [2]string
		for i := range texts {
			dir := filepath.Join(t.TempDir(), "copy")
			if err := copyTree(whole.dir, dir); err != nil {
				t.Fatal(err)
			}
			kind, file, text, err := damage(newRand(seed), dir, whole, older)
			if err != nil {
				t.Fatal(err)
			}
			texts[i] = text
			kinds[kind]++
			before, _ := os.ReadFile(filepath.Join(whole.dir, file))
			after, err := os.ReadFile(filepath.Join(dir, file))
			if err == nil && bytes.Equal(before, after) || err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("seed %d: %s changed nothing (%v)", seed, text, err)
			}
		}
		if texts[0] != texts[1] {
			t.Fatalf("seed %d: %s, then %s", seed, texts[0], texts[1])
		}
	}
	if len(kinds) != 7 {
		t.Fatalf("kinds: %v", kinds)
	}
}

// A ledger is replayed to the model, a torn last line dropped, what was under way
// known.
func TestLedgerReplays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	l, err := openLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	create := change{Op: "create", Bank: "a", Dim: 3, New: segment{Seed: 1, Rows: 10}}
	must(l.write(line{State: "begin", change: create}))
	must(l.write(line{State: "ack", change: change{Bank: "a"}}))
	must(l.write(line{State: "begin", change: change{Op: "delete", Bank: "a", Every: 4, From: 1}}))
	must(l.write(line{State: "ack", change: change{Bank: "a"}}))
	must(l.write(line{State: "begin", change: change{Op: "remove", Bank: "a"}}))
	must(l.write(line{State: "refused", change: change{Bank: "a"}}))
	must(l.write(line{State: "begin", change: change{Op: "append", Bank: "a", Dim: 3, New: segment{Seed: 2, Rows: 5}}}))
	if _, err := l.file.WriteString(`{"state":"ack","ba`); err != nil {
		t.Fatal(err)
	}
	l.close()
	for range 2 {
		l, err = openLedger(path)
		must(err)
		b := l.model["a"]
		if len(l.model) != 1 || b.next != 10 || b.live() != 7 || !b.dead[1] || !b.dead[5] || !b.dead[9] {
			t.Fatalf("%+v", b)
		}
		if c := l.pending["a"]; c.Op != "append" || after(b, c).next != 15 || b.next != 10 {
			t.Fatalf("%+v", l.pending)
		}
		l.close()
	}
}

// The checks see a database that differs from the model in any one thing.
func TestChecksSeeDifferences(t *testing.T) {
	ctx := context.Background()
	db, err := store.Open(ctx, filepath.Join(t.TempDir(), "db"), store.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c := change{Bank: "a", Dim: 33, New: segment{Seed: 5, Rows: 200, Keys: true, Labels: true, Attributes: true}}
	if _, err := ingest(store.Create)(ctx, db, c); err != nil {
		t.Fatal(err)
	}
	right := applyReplace(nil, c)
	rng := func() *rand.Rand { return newRand(1) }
	if err := checkBank(ctx, db, "a", right, rng()); err != nil {
		t.Fatal(err)
	}
	for what, differ := range map[string]func(b *bank){
		"another seed":    func(b *bank) { b.segments[0].Seed++ },
		"no keys":         func(b *bank) { b.segments[0].Keys = false },
		"no labels":       func(b *bank) { b.segments[0].Labels = false },
		"no attributes":   func(b *bank) { b.segments[0].Attributes = false },
		"a row deleted":   func(b *bank) { b.dead[7] = true },
		"a row more":      func(b *bank) { b.segments[0].Rows++; b.next++ },
		"half precision":  func(b *bank) { b.dtype = store.F16 },
		"another row set": func(b *bank) { b.segments = append(b.segments, segment{Seed: 9, Rows: 1}); b.next++ },
	} {
		b := right.clone()
		differ(b)
		if err := checkBank(ctx, db, "a", b, rng()); !isWrong(err) {
			t.Fatalf("%s: %v", what, err)
		}
	}
	if err := checkBank(ctx, db, "b", right, rng()); !isWrong(err) {
		t.Fatal(err)
	}
	if err := checkNames(db, model{}); !isWrong(err) {
		t.Fatal(err)
	}
	if err := checkNames(db, model{"a": right, "b": right}); !isWrong(err) {
		t.Fatal(err)
	}
}

// The oracle, against a second one: scores of integers by integer arithmetic.
func TestNearestIsNaive(t *testing.T) {
	b := applyReplace(nil, change{Dim: 9, New: segment{Seed: 3, Rows: 40}})
	b.dead[4] = true
	query := make([]float32, 9)
	segment{Seed: 8}.vector(query, 0)
	got := b.nearest(query, 100, true)
	if len(got) != 39 {
		t.Fatal(len(got))
	}
	x := make([]float32, 9)
	for i, hit := range got {
		b.segments[0].vector(x, int(hit.row))
		sum := 0
		for d := range x {
			sum -= (int(x[d]) - int(query[d])) * (int(x[d]) - int(query[d]))
		}
		if hit.row == 4 || hit.score != float64(sum) || i > 0 && got[i-1].score < hit.score {
			t.Fatal(i, hit, sum)
		}
	}
	if slices.ContainsFunc(x, func(v float32) bool { return v < -8 || v > 8 }) {
		t.Fatal(x)
	}
}

// A child that does not answer is a fault, not a wait.
func TestAHangIsAFault(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no sleep command")
	}
	d := &driver{Options: Options{Child: []string{"sleep"}}}
	p, err := d.start("60")
	if err != nil {
		t.Fatal(err)
	}
	if end := p.finish(100*time.Millisecond, nil); !strings.Contains(end.fault, "hangs") {
		t.Fatalf("%+v", end)
	}
}
