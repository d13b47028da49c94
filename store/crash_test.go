package store

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestMain lets the test binary be the child that a crash test kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("STORE_CRASH_DIR"); dir != "" {
		crashChild(dir, os.Getenv("STORE_CRASH_AT"))
		os.Exit(0)
	}
	flag.Set("rapid.checks", "20") // a run opens a database ten times; the flag overrides it
	os.Exit(m.Run())
}

// crashWork is what the child does to a database that holds bank "base".
var crashWork = map[string]func(db *DB) error{
	"create": func(db *DB) error {
		_, err := tryWrite(db, "new", Rows{Vectors: gaussian(9000, 600, 5), Keys: keysOf(9000)}, WriterOptions{})
		return err
	},
	"append": func(db *DB) error {
		_, err := tryWrite(db, "base", Rows{Vectors: gaussian(500, 16, 6)}, WriterOptions{Mode: Append})
		return err
	},
	"replace": func(db *DB) error {
		_, err := tryWrite(db, "base", Rows{Vectors: gaussian(70, 4, 7)}, WriterOptions{Mode: Replace})
		return err
	},
	"delete": func(db *DB) error {
		_, err := db.DeleteRows(context.Background(), "base", []int64{1, 2, 3})
		return err
	},
	"group": func(db *DB) error {
		_, err := db.Group(context.Background(), "base", []byte("other lists"), byFirst(7),
			GroupOptions{Lists: 7, Basis: []byte("b"), Encode: sign("b")})
		return err
	},
	"ungroup": func(db *DB) error {
		_, err := db.Ungroup(context.Background(), "base", GroupOptions{})
		return err
	},
	"fold": func(db *DB) error {
		_, folded, err := db.Fold(context.Background(), "base", 0, GroupOptions{})
		if err == nil && !folded {
			err = errors.New("nothing was folded")
		}
		return err
	},
	"lists": func(db *DB) error {
		_, err := db.WriteLists(context.Background(), "base", []byte("other lists"))
		return err
	},
	"update": func(db *DB) error {
		_, err := db.UpdateRows(context.Background(), "base", []int64{1, 5, 399}, gaussian(3, 16, 6), byFirst(5))
		return err
	},
	"append-grouped": func(db *DB) error {
		_, err := tryWrite(db, "base", Rows{Vectors: gaussian(500, 16, 6)}, WriterOptions{Mode: Append, Assign: byFirst(5)})
		return err
	},
	"remove": func(db *DB) error {
		_, err := db.RemoveBank(context.Background(), "base")
		return err
	},
}

// crashChild dies by its own SIGKILL at the given occurrence of a step:
// "work/step/n".
func crashChild(dir, at string) {
	if at == "open" {
		openForOthers(dir)
		return
	}
	parts := strings.Split(at, "/")
	left, _ := strconv.Atoi(parts[2])
	die := func(step string) {
		if step != parts[1] {
			return
		}
		if left--; left == 0 {
			p, _ := os.FindProcess(os.Getpid())
			p.Kill()
			select {}
		}
	}
	outsideStep = func(step string) { die("outside-" + step) }
	db, err := Open(context.Background(), dir, Options{OnStep: die})
	if err == nil {
		err = crashWork[parts[0]](db)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("acknowledged")
	db.Close()
}

// A process killed at any step of a commit leaves the bank as it was or as it was
// to become, nothing else; the next open cleans up and the next write works.
func TestCrash(t *testing.T) {
	start := filepath.Join(t.TempDir(), "db")
	db, err := Open(context.Background(), start, Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	base := Rows{Vectors: gaussian(400, 16, 1), Keys: decimals(400), Labels: unlabelled(400)}
	write(t, db, "base", Rows{Vectors: base.Vectors}, WriterOptions{})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	// Every step of a whole write, and for each other kind of commit those that
	// differ for it.
	cases := []string{"create/blocks/2"}
	for _, step := range Steps {
		cases = append(cases, "create/"+step+"/1")
	}
	for _, step := range []string{"write", "write-rest", "sync", "rename", "sync-directory", "done"} {
		cases = append(cases, "replace/outside-"+step+"/1")
	}
	for _, work := range []string{"append", "delete", "remove"} {
		for _, step := range []string{"flip", "outside", "collect"} {
			cases = append(cases, work+"/"+step+"/1")
		}
	}
	for _, at := range cases {
		if testing.Short() && !strings.HasPrefix(at, "append") {
			continue
		}
		t.Run(at, func(t *testing.T) {
			work, _, _ := strings.Cut(at, "/")
			crashAt(t, start, work, at, base)
		})
	}
}

func crashAt(t *testing.T, start, work, at string, base Rows) {
	dir := copyTree(t, start)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "STORE_CRASH_DIR="+dir, "STORE_CRASH_AT="+at)
	out, err := cmd.CombinedOutput()
	if err != nil && !strings.Contains(err.Error(), "killed") {
		t.Fatalf("child: %v %s", err, out)
	}
	acknowledged := strings.Contains(string(out), "acknowledged")
	// Every other time a reader comes first.
	if len(at)%2 == 0 {
		db := open(t, dir, Options{ReadOnly: true})
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	db := open(t, dir, Options{})
	report, err := db.Verify(context.Background(), VerifyOptions{})
	if err != nil || len(report.Problems) > 0 || report.Orphans > 0 {
		t.Errorf("%+v %v", report, err)
	}
	done, want := afterwards(t, db, work, base)
	if acknowledged && !done {
		t.Errorf("acknowledged, and gone")
	}
	for bank, rows := range want {
		equalRows(t, all(t, db, bank), rows)
	}
	if _, err := tryWrite(db, "next", base, WriterOptions{}); err != nil {
		t.Errorf("the next write: %v", err)
	}
}

// afterwards tells whether the child's work took place, and what must be there.
func afterwards(t *testing.T, db *DB, work string, base Rows) (done bool, want map[string]Rows) {
	t.Helper()
	plain := func(m Rows) Rows {
		m.Keys, m.Labels = decimals(m.Vectors.Rows), unlabelled(m.Vectors.Rows)
		return m
	}
	want = map[string]Rows{"base": base}
	s, err := db.Snapshot("base")
	if err != nil {
		if !errors.Is(err, ErrNoBank) || work != "remove" {
			t.Fatal(err)
		}
		return true, map[string]Rows{}
	}
	generation := s.Info().Generation
	s.Close()
	switch work {
	case "create":
		if _, err := db.Snapshot("new"); err != nil {
			return false, want
		}
		want["new"] = plain(Rows{Vectors: gaussian(9000, 600, 5)})
		rows := want["new"]
		rows.Keys = keysOf(9000)
		want["new"] = rows
		return true, want
	case "append":
		if generation == 1 {
			return false, want
		}
		more := gaussian(500, 16, 6)
		both := Rows{Vectors: base.Vectors}
		both.Vectors.Data = append(append([]float32{}, base.Vectors.Data...), more.Data...)
		both.Vectors.Rows = 900
		want["base"] = plain(both)
	case "replace":
		if generation == 1 {
			return false, want
		}
		want["base"] = plain(Rows{Vectors: gaussian(70, 4, 7)})
	case "delete":
		if generation == 1 {
			return false, want
		}
		left := Rows{Vectors: base.Vectors}
		left.Vectors.Data = append(append([]float32{}, base.Vectors.Row(0)...), base.Vectors.Data[4*16:]...)
		left.Vectors.Rows = 397
		left.Keys = append([]string{"0"}, base.Keys[4:]...)
		left.Labels = unlabelled(397)
		want["base"] = left
	case "remove":
		return false, want
	}
	return true, want
}

// openForOthers opens a database that this user may not write, in both ways.
func openForOthers(dir string) {
	db, err := Open(context.Background(), dir, Options{ReadOnly: true})
	if err != nil {
		fmt.Println("reading:", err)
	} else {
		infos, err := db.Banks("")
		fmt.Println("reading:", len(infos), err)
		db.Close()
	}
	_, err = Open(context.Background(), dir, Options{})
	fmt.Println("writing:", errors.Is(err, ErrReadOnly), err)
}

// A directory that the user may not write is read, and a writer is told why not,
// closed in order or not.
func TestNoPermission(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to run a child as somebody else")
	}
	for _, killed := range []bool{false, true} {
		dir, _ := closedDatabase(t)
		if killed {
			cmd := exec.Command(os.Args[0])
			writeBase(t, dir)
			cmd.Env = append(os.Environ(), "STORE_CRASH_DIR="+dir, "STORE_CRASH_AT=append/acknowledged/1")
			if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(err.Error(), "killed") {
				t.Fatalf("%v %s", err, out)
			}
		}
		for _, name := range filesIn(t, dir) { // Badger's are for their owner alone
			if err := os.Chmod(filepath.Join(dir, name), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for parent := dir; parent != os.TempDir() && parent != "/"; parent = filepath.Dir(parent) {
			if err := os.Chmod(parent, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		binary := filepath.Join(t.TempDir(), "test") // the go command's own may lie in a private directory
		if err := copyFile(os.Args[0], binary); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{binary, filepath.Dir(binary), filepath.Dir(filepath.Dir(binary))} {
			if err := os.Chmod(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(binary)
		cmd.Env = append(os.Environ(), "STORE_CRASH_DIR="+dir, "STORE_CRASH_AT=open")
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v %s", err, out)
		}
		reading := "reading: 2 <nil>"
		if killed {
			reading = "not closed in order"
		}
		if !strings.Contains(string(out), reading) || !strings.Contains(string(out), "writing: true") {
			t.Errorf("killed %v: %s", killed, out)
		}
		t.Logf("%s", out)
	}
}

func writeBase(t *testing.T, dir string) {
	t.Helper()
	db := open(t, dir, Options{})
	write(t, db, "base", Rows{Vectors: gaussian(40, 16, 1)}, WriterOptions{})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
