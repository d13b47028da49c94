package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"membank/store"
	"membank/store/dump"
)

// childMode makes the test binary a membank, or a process that holds a database.
const childMode = "MEMBANK_CLI_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childMode) {
	case "membank":
		os.Exit(Main())
	case "hold":
		db, err := store.Open(context.Background(), os.Args[1], store.Options{Create: true})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("held")
		io.Copy(io.Discard, os.Stdin)
		db.Close()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child prepares the test binary as a process of its own.
func child(mode string, args ...string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	c := exec.Command(exe, args...)
	c.Env = append(os.Environ(), childMode+"="+mode)
	return c
}

// npy is an .npy of the given header fields around the data.
func npy(descr, shape string, data any) []byte {
	header := fmt.Sprintf("{'descr': %s, 'fortran_order': False, 'shape': %s, }", descr, shape)
	header += strings.Repeat(" ", 63-(10+len(header))%64) + "\n"
	var b bytes.Buffer
	b.WriteString("\x93NUMPY\x01\x00")
	binary.Write(&b, binary.LittleEndian, uint16(len(header)))
	b.WriteString(header)
	if data != nil {
		binary.Write(&b, binary.LittleEndian, data)
	}
	return b.Bytes()
}

// features is an .npy of rows×4 small numbers; change may spoil them.
func features(t *testing.T, path string, rows int, change func(x []float32)) string {
	t.Helper()
	x := make([]float32, 4*rows)
	for i := range x {
		x[i] = float32(i%7) + 1
	}
	if change != nil {
		change(x)
	}
	return write(t, path, string(npy("'<f4'", fmt.Sprintf("(%d, 4)", rows), x)))
}

// state is what ls says of every bank: rows, generation, bytes and all.
func state(t *testing.T) string { return must(t, "ls", "--json") }

// Bad input leaves the banks untouched and names file, row and remedy.
func TestBadInput(t *testing.T) {
	database(t)
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	good := features(t, in("good.npy"), 10, nil)
	must(t, "ingest", "b", good, "--keys", write(t, in("k.txt"), "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n"))
	must(t, "ingest", "wide", write(t, in("wide.npy"), string(npy("'<f4'", "(2, 8)", make([]float32, 16)))))
	whole := npy("'<f4'", "(10, 4)", make([]float32, 40))
	nan := func(at int, v float32) func([]float32) {
		return func(x []float32) { x[at] = v }
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		want []string // in the one line on stderr
	}{
		{"truncated", []string{"new", write(t, in("cut.npy"), string(whole[:len(whole)-17]))}, exitBadInput, []string{"cut.npy", "10 rows", "8 are there", "copy"}},
		{"header promises more", []string{"new", write(t, in("more.npy"), string(npy("'<f4'", "(1000000, 4)", make([]float32, 40))))}, exitBadInput, []string{"more.npy", "1000000", "("}},
		{"shape product overflow", []string{"new", write(t, in("overflow.npy"), string(npy("'<f4'", "(4294967296, 4294967296)", nil)))}, exitBadInput, []string{"overflow.npy", "4294967296", "("}},
		{"object dtype", []string{"new", write(t, in("object.npy"), string(npy("'|O'", "(10, 4)", make([]float32, 80))))}, exitBadInput, []string{"object.npy", "object", "("}},
		{"wrong dims on append", []string{"b", in("wide.npy"), "--append"}, exitBadInput, []string{"wide.npy", "8", "4", "("}},
		{"files of two dims", []string{"new", good, in("wide.npy")}, exitBadInput, []string{"wide.npy: 8 dimensions", "good.npy has 4", "("}},
		{"NaN", []string{"b", features(t, in("nan.npy"), 10, nan(4*7+1, float32(math.NaN()))), "--replace"}, exitBadInput, []string{"nan.npy: row 7", "--skip-bad"}},
		{"Inf in the second file", []string{"new", good, features(t, in("inf.npy"), 10, nan(4*3, float32(math.Inf(-1))))}, exitBadInput, []string{"inf.npy: row 3", "--skip-bad"}},
		{"labels too few", []string{"new", good, "--labels", write(t, in("l.txt"), "1\n2\n3\n")}, exitBadInput, []string{"l.txt: 3 labels for 10 rows of", "good.npy", "("}},
		{"labels too many", []string{"new", good, good, "--labels", write(t, in("l21.txt"), strings.Repeat("1\n", 21))}, exitBadInput, []string{"l21.txt: 21 labels for 20 rows of the 2 files", "("}},
		{"keys too few", []string{"new", good, "--keys", in("l.txt")}, exitBadInput, []string{"l.txt: 3 keys for 10 rows", "("}},
		{"attributes too few", []string{"new", good, "--attributes", write(t, in("a.csv"), "x\n1\n2\n")}, exitBadInput, []string{"a.csv: 2 rows for 10 rows", "("}},
		{"duplicate key", []string{"new", good, "--keys", write(t, in("twice.txt"), "a\nb\nc\nd\ne\nf\nb\nh\ni\nj\n")}, exitBadInput, []string{"twice.txt: row 6", `"b"`, "row 1", "("}},
		{"key the bank has", []string{"b", good, "--append", "--keys", write(t, in("again.txt"), "A\nB\nC\nd\nE\nF\nG\nH\nI\nJ\n")}, exitBadInput, []string{"again.txt: row 3", `"d"`, "row 3 of the bank", "("}},
		{"empty file", []string{"new", write(t, in("empty.npy"), "")}, exitBadInput, []string{"empty.npy", "empty", "("}},
		{"too large for f16", []string{"new", features(t, in("large.npy"), 10, nan(4*5, 1e6)), "--dtype", "f16"}, exitBadInput, []string{"large.npy: row 5: element 0 is 1e+06", "--dtype f32"}},
		{"a directory", []string{"new", dir}, exitBadInput, []string{dir + ": is a directory", "("}},
		{"no such file", []string{"new", in("none.npy")}, exitNotFound, []string{"none.npy", "no such file", "("}},
		{"no rows", []string{"new", write(t, in("zero.npy"), string(npy("'<f4'", "(0, 4)", nil)))}, exitBadInput, []string{"zero.npy: holds no rows", "("}},
		{"integers", []string{"new", write(t, in("int.npy"), string(npy("'<i4'", "(10, 4)", make([]int32, 40))))}, exitBadInput, []string{"int.npy", "int32", "("}},
		{"neither format", []string{"new", write(t, in("x.bin"), "\x00\x01\x02")}, exitBadInput, []string{"x.bin", "("}},
		{"bank exists", []string{"b", good}, exitUsage, []string{`bank "b"`, "--append", "--replace"}},
		{"append to nothing", []string{"new", good, "--append"}, exitNotFound, []string{`"new"`, "("}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := state(t)
			r := run(t, append([]string{"ingest"}, c.args...)...)
			t.Log(r.err)
			if r.code != c.code || r.out != "" || strings.Count(r.err, "\n") != 1 || !strings.HasPrefix(r.err, "membank: ") {
				t.Errorf("exit %d, want %d; stdout %q, stderr %q", r.code, c.code, r.out, r.err)
			}
			for _, want := range c.want {
				if !strings.Contains(r.err, want) {
					t.Errorf("%q does not say %q", r.err, want)
				}
			}
			if after := state(t); after != before {
				t.Errorf("the banks changed\nbefore %safter  %s", before, after)
			}
		})
	}
	t.Run("--skip-bad", func(t *testing.T) {
		out := must(t, "ingest", "skipped", in("nan.npy"), in("inf.npy"), "--skip-bad", "--json")
		var r ingested
		if err := json.Unmarshal([]byte(out), &r); err != nil || r.Rows != 18 || r.Skipped != 2 {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// Bad queries name what is wrong with them, too.
func TestBadQueries(t *testing.T) {
	database(t)
	dir := t.TempDir()
	must(t, "ingest", "b", features(t, filepath.Join(dir, "good.npy"), 10, nil))
	wide := write(t, filepath.Join(dir, "wide.npy"), string(npy("'<f4'", "(2, 8)", make([]float32, 16))))
	nan := features(t, filepath.Join(dir, "nan.npy"), 10, func(x []float32) { x[9] = float32(math.NaN()) })
	for line, c := range map[string]struct {
		code int
		want string
	}{
		"query b --vectors " + wide:                              {exitBadInput, "wide.npy: 8 dimensions"},
		"query b --vectors " + nan:                               {exitBadInput, "nan.npy: row 2"},
		"query b --row 10":                                       {exitNotFound, "10"},
		"query b --key x":                                        {exitNotFound, `no row has the key "x"`},
		"query b --from none":                                    {exitNotFound, `bank "none"`},
		"query none --row 0":                                     {exitNotFound, `bank "none"`},
		"query b --row 0 -o " + dir + "/none/x.npz":              {exitNotFound, "no directory"},
		"query b --row 0 -o x.txt":                               {exitUsage, "unknown kind of file"},
		"query b --row 0 -o x.html --images " + dir + "/nowhere": {exitNotFound, "no such directory"},
		"export b -o x.pt":                                       {exitUsage, "unknown kind of file"},
		"get b --rows 3,99":                                      {exitNotFound, "99"},
		"show none":                                              {exitNotFound, `bank "none"`},
		"rm none":                                                {exitNotFound, `bank "none"`},
		"eval knn --train b --test b":                            {exitBadInput, "label"},
		"ls --db " + dir + "/none":                               {exitNotFound, "does not exist"},
	} {
		r := run(t, strings.Fields(line)...)
		if r.code != c.code || !strings.Contains(r.err, c.want) || strings.Count(r.err, "\n") != 1 || !strings.Contains(r.err, "(") {
			t.Errorf("membank %s: exit %d, %q; want %d and %q", line, r.code, r.err, c.code, c.want)
		}
	}
}

// A Badger database of another program is neither read nor written.
func TestForeignDirectories(t *testing.T) {
	database(t)
	dir := t.TempDir()
	good := features(t, filepath.Join(dir, "good.npy"), 10, nil)
	must(t, "ingest", "b", good)
	foreign := filepath.Join(dir, "foreign")
	if err := os.CopyFS(foreign, os.DirFS(filepath.Join(os.Getenv("MEMBANK_DB"), "blocks"))); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other")
	os.Mkdir(other, 0o755)
	write(t, filepath.Join(other, "thesis.tex"), "x")
	for db, want := range map[string]string{foreign: "Badger", other: "not a membank database", good: "not a membank database"} {
		before := listing(t, db)
		for _, args := range [][]string{{"ingest", "b", good}, {"ls"}, {"verify"}, {"rm", "b"}} {
			r := run(t, append(args, "--db", db)...)
			if r.code != exitBadInput || !strings.Contains(r.err, want) || !strings.Contains(r.err, db) || !strings.Contains(r.err, "(") {
				t.Errorf("%s: exit %d, %q; want exit %d naming %q", args[0], r.code, r.err, exitBadInput, want)
			}
		}
		if after := listing(t, db); after != before {
			t.Errorf("%s changed\nbefore %s\nafter  %s", db, before, after)
		}
	}
}

// listing is the names, sizes and times of all files.
func listing(t *testing.T, dir string) string {
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			fmt.Fprintln(&b, path, info.Size(), info.ModTime().UnixNano())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Where this user may not write, writing says so and reading works.
func TestReadOnlyDirectory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs permissions as Linux has them")
	}
	database(t)
	db := os.Getenv("MEMBANK_DB")
	dir := t.TempDir()
	good := features(t, filepath.Join(dir, "good.npy"), 10, nil)
	must(t, "ingest", "b", good)
	// Permissions do not bind root, so the command runs as nobody.
	exe := filepath.Join(dir, "membank")
	self, _ := os.Executable()
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{filepath.Dir(dir), dir, filepath.Dir(db)} {
		os.Chmod(d, 0o755)
	}
	as := func(args ...string) result {
		c := exec.Command(exe, args...)
		c.Env = append(os.Environ(), childMode+"=membank")
		if os.Getuid() == 0 {
			c.SysProcAttr = nobody()
		}
		var out, errs bytes.Buffer
		c.Stdout, c.Stderr = &out, &errs
		err := c.Run()
		if c.ProcessState == nil {
			t.Skip("cannot run a process as another user: ", err)
		}
		return result{c.ProcessState.ExitCode(), out.String(), errs.String()}
	}
	if os.Getuid() != 0 {
		filepath.Walk(db, func(path string, info os.FileInfo, err error) error {
			t.Cleanup(func() { os.Chmod(path, info.Mode()) })
			return os.Chmod(path, info.Mode()&^0o222)
		})
	}
	filepath.Walk(db, func(path string, info os.FileInfo, err error) error { return os.Chmod(path, info.Mode()|0o444) })
	before := listing(t, db)
	for _, args := range [][]string{{"ingest", "new", good}, {"rm", "b"}} {
		r := as(args...)
		if r.code != exitFailure || strings.Count(r.err, "\n") != 1 || !strings.Contains(r.err, db) || !strings.Contains(r.err, "(") {
			t.Errorf("%s: exit %d, %q", args[0], r.code, r.err)
		}
	}
	if r := as("query", "b", "--row", "0", "-k", "1", "--json"); r.code != exitOK || !strings.Contains(r.out, `"row":0`) {
		t.Errorf("query: exit %d, %q", r.code, r.err)
	}
	if after := listing(t, db); after != before {
		t.Errorf("the database changed\nbefore %s\nafter  %s", before, after)
	}
}

// A disk that is too full is said so before anything is written.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := mountMemory(dir, 96<<20); err != nil {
		t.Skip("cannot mount a small disk: ", err)
	}
	t.Cleanup(func() { unmount(dir) })
	t.Setenv("MEMBANK_DB", filepath.Join(dir, "db"))
	files := t.TempDir()
	must(t, "ingest", "b", features(t, filepath.Join(files, "good.npy"), 10, nil))
	before := state(t)
	big := filepath.Join(files, "big.npy")
	if err := os.WriteFile(big, npy("'<f4'", "(100000, 256)", nil), 0o644); err != nil {
		t.Fatal(err)
	}
	info, _ := os.Stat(big)
	if err := os.Truncate(big, info.Size()+100000*256*4); err != nil {
		t.Fatal(err)
	}
	r := run(t, "ingest", "new", big)
	if r.code != exitFailure || !strings.Contains(r.err, "free") || strings.Count(r.err, "\n") != 1 || !strings.Contains(r.err, "(") {
		t.Errorf("exit %d, %q", r.code, r.err)
	}
	if after := state(t); after != before {
		t.Errorf("the banks changed\nbefore %safter  %s", before, after)
	}
	must(t, "verify")
}

// While another process writes, every command says who it is.
func TestSecondProcess(t *testing.T) {
	database(t)
	good := features(t, filepath.Join(t.TempDir(), "good.npy"), 10, nil)
	must(t, "ingest", "b", good)
	before := state(t)
	holder := child("hold", os.Getenv("MEMBANK_DB"))
	in, _ := holder.StdinPipe()
	out, _ := holder.StdoutPipe()
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); holder.Wait() }()
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatal(line)
	}
	for _, args := range [][]string{{"ingest", "new", good}, {"ingest", "b", good, "--append"}, {"rm", "b"}, {"ls"}, {"query", "b", "--row", "0"}} {
		r := run(t, args...)
		if r.code != exitFailure || !strings.Contains(r.err, fmt.Sprint("process ", holder.Process.Pid)) || strings.Count(r.err, "\n") != 1 || !strings.Contains(r.err, "(") {
			t.Errorf("%s: exit %d, %q", args[0], r.code, r.err)
		}
	}
	if r := run(t, "doctor"); !strings.Contains(r.out, fmt.Sprint(holder.Process.Pid)) {
		t.Errorf("doctor does not name the holder: %s", r.out)
	}
	in.Close()
	holder.Wait()
	if after := state(t); after != before {
		t.Errorf("the banks changed\nbefore %safter  %s", before, after)
	}
}

// Ctrl-C in the middle of an ingest: exit 130, the bank as before, nothing in the
// way of the next one.
func TestInterrupt(t *testing.T) {
	database(t)
	db := os.Getenv("MEMBANK_DB")
	dir := t.TempDir()
	must(t, "ingest", "b", features(t, filepath.Join(dir, "good.npy"), 10, nil))
	before := state(t)
	long := filepath.Join(dir, "long.npy")
	head := npy("'<f4'", "(1000000, 128)", nil)
	if err := os.WriteFile(long, head, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(long, int64(len(head))+1000000*128*4); err != nil { // zeros without blocks
		t.Fatal(err)
	}
	for _, args := range [][]string{{"ingest", "new", long}, {"ingest", "b", long, "--replace", "--json"}} {
		c := child("membank", args...)
		var errs bytes.Buffer
		c.Stderr = &errs
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(30 * time.Second)
		for least := usedBytes(db); usedBytes(db) < least+24<<20 && time.Now().Before(deadline); {
			time.Sleep(5 * time.Millisecond)
			least = min(least, usedBytes(db))
		}
		c.Process.Signal(syscall.SIGINT)
		c.Wait()
		if c.ProcessState.ExitCode() != exitInterrupted || !strings.Contains(errs.String(), "interrupted") {
			t.Errorf("%q: exit %d, %q", args, c.ProcessState.ExitCode(), errs.String())
		}
		if after := state(t); after != before {
			t.Errorf("the banks changed\nbefore %safter  %s", before, after)
		}
		must(t, "verify")
		must(t, "ingest", "tmp", filepath.Join(dir, "good.npy"))
		must(t, "rm", "tmp")
	}
}

// A cancelled context ends every command that reads with 130.
func TestCancelledContext(t *testing.T) {
	database(t)
	must(t, "ingest", "b", features(t, filepath.Join(t.TempDir(), "good.npy"), 10, nil), "--labels", write(t, filepath.Join(t.TempDir(), "l.txt"), strings.Repeat("1\n", 10)))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	out := filepath.Join(t.TempDir(), "x.npz")
	for _, line := range []string{"query b --from b", "query b --from b -o " + out, "eval knn --train b --leave-one-out", "export b -o " + out, "verify", "rm b --where true"} {
		var errs bytes.Buffer
		if code := Run(ctx, append([]string{"membank"}, strings.Fields(line)...), nil, io.Discard, &errs); code != exitInterrupted || strings.Count(errs.String(), "\n") != 1 {
			t.Errorf("%s: exit %d, %q", line, code, errs.String())
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(out), "*")); left != nil {
		t.Errorf("files of interrupted commands are left: %v", left)
	}
}

// Damage is exit 5 and never an answer.
func TestDamage(t *testing.T) {
	database(t)
	db := os.Getenv("MEMBANK_DB")
	must(t, "ingest", "group/b", features(t, filepath.Join(t.TempDir(), "good.npy"), 500, nil))
	sound := filepath.Join(t.TempDir(), "sound")
	if err := os.CopyFS(sound, os.DirFS(db)); err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(t.TempDir(), "damaged")
	if err := os.CopyFS(damaged, os.DirFS(sound)); err != nil {
		t.Fatal(err)
	}
	logs, _ := filepath.Glob(filepath.Join(damaged, "blocks", "*.vlog"))
	data, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	data[4000] ^= 1 // inside the panels: the first record of the log
	if err := os.WriteFile(logs[0], data, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"verify", "query group/b --row 0", "export group/b -o " + filepath.Join(t.TempDir(), "x.npy")} {
		r := run(t, append(strings.Fields(line), "--db", damaged)...)
		if r.code != exitCorrupt || !strings.Contains(r.err, "group/b") || !strings.Contains(r.err, "block 0") || !strings.Contains(r.err, "(") {
			t.Errorf("%s: exit %d, %q", line, r.code, r.err)
		}
	}
	var found check
	r := run(t, "verify", "--json", "--db", damaged)
	if err := json.Unmarshal([]byte(r.out), &found); err != nil || len(found.Problems) == 0 || found.Problems[0].Bank != "group/b" {
		t.Errorf("verify --json: %v %s", err, r.out)
	}
	if !strings.Contains(r.err, `{"error":{"code":"corrupt"`) {
		t.Errorf("stderr: %s", r.err)
	}
}

// Repair looks and changes nothing, until it is told to take what is left.
func TestRepair(t *testing.T) {
	database(t)
	db := os.Getenv("MEMBANK_DB")
	file := features(t, filepath.Join(t.TempDir(), "good.npy"), 500, nil)
	must(t, "ingest", "kept", file)
	old := filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(db)); err != nil {
		t.Fatal(err)
	}
	must(t, "ingest", "lost", file)
	// An older copy of the blocks under the newer record of commits.
	for _, name := range []string{"COMMIT.a", "COMMIT.b"} {
		b, err := os.ReadFile(filepath.Join(db, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(old, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if r := run(t, "ls", "--db", old); r.code != exitCorrupt || !strings.Contains(r.err, `"lost"`) {
		t.Fatalf("ls: exit %d, %q", r.code, r.err)
	}
	for range 2 {
		r := run(t, "repair", "--db", old)
		if r.code != exitCorrupt || !strings.Contains(r.out, "kept") || !strings.Contains(r.out, "lost") || !strings.Contains(r.err, "--accept-loss") {
			t.Fatalf("repair: exit %d, %q, %q", r.code, r.out, r.err)
		}
	}
	if r := run(t, "repair", "--db", old, "--drop"); r.code != exitUsage {
		t.Errorf("repair --drop: exit %d, %q", r.code, r.err)
	}
	var found repaired
	r := run(t, "repair", "--db", old, "--accept-loss", "--drop", "--json")
	if err := json.Unmarshal([]byte(r.out), &found); err != nil || r.code != exitOK || !found.Accepted || len(found.Banks) != 2 {
		t.Fatalf("repair --accept-loss: exit %d, %v, %s %s", r.code, err, r.out, r.err)
	}
	for _, b := range found.Banks {
		if b.Whole != (b.Bank == "kept") {
			t.Errorf("%+v", b)
		}
	}
	if r := run(t, "show", "kept", "--db", old, "--json"); r.code != exitOK || !strings.Contains(r.out, `"rows":500`) {
		t.Errorf("show: exit %d, %q, %q", r.code, r.out, r.err)
	}
	if r := run(t, "repair", "--db", old); r.code != exitOK {
		t.Errorf("repair of a sound database: exit %d, %q", r.code, r.out)
	}
}

// Every error of the rooms below that the contract has a code for gets it.
func TestMeanings(t *testing.T) {
	for err, want := range map[error]int{
		context.Canceled: exitInterrupted, store.ErrCorrupt: exitCorrupt, store.ErrRolledBack: exitCorrupt,
		store.ErrNoBank: exitNotFound, store.ErrBadName: exitUsage, store.ErrLocked: exitFailure, store.ErrNoSpace: exitFailure,
		store.ErrDuplicateKey: exitBadInput, store.ErrDim: exitBadInput, dump.ErrFormat: exitBadInput, io.ErrUnexpectedEOF: exitFailure,
		&store.CorruptError{Bank: "b", Block: 3, Reason: "x"}:           exitCorrupt,
		&dump.Error{Path: "f", Row: -1, What: "x", Err: os.ErrNotExist}: exitNotFound,
	} {
		if exit, code, line := meaning(fmt.Errorf("what: %w", err)); exit != want || code == "" || strings.Contains(line, "\n") {
			t.Errorf("%v: exit %d (%s), want %d", err, exit, code, want)
		}
	}
}
