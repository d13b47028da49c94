package cli

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"membank/store"
	"membank/store/dump"
)

// arrayFile writes an .npy.
func arrayFile(t *testing.T, dir, name string, data any, shape ...int64) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := writeNPYFile(path, data, shape...); err != nil {
		t.Fatal(err)
	}
	return path
}

func writeNPYFile(path string, data any, shape ...int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := dump.WriteNPY(f, data, shape...); err != nil {
		return err
	}
	return f.Close()
}

const bankLines = `
	membank bank init npid --rows 20 --dim 4 --init uniform --seed 1
	membank bank update npid --ids $OUT/ids.npy --vectors $OUT/batch.npy --keep-old 0.5 --labels $OUT/labels.npy --step 10
	membank bank update npid --ids 7 --vectors $OUT/one.npy --keep-new 1
	membank bank get npid --ids 1,3,7
	membank bank get npid --scope written -o $OUT/rows.npz
	membank bank sample npid -n 5 --positives 1,3 --positive-first --step 3
	membank bank sample npid -n 3 --scope written --distinct --json
	membank bank nearest npid --vectors $OUT/one.npy -k 2
	membank bank nearest npid --vectors $OUT/one.npy -k 2 --hard --positives 7 --json
	membank bank loss npid --vectors $OUT/batch.npy --positives $OUT/ids.npy -n 8 --json
	membank bank checkpoint npid
	membank query npid/step-11 --row 7 -k 1
	membank bank update npid --ids 0 --vectors $OUT/one.npy
	membank bank show npid
	membank bank restore npid --step 11
	membank bank get npid --ids 0
	membank bank init q --kind queue --rows 6 --dim 4 --init zeros
	membank bank push q --vectors $OUT/batch.npy --keys $OUT/keys.txt
	membank bank push q --vectors $OUT/batch.npy --keys $OUT/keys.txt --json
	membank bank get q --ordered
	membank bank nearest q --vectors $OUT/one.npy -k 1 --scope all
	membank bank checkpoint q --step 50
	membank show q/step-50
	membank bank show
	membank ls
	membank bank init moco --kind queue --rows 6 --dim 4 --wrap assert
	membank bank push moco --vectors $OUT/batch.npy
	membank bank init npid --rows 3 --dim 2
	membank bank init bad --rows 3
	membank bank init bad --rows 3 --dim 2 --wrap ring
	membank bank update npid --ids 99 --vectors $OUT/one.npy
	membank bank update q --ids 1 --vectors $OUT/one.npy
	membank bank update npid --ids 1 --vectors $OUT/one.npy --keep-old 2
	membank bank restore npid --step 5
	membank bank get nipd --ids 0 --json
	membank bank drop moco
	membank bank drop npid --json
	membank ls
	membank verify`

// A session with a memory bank and a queue; a person reads the transcript, and
// numbers are checked below and by the tests of index/memory.
func TestBankSession(t *testing.T) {
	dir, out := database(t), t.TempDir()
	arrayFile(t, out, "batch.npy", []float32{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}, 4, 4)
	arrayFile(t, out, "one.npy", []float32{3, 0, 4, 0}, 1, 4)
	arrayFile(t, out, "ids.npy", []int64{1, 3, 5, 3})
	arrayFile(t, out, "labels.npy", []int64{1, 2, -1, 0})
	write(t, filepath.Join(out, "keys.txt"), "a\nb\nc\nd\n")
	text := transcript(t, map[string]string{"$OUT": out, "$DB": dir}, bankLines)
	// The log's head holds times, which are written as long as they have digits.
	text = regexp.MustCompile(`(?m)^log  \d+ B$`).ReplaceAllString(text, "log  # B")
	golden(t, "bank", text)
}

// What the commands print is what the formula gives: an overwritten slot is the unit
// vector, a mixed one half of each, and the checkpoint holds the same rows.
func TestBankRowsAreWhatTheFormulaGives(t *testing.T) {
	database(t)
	out := t.TempDir()
	path := arrayFile(t, out, "one.npy", []float32{3, 0, 4, 0}, 1, 4)
	other := arrayFile(t, out, "other.npy", []float32{0, 5, 0, 0}, 1, 4)
	must(t, "bank", "init", "m", "--rows", "5", "--dim", "4")
	must(t, "bank", "update", "m", "--ids", "2", "--vectors", path)
	must(t, "bank", "update", "m", "--ids", "2", "--vectors", other, "--keep-old", "0.75", "--step", "9")
	// 0.75·(.6, 0, .8, 0) + 0.25·(0, 5, 0, 0), divided by its norm.
	want := []float64{.45, 1.25, .6, 0}
	norm := math.Sqrt(.45*.45 + 1.25*1.25 + .6*.6)
	must(t, "bank", "checkpoint", "m")
	var rows []bankRow
	if err := json.Unmarshal([]byte(must(t, "bank", "get", "m", "--ids", "2", "--json")), &rows); err != nil {
		t.Fatal(err)
	}
	for d, x := range want {
		if math.Abs(float64(rows[0].Vector[d])-x/norm) > 1e-6 {
			t.Errorf("slot 2 is %v, want %v by %v", rows[0].Vector, want, norm)
			break
		}
	}
	if *rows[0].Version != 9 {
		t.Errorf("version %d", *rows[0].Version)
	}
	if text := must(t, "get", "m/step-9", "--rows", "2", "--json"); !strings.Contains(text, `"attributes":{"step":9}`) {
		t.Errorf("the checkpoint's row: %s", text)
	}
}

// A lost checkpoint is named, and there is a way back.
func TestLostCheckpointOfABank(t *testing.T) {
	dir := database(t)
	path := arrayFile(t, t.TempDir(), "one.npy", []float32{3, 4}, 1, 2)
	must(t, "bank", "init", "m", "--rows", "5", "--dim", "2", "--init", "zeros")
	for _, step := range []string{"1", "2"} {
		must(t, "bank", "update", "m", "--ids", step, "--vectors", path)
		must(t, "bank", "checkpoint", "m")
	}
	removeBank(t, dir, "m/step-2")
	if r := run(t, "bank", "get", "m", "--ids", "1"); r.code != exitCorrupt || !strings.Contains(r.err, "m/step-2") || !strings.Contains(r.err, "bank restore") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
	if r := run(t, "verify"); r.code != exitCorrupt || !strings.Contains(r.out, "memory bank m") {
		t.Errorf("verify: exit %d: %s%s", r.code, r.out, r.err)
	}
	must(t, "bank", "restore", "m", "--step", "1")
	if got := must(t, "bank", "get", "m", "--scope", "written", "--json"); !strings.Contains(got, `"id":1`) || strings.Contains(got, `"id":2`) {
		t.Errorf("restored: %s", got)
	}
	must(t, "bank", "checkpoint", "m", "--step", "2") // takes the place of the lost one
}

// removeBank deletes a bank beneath the commands, which refuse to.
func removeBank(t *testing.T, dir, bank string) {
	t.Helper()
	db, err := store.Open(t.Context(), dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.RemoveBank(t.Context(), bank); err != nil {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// rm takes nothing from a checkpoint that its memory bank would miss, in whole, by
// rows, or through a server, and says what to do instead.
func TestCheckpointsAreNotRemoved(t *testing.T) {
	dir := database(t)
	path := arrayFile(t, t.TempDir(), "one.npy", []float32{3, 4}, 1, 2)
	must(t, "ingest", "m/step-7", path) // by name only
	must(t, "ingest", "x/step-1", path)
	must(t, "bank", "init", "m", "--rows", "5", "--dim", "2,2", "--prototypes", "3")
	for _, step := range []string{"1", "2"} {
		must(t, "bank", "update", "m", "--ids", step, "--vectors", path, "--vectors", path)
		must(t, "bank", "checkpoint", "m")
	}
	refused := []struct{ bank, remedy string }{
		{"m/step-2", "membank bank checkpoint m"}, {"m/step-2/view-1", "membank bank drop m"}, {"m/step-2/prototypes", "applies to this checkpoint"},
		{"m/step-1", "membank bank forget m --step 1"}, {"m/step-1/view-1", "membank bank forget m --step 1"},
	}
	for _, c := range refused {
		for _, args := range [][]string{{}, {"--where", "row == 0"}, {"--dry-run"}} {
			if r := run(t, append([]string{"rm", c.bank, "--yes"}, args...)...); r.code != exitUsage || !strings.Contains(r.err, c.remedy) {
				t.Errorf("rm %s %v: exit %d: %s", c.bank, args, r.code, r.err)
			}
		}
	}
	must(t, "rm", "m/step-7")
	must(t, "rm", "x/step-1")
	must(t, "verify")
	s := startServer(t, dir)
	s.ask(t, "GET", "/v1/memory/m", "", nil) // which opens it
	if a := s.ask(t, "DELETE", "/v1/banks/m%2Fstep-2", "", nil); a.status != 400 || !strings.Contains(a.text, "applies to this checkpoint") {
		t.Errorf("%d %s", a.status, a.text)
	}
	if a := s.ask(t, "POST", "/v1/memory/m/forget?step=1", "", nil); a.status != 200 {
		t.Errorf("%d %s", a.status, a.text)
	}
	if a := s.ask(t, "POST", "/v1/memory/m/checkpoint?step=9", "", nil); a.status != 200 {
		t.Errorf("%d %s", a.status, a.text)
	}
	if a := s.ask(t, "DELETE", "/v1/banks/m%2Fstep-2", "", nil); a.status != 400 || !strings.Contains(a.text, "bank forget m --step 2") {
		t.Errorf("%d %s", a.status, a.text)
	}
}

// What is wrong with a bank is found before --replace removes the one it replaces.
func TestBankInitReplacesOnlyByWhatIsRight(t *testing.T) {
	database(t)
	out := t.TempDir()
	good := arrayFile(t, out, "good.npy", []float32{3, 4, 1, 0}, 2, 2)
	bad := arrayFile(t, out, "bad.npy", []float32{3, 4, 1, float32(math.NaN())}, 2, 2)
	must(t, "bank", "init", "m", "--vectors", good)
	for _, args := range [][]string{
		{"--vectors", bad}, {"--vectors", good, "--vectors", filepath.Join(out, "none.npy")}, {"--from", "none"},
		{"--kind", "queue", "--rows", "3", "--dim", "2", "--order", "shift", "--wrap", "drop-tail"},
	} {
		r := run(t, append([]string{"bank", "init", "m", "--replace"}, args...)...)
		if r.code == exitOK || r.code == exitFailure {
			t.Errorf("%v: exit %d: %s", args, r.code, r.err)
		}
		if got := must(t, "bank", "get", "m", "--ids", "0", "--json"); !strings.Contains(got, "[3,4]") {
			t.Errorf("%v: the bank is %s", args, got)
		}
	}
	must(t, "bank", "init", "m", "--rows", "4", "--dim", "3", "--replace")
	if got := must(t, "bank", "show", "m", "--json"); !strings.Contains(got, `"rows":4`) {
		t.Errorf("replaced: %s", got)
	}
}
