package cli

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"membank/store/dump/dumptest"
)

// What an evaluation writes with -o comes back from a server, the same bytes as on a
// directory; so does what it prints beside.
func TestFilesOfEvaluationsComeBack(t *testing.T) {
	m := dumptest.Lookup(t, "moco_v2")
	dir := database(t)
	for _, part := range []string{"m/cifar", "n/cifar"} {
		must(t, "ingest", part+"/train", m.TrainPath, "--labels", labelsFile(t, m.TrainLabels))
		must(t, "ingest", part+"/test", m.TestPath, "--labels", labelsFile(t, m.TestLabels))
	}
	s := startServer(t, dir)
	here, there := t.TempDir(), t.TempDir()
	timeless := regexp.MustCompile(`\([0-9.]+ m?s\)`)
	for _, c := range []struct{ line, file string }{
		{"eval knn --train m/cifar/train --test m/cifar/test -k 5,20", "curve.csv"},
		{"eval knn --train m/cifar/train --test m/cifar/test -k 5,20", "curve.svg"},
		{"eval retrieval --gallery m/cifar/train --queries m/cifar/test", "ap.csv"},
		{"eval robustness --train m/cifar/train --test m/cifar/test --perturbed n/cifar/test -k 5", "radii.csv"},
		{"eval transfer --banks m/cifar/*,n/cifar/* --only knn -k 5", "table.csv"},
	} {
		asked := func(out string, server ...string) string {
			return must(t, append(append(strings.Fields(c.line), "-o", filepath.Join(out, c.file)), server...)...)
		}
		far := asked(there, "--db", s.url)
		a, err := os.ReadFile(filepath.Join(there, c.file))
		if err != nil || len(a) < 50 {
			t.Errorf("%s: %d bytes, %v", c.line, len(a), err)
			continue
		}
		snapshot := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(snapshot, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		near := asked(here, "--db", snapshot)
		b, err := os.ReadFile(filepath.Join(here, c.file))
		if err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: %s differs from a directory's (%v)", c.line, c.file, err)
		}
		near = strings.ReplaceAll(near, here, there)
		if timeless.ReplaceAllString(far, "") != timeless.ReplaceAllString(near, "") {
			t.Errorf("%s prints\n%s\non a directory\n%s", c.line, far, near)
		}
	}
	page := filepath.Join(there, "r.html")
	if out := must(t, "report", "m/cifar/train", "n/cifar/train", "--test", "m/cifar/test", "-k", "5", "--map-rows", "50", "-o", page, "--db", s.url); !strings.Contains(out, page+" written") {
		t.Errorf("%s", out)
	}
	if text, err := os.ReadFile(page); err != nil || !bytes.Contains(text, []byte("n/cifar/train")) || !bytes.HasSuffix(bytes.TrimSpace(text), []byte("</html>")) {
		t.Errorf("the page: %d bytes, %v", len(text), err)
	}
	pack := filepath.Join(there, "r.zip")
	must(t, "report", "m/cifar/train", "--test", "m/cifar/test", "-k", "5", "--map-rows", "50", "-o", pack, "--db", s.url, "--json")
	z, err := zip.OpenReader(pack)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	kinds := map[string]int{}
	for _, f := range z.File {
		kinds[filepath.Ext(f.Name)]++
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, r); err != nil || n < 200 {
			t.Errorf("%s: %d bytes, %v", f.Name, n, err)
		}
	}
	if kinds[".html"] != 1 || kinds[".svg"] < 5 || kinds[".svg"] != kinds[".png"] {
		t.Errorf("the archive holds %v", kinds)
	}
	if r := run(t, "report", "m/cifar/train", "--plots", there, "--db", s.url); r.code != exitUsage || !strings.Contains(r.err, "--plots") {
		t.Errorf("--plots of a server: exit %d: %s", r.code, r.err)
	}
	if r := run(t, "report", "nobody", "-o", page+".html", "--db", s.url); r.code != exitNotFound {
		t.Errorf("a bank that is not there: exit %d: %s", r.code, r.err)
	}
	if _, err := os.Stat(page + ".html"); err == nil {
		t.Error("a refused report left a file")
	}
}

// Several banks of eval clusters reach a server, and the answers are the same.
func TestClustersOfSeveralBanksOverHTTP(t *testing.T) {
	m := dumptest.Lookup(t, "moco_v2")
	dir := database(t)
	for _, bank := range []string{"a", "b"} {
		must(t, "ingest", bank, m.TrainPath, "--labels", labelsFile(t, m.TrainLabels))
	}
	args := []string{"eval", "clusters", "a", "b", "-c", "3", "--json"}
	seconds := regexp.MustCompile(`"seconds": ?[0-9.e-]+`)
	want := seconds.ReplaceAllString(must(t, args...), "")
	if got := seconds.ReplaceAllString(must(t, append(args, "--db", startServer(t, dir).url)...), ""); got != want || strings.Count(got, `"bank"`) < 2 {
		t.Errorf("over HTTP:\n%s\nhere:\n%s", got, want)
	}
}
