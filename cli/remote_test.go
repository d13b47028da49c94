package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
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
