package cli

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"membank/store/dump/dumptest"

	"github.com/chromedp/chromedp"
)

// reportPageOf makes a report of real features, with images for some keys, and
// returns its path and the directory of its plots.
func reportPageOf(t *testing.T) (page, plots string, m dumptest.Method) {
	t.Helper()
	database(t)
	dir := t.TempDir()
	m = dumptest.Lookup(t, "moco_v2")
	var keys strings.Builder
	for i := range len(m.TrainLabels) {
		fmt.Fprintf(&keys, "%05d.png\n", i)
		if i%2 == 0 && i < 400 {
			pngFile(t, filepath.Join(dir, "images", fmt.Sprintf("%05d.png", i)), 20, 20)
		}
	}
	k := write(t, filepath.Join(dir, "k.txt"), keys.String())
	names := write(t, filepath.Join(dir, "names.txt"), "plane\ncar\nbird\ncat\ndeer\n<b>dog</b>\nfrog\nhorse\nship\ntruck\n")
	for _, epoch := range []string{"ep1", "ep2"} {
		must(t, "ingest", epoch+"/train", m.TrainPath, "--labels", labelsFile(t, m.TrainLabels), "--keys", k, "--class-names", names)
		must(t, "ingest", epoch+"/test", m.TestPath, "--labels", labelsFile(t, m.TestLabels), "--class-names", names)
	}
	page, plots = filepath.Join(dir, "r.html"), filepath.Join(dir, "plots")
	out := must(t, "report", "ep?/train", "--test", "ep?/test", "-k", "20,10", "--images", filepath.Join(dir, "images"), "--map-rows", "300", "--plots", plots, "-o", page, "--json")
	var r reported
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	want, ok := m.Figure(t, "dino_float32_T0.07", "k20", "top1")
	if len(r.Banks) != 2 || len(r.Plots) != 18 || r.Focus != "ep2/train" {
		t.Errorf("%s", out)
	} else if ok && r.Banks[0].K == 20 && r.Banks[0].Top1 != want {
		t.Errorf("top-1 %v, the reference has %v", r.Banks[0].Top1, want)
	}
	return page, plots, m
}

// The page is one file that loads nothing, and every plot of it is a file that can
// be read.
func TestReport(t *testing.T) {
	page, plots, m := reportPageOf(t)
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("<span>", "", "</span>", "").Replace(string(data)) // of the words of a command
	for _, bad := range []string{"http:", "https:", "<b>dog</b>", "ZgotmplZ", "NaN", "Inf", "<script", "src=\"0"} {
		if strings.Contains(text, bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
	for _, want := range []string{"&lt;b&gt;dog&lt;/b&gt;", "Confusion of classes", "Map by t-SNE", "Trustworthiness", "data:image/png", "membank eval knn --train ep2/train --test ep2/test --protocol dino -k 10,20",
		"membank eval knn --train &#39;ep?/train&#39; --test &#39;ep?/test&#39; --protocol dino -k 10,20", "membank compare ep1/train ep2/train", "Rows that moved", "100.00 % in common",
		"membank query ep2/train --from ep2/test -k 8", "taken for cat", "Spectrum of the covariance", "surest mistakes", "1,000 rows of ep2/test classified"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	// A line of the confusion matrix has as many rows as the class.
	cats := 0
	for _, l := range m.TestLabels {
		if l == 3 {
			cats++
		}
	}
	if want := fmt.Sprintf(" of %d</title>", cats); strings.Count(text, "cat taken for ") < 8 || !strings.Contains(text, want) {
		t.Errorf("the line of cats is not %q", want)
	}
	files, err := os.ReadDir(plots)
	if err != nil || len(files) != 18 {
		t.Fatalf("%d plots, %v", len(files), err)
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(plots, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(f.Name(), ".png") {
			img, err := png.Decode(bytes.NewReader(data))
			if err != nil || img.Bounds().Dx() < 1500 {
				t.Errorf("%s: %v", f.Name(), err)
			}
			continue
		}
		if bytes.Contains(data, []byte("var(")) || !bytes.Contains(data, []byte("xmlns=")) {
			t.Errorf("%s needs a page to be seen", f.Name())
		}
		for d := xml.NewDecoder(bytes.NewReader(data)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Errorf("%s: %v", f.Name(), err)
				break
			}
		}
	}
}

// Banks that have little to show get a page of what there is, or a plain refusal.
func TestReportEdges(t *testing.T) {
	database(t)
	dir := t.TempDir()
	page := filepath.Join(dir, "r.html")
	bank := func(name string, rows int, labels string) {
		must(t, "ingest", name, features(t, filepath.Join(dir, "x.npy"), rows, nil), "--labels", write(t, filepath.Join(dir, "l.txt"), labels))
	}
	bank("two", 2, "1\n5\n")
	bank("three", 3, "1\n5\n5\n")
	bank("same", 3, "5\n5\n5\n")
	bank("few", 12, strings.Repeat("-4\n7\n", 6))
	many := ""
	for i := range 200 {
		many += fmt.Sprintln(i % 50)
	}
	bank("many", 200, many)
	bank("none", 3, "-1\n-1\n-1\n")
	for _, name := range []string{"three", "few", "many"} {
		must(t, "report", name, "-k", "1,5", "-o", page)
		data, err := os.ReadFile(page)
		if err != nil || strings.Contains(string(data), "NaN") || strings.Contains(string(data), "Inf") {
			t.Errorf("%s: %v, or a figure that is no number", name, err)
		}
	}
	for line, code := range map[string]int{
		"report none": exitBadInput, "report two": exitBadInput, "report same": exitBadInput, "report nope": exitNotFound, "report": exitUsage,
		"report few -o x.pdf": exitUsage, "report few --focus two": exitUsage, "report few --views two": exitUsage, "report few --map-rows x": exitUsage,
		"report few --images " + dir + "/nope": exitNotFound,
	} {
		other := filepath.Join(dir, "never.html")
		args := strings.Fields(line)
		if !strings.Contains(line, "-o") {
			args = append(args, "-o", other)
		}
		if r := run(t, args...); r.code != code {
			t.Errorf("%s: exit %d, want %d: %s", line, r.code, code, r.err)
		}
		if _, err := os.Stat(other); err == nil {
			t.Errorf("%s: a page was written", line)
		}
	}
}

// In a browser, at two widths, light and dark: nothing is logged, every image and
// plot is drawn, nothing is wider than the window.
func TestReportInBrowser(t *testing.T) {
	ctx := inBrowser(t)
	page, _, _ := reportPageOf(t)
	for _, width := range []int64{1280, 400} {
		for _, scheme := range []string{"light", "dark"} {
			if err := chromedp.Do(ctx, inWindow(width, scheme), chromedp.Navigate("file://"+page)); err != nil {
				t.Fatal(err)
			}
			seen, err := chromedp.Run(ctx, chromedp.Evaluate[struct {
				Plots, Empty, Images, Broken, Wide int
				Paper                              string
			}](`(() => {
					const svgs = [...document.querySelectorAll("figure svg")], images = [...document.images];
					return {
						Plots: svgs.length, Empty: svgs.filter(s => s.getBoundingClientRect().width < 250 || s.querySelectorAll("polyline,rect,circle").length < 4).length,
						Images: images.length, Broken: images.filter(i => !i.complete || i.naturalWidth === 0).length,
						Wide: document.documentElement.scrollWidth - innerWidth, Paper: getComputedStyle(document.body).backgroundColor,
					};
				})()`))
			if err != nil {
				t.Fatal(err)
			}
			if seen.Plots != 9 || seen.Empty > 0 || seen.Images < 2 || seen.Broken > 0 || seen.Wide > 0 {
				t.Errorf("%d wide, %s: %+v", width, scheme, seen)
			}
			if want := map[string]string{"light": "rgb(255, 255, 255)", "dark": "rgb(23, 24, 26)"}[scheme]; seen.Paper != want {
				t.Errorf("%s: the paper is %s, want %s", scheme, seen.Paper, want)
			}
		}
	}
}
