package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"membank/store/dump/dumptest"
)

// testServer is a membank serve in this process.
type testServer struct {
	url, dir string
	log      *logBuffer
	stop     func() int // SIGTERM's part: returns the exit code
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startServer serves a database until the test ends, when it must stop in order.
func startServer(t testing.TB, dir string, flags ...string) *testServer {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	s := &testServer{dir: dir, log: &logBuffer{}}
	code := make(chan int, 1)
	args := append([]string{"membank", "serve", "--json", "--db", dir, "--listen", "127.0.0.1:0"}, flags...)
	go func() {
		code <- Run(ctx, args, strings.NewReader(""), w, s.log)
		w.Close()
	}()
	line, err := bufio.NewReader(r).ReadBytes('\n')
	if err != nil {
		t.Fatalf("membank serve: %v\n%s", err, s.log)
	}
	go io.Copy(io.Discard, r)
	var l listening
	if err := json.Unmarshal(line, &l); err != nil {
		t.Fatal(err)
	}
	s.url = l.URL
	s.stop = sync.OnceValue(func() int { cancel(); return <-code })
	t.Cleanup(func() {
		if c := s.stop(); c != exitOK {
			t.Errorf("the server ended with exit %d\n%s", c, s.log)
		}
	})
	return s
}

// The command line says and writes the same against a server as on a directory.
func TestTheSameSessionAgainstAServer(t *testing.T) {
	lines := ""
	_, begun, _ := strings.Cut(sessionLines, "membank ls\n") // a server makes its database at once
	for _, line := range strings.Split(begun, "\n") {
		if !strings.Contains(line, "verify") { // it wants the directory for itself
			lines += line + "\n"
		}
	}
	ssl := dumptest.Testdata(t, "ssl")
	dir, out := database(t), sessionFiles(t)
	local := transcript(t, map[string]string{"$SSL": ssl, "$OUT": out, "$DB": dir}, lines)

	farDir, farOut := filepath.Join(t.TempDir(), "far"), sessionFiles(t)
	s := startServer(t, farDir)
	t.Setenv("MEMBANK_DB", s.url)
	far := transcript(t, map[string]string{"$SSL": ssl, "$OUT": farOut, "$DB": farDir}, lines)
	a, b := strings.Split(local, "\n"), strings.Split(far, "\n")
	for i := range max(len(a), len(b)) {
		if lineAt(a, i) != lineAt(b, i) {
			t.Fatalf("line %d\nlocal  %s\nserver %s", i+1, lineAt(a, i), lineAt(b, i))
		}
	}
	for _, name := range []string{"nn.npz", "nn.csv", "test.npz"} {
		here, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		if there, err := os.ReadFile(filepath.Join(farOut, name)); err != nil || !bytes.Equal(here, there) {
			t.Errorf("%s differs between directory and server (%v)", name, err)
		}
	}
	if code := s.stop(); code != exitOK {
		t.Fatalf("exit %d\n%s", code, s.log)
	}
	if r := run(t, "verify", "--db", farDir); r.code != exitOK {
		t.Errorf("verify behind the server: exit %d\n%s%s", r.code, r.out, r.err)
	}
}

// So does a memory bank, which a server keeps open between requests.
func TestTheSameMemoryBankAgainstAServer(t *testing.T) {
	files := t.TempDir()
	f32 := func(name string, dim int, data ...float32) {
		if err := os.WriteFile(filepath.Join(files, name), npyOf(t, dim, data...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f32("two.npy", 2, 1, 0, 0, 1)
	f32("right.npy", 2, 0, 2, 2, 0)
	f32("three.npy", 2, 3, 4, 0, 5, -5, 0)
	f32("wide.npy", 3, 1, 2, 3)
	f32("nan.npy", 2, float32(math.NaN()), 1)
	write(t, filepath.Join(files, "ids.txt"), "5\n9\n")
	write(t, filepath.Join(files, "labels.txt"), "1\n-1\n2\n")
	write(t, filepath.Join(files, "keys.txt"), "a\nb\nc\n")
	lines := `
		membank bank init npid --rows 100 --dim 2 --init uniform --seed 3
		membank bank init npid --rows 100 --dim 2
		membank bank init cmc --rows 10 --dim 2,2 --json
		membank bank init given --vectors $F/three.npy --labels $F/labels.txt
		membank bank update npid --ids $F/ids.txt --vectors $F/two.npy --keep-old 0.5 --step 7
		membank bank update npid --ids 5,9 --vectors $F/two.npy --keep-old 0.5 --step 8 --json --gather 5,9 -o $OUT/before.npz
		membank bank update npid --ids 5,9 --vectors $F/two.npy --negatives 16 -o $OUT/negatives.npz --durability log
		membank bank update cmc --ids 3,3 --vectors $F/two.npy --vectors $F/right.npy --compound --renorm none
		membank bank update npid --ids 5,100 --vectors $F/two.npy
		membank bank update npid --ids 5 --vectors $F/nan.npy
		membank bank update npid --ids 5 --vectors $F/wide.npy
		membank bank update npid --ids 5 --vectors $F/two.npy
		membank bank update nobody --ids 5,9 --vectors $F/two.npy
		membank bank get npid --ids 5,9,10
		membank bank get npid --scope written --json
		membank bank get cmc --ids 3 --json
		membank bank get npid -o $OUT/all.npz
		membank bank sample npid -n 8 --step 2 --json
		membank bank sample npid -n 4 --positives $F/ids.txt --positive-first -o $OUT/ids.npy
		membank bank nearest npid --vectors $F/two.npy -k 2 --scope written
		membank bank nearest npid --vectors $F/two.npy -k 2 --json
		membank bank nearest given --vectors $F/two.npy -k 2 -o $OUT/near.npz --with-vectors
		membank bank nearest npid --vectors $F/two.npy -k 3 --hard --positives 5,9 --metric dot --json
		membank bank loss npid --vectors $F/two.npy --positives 5,9 -n 16 --step 3
		membank bank init q --kind queue --rows 4 --dim 2 --init zeros
		membank bank push q --vectors $F/three.npy --labels $F/labels.txt --keys $F/keys.txt
		membank bank push q --vectors $F/three.npy -o $OUT/queue.npz
		membank bank update q --ids 1,2 --vectors $F/two.npy
		membank bank get q --ordered --json
		membank bank checkpoint npid --step 20
		membank bank update npid --ids 0,1 --vectors $F/two.npy
		membank query npid/step-20 --row 5 -k 1
		membank bank restore npid --step 20
		membank bank restore npid --step 19
		membank bank get npid --ids 0,1
		membank bank show npid
		membank bank show
		membank bank drop q
		membank bank show q
		membank ls`
	dir, out := database(t), t.TempDir()
	local := transcript(t, map[string]string{"$F": files, "$OUT": out, "$DB": dir}, lines)
	farDir, farOut := filepath.Join(t.TempDir(), "far"), t.TempDir()
	s := startServer(t, farDir)
	t.Setenv("MEMBANK_DB", s.url)
	far := transcript(t, map[string]string{"$F": files, "$OUT": farOut, "$DB": farDir}, lines)
	logged := regexp.MustCompile(`log  [0-9]+ B`) // it holds the time
	local, far = logged.ReplaceAllString(local, "log  # B"), logged.ReplaceAllString(far, "log  # B")
	a, b := strings.Split(local, "\n"), strings.Split(far, "\n")
	for i := range max(len(a), len(b)) {
		if lineAt(a, i) != lineAt(b, i) {
			t.Fatalf("line %d\nlocal  %s\nserver %s\nafter\n%s", i+1, lineAt(a, i), lineAt(b, i), strings.Join(b[:min(i, len(b))], "\n"))
		}
	}
	for _, name := range []string{"before.npz", "negatives.npz", "all.npz", "ids.npy", "near.npz", "queue.npz"} {
		here, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		if there, err := os.ReadFile(filepath.Join(farOut, name)); err != nil || !bytes.Equal(here, there) {
			t.Errorf("%s differs between directory and server (%v)", name, err)
		}
	}
	// What a server acknowledged is there for the next one.
	if code := s.stop(); code != exitOK {
		t.Fatalf("exit %d\n%s", code, s.log)
	}
	again := startServer(t, farDir)
	t.Setenv("MEMBANK_DB", again.url)
	if got, want := must(t, "bank", "get", "npid", "--ids", "0,1,5,9", "--json"), must(t, "bank", "get", "npid", "--ids", "0,1,5,9", "--json", "--db", dir); got != want {
		t.Errorf("after a restart %s\nwant %s", got, want)
	}
}
