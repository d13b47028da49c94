package cli

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"membank/bench/perf"
)

// python is an interpreter with numpy (and the other modules). Where there is none
// the test says so and is skipped; MEMBANK_REQUIRE_PYTHON=1, which .ci/run sets
// where the system has them, makes that a failure.
func python(t *testing.T, modules string) string {
	t.Helper()
	var tried []string
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		out, err := exec.Command(name, "-c", "import "+modules).CombinedOutput()
		if err == nil {
			return name
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		tried = append(tried, name+": "+lines[len(lines)-1])
	}
	if os.Getenv("MEMBANK_REQUIRE_PYTHON") != "" && modules == "numpy" {
		t.Fatalf("no python3 with %s: %s", modules, strings.Join(tried, "; "))
	}
	t.Skipf("no python3 with %s: %s", modules, strings.Join(tried, "; "))
	return ""
}

// clientDirectory holds the client as the binary prints it, and the scripts beside it.
func clientDirectory(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "membank.py"), must(t, "python-client"))
	scripts, err := filepath.Glob("serve/client/python/*.py")
	if err != nil || len(scripts) < 2 {
		t.Fatalf("scripts %v, %v", scripts, err)
	}
	for _, path := range scripts {
		if filepath.Base(path) == "membank.py" {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, filepath.Base(path)), string(text))
	}
	return dir
}

func runPython(t *testing.T, interpreter, dir string, args ...string) string {
	t.Helper()
	c := exec.Command(interpreter, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "OMP_NUM_THREADS=2")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("python %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// The client against a server of this build: rows, exact neighbours, evaluation,
// slots and queues step by step against NumPy, eight ranks at once.
func TestPythonClient(t *testing.T) {
	interpreter := python(t, "numpy")
	dir := clientDirectory(t)
	s := startServer(t, database(t))
	if out := runPython(t, interpreter, dir, "test_membank.py", s.url); !strings.Contains(out, "OK") {
		t.Errorf("%s", out)
	}
}

// bench bank makes a server of its own and measures the client against it; nothing
// is left of either.
func TestBenchBankMeasuresTheClient(t *testing.T) {
	python(t, "numpy")
	t.Setenv(childMode, "membank") // what this binary is when the benchmark starts it
	dir := t.TempDir()
	out := must(t, "bench", "bank", "--rows", "500", "--dim", "16", "--batch", "8", "--negatives", "32", "--queue", "64", "--steps", "12", "--dir", dir, "--json")
	var figures []perf.Figure
	if err := json.Unmarshal([]byte(out), &figures); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, f := range figures {
		if strings.Contains(f.Name, "from Python over HTTP") {
			found++
			if !(f.Value > 0) || f.Unit != "ms" {
				t.Errorf("%+v", f)
			}
		}
	}
	if found != 10 {
		t.Errorf("%d figures over HTTP in %s", found, out)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// The example trains two small encoders whose banks live in the server; both have to
// learn: a kNN accuracy well above that of the untrained encoder.
func TestTorchExample(t *testing.T) {
	if testing.Short() {
		t.Skip("it trains for some seconds")
	}
	interpreter := python(t, "numpy, torch")
	dir := clientDirectory(t)
	s := startServer(t, database(t))
	out := runPython(t, interpreter, dir, "train_torch.py", s.url)
	t.Log(out)
	if strings.Count(out, "learnt") != 2 {
		t.Errorf("%s", out)
	}
}
