package cli

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// inBrowser is a browser that ends with the test; whatever a page writes to the
// console is a failure. Without a browser the test says so and is skipped;
// MEMBANK_REQUIRE_BROWSER=1, which .ci/run sets where it finds one, makes that a
// failure.
func inBrowser(t *testing.T) context.Context {
	t.Helper()
	browser := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			browser = path
			break
		}
	}
	if browser == "" {
		if os.Getenv("MEMBANK_REQUIRE_BROWSER") != "" {
			t.Fatal("no chromium on this machine, and MEMBANK_REQUIRE_BROWSER is set")
		}
		t.Skip("no chromium on this machine: the page is not opened")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(browser), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WSURLReadTimeout(60*time.Second))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithListener(func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			t.Errorf("exception: %v", e.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			t.Errorf("console: %v", e.Type)
		case *cdplog.EventEntryAdded:
			t.Errorf("log: %s %s", e.Entry.Text, e.Entry.URL)
		}
	}))
	t.Cleanup(cancel)
	return ctx
}

// inWindow makes a window so wide, light or dark.
func inWindow(width int64, scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		if err := chromedp.Do(ctx, chromedp.EmulateViewport(width, 900)); err != nil {
			return err
		}
		media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, media)
		return err
	})
}

// The page of a server as a person uses it, at two widths, light and dark: from the
// list to a bank, a key typed and sent, a neighbour clicked. The neighbours are those
// of a naive loop, every picture is drawn, nothing is logged, nothing is wider than
// the window or too dim to read.
func TestPageInBrowser(t *testing.T) {
	ctx := inBrowser(t)
	dir := t.TempDir()
	images := filepath.Join(dir, "images")
	const rows = 24
	var keys, labels []string
	var vectors []float32
	for i := range rows {
		keys = append(keys, fmt.Sprintf("photos/of/%d/%05d", i%3, i))
		labels = append(labels, []string{"a class of a long name", "cat", "<b>dog</b>"}[i%3])
		vectors = append(vectors, float32(i), float32(i*i%17))
		if i%4 != 3 {
			pngFile(t, filepath.Join(images, keys[i]+".png"), 28, 28)
		}
	}
	s := startServer(t, filepath.Join(dir, "db"), "--images", images)
	if a := s.ask(t, "POST", "/v1/banks/run%2Ftrain/rows", "application/x-npz", npzOf(t, "labels", labels, "keys", keys, "features", vectors)); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.text)
	}
	const asked, k = 10, 9
	nearest := nearestByLoop(vectors, asked, k)
	var pictures int
	for _, row := range append([]int{asked}, nearest...) {
		if row%4 != 3 {
			pictures++
		}
	}
	type view struct {
		Title, Query, Error, Paper string
		Keys, Marks                []string
		Images, Broken, Wide       int
		Contrast                   float64
	}
	look := chromedp.Evaluate[view](`(async () => {
		for (const i of document.images) { i.loading = "eager"; await i.decode().catch(() => 0) }
		const text = s => [...document.querySelectorAll(s)].map(e => e.textContent.trim());
		const light = c => { const v = c.match(/[\d.]+/g).slice(0, 3).map(x => x / 255).map(x => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4); return .2126 * v[0] + .7152 * v[1] + .0722 * v[2] };
		const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!c.endsWith(", 0)")) return c } return "rgb(255, 255, 255)" };
		const contrast = e => { const a = light(getComputedStyle(e).color), b = light(ground(e)); return (Math.max(a, b) + .05) / (Math.min(a, b) + .05) };
		return {
			Title: document.title, Query: text("h1")[0] || "", Error: text("[role=alert]")[0] || "",
			Keys: text(".rows b"), Marks: [...document.querySelectorAll(".rows li")].map(e => e.className),
			Images: document.images.length, Broken: [...document.images].filter(i => i.naturalWidth === 0).length,
			Wide: document.documentElement.scrollWidth - innerWidth, Paper: getComputedStyle(document.body).backgroundColor,
			Contrast: Math.min(...[...document.querySelectorAll("h1, h2, p, a, b, span, label, input, select, button, th, td, small")].map(contrast)),
		};
	})()`, chromedp.EvalAwaitPromise)
	for _, width := range []int64{1280, 400} {
		for _, scheme := range []string{"light", "dark"} {
			where := fmt.Sprintf("%d wide, %s", width, scheme)
			see := func(actions ...chromedp.Action[chromedp.Void]) view {
				t.Helper()
				if err := chromedp.Do(ctx, actions...); err != nil {
					t.Fatalf("%s: %v", where, err)
				}
				v, err := chromedp.Run(ctx, look)
				if err != nil {
					t.Fatalf("%s: %v", where, err)
				}
				if v.Broken > 0 || v.Wide > 0 || v.Contrast < 4.5 {
					t.Errorf("%s: %+v", where, v)
				}
				if want := map[string]string{"light": "rgb(255, 255, 255)", "dark": "rgb(23, 24, 26)"}[scheme]; v.Paper != want {
					t.Errorf("%s: the paper is %s, want %s", where, v.Paper, want)
				}
				return v
			}
			if v := see(inWindow(width, scheme), chromedp.Navigate(s.url+"/")); v.Query != "Banks" || v.Images != 0 {
				t.Errorf("%s: %+v", where, v)
			}
			v := see(chromedp.Click(`td a`), chromedp.WaitVisible(`.rows`))
			if v.Query != keys[0] || v.Title != "run/train - membank" {
				t.Errorf("%s: %+v", where, v)
			}
			v = see(chromedp.SetValue(`input[name=k]`, fmt.Sprint(k)), chromedp.SetValue(`select[name=metric]`, "l2"),
				chromedp.SendKeys(`input[name=key]`, keys[asked]), chromedp.Click(`button`), chromedp.WaitVisible(`input[name=row][value="10"]`))
			var wantKeys, wantMarks []string
			for _, row := range nearest {
				wantKeys = append(wantKeys, keys[row])
				wantMarks = append(wantMarks, map[bool]string{true: "right", false: "wrong"}[row%3 == asked%3])
			}
			if v.Query != keys[asked] || strings.Join(v.Keys, " ") != strings.Join(wantKeys, " ") || strings.Join(v.Marks, " ") != strings.Join(wantMarks, " ") || v.Images != pictures {
				t.Errorf("%s: search by key shows %+v\nwant %v %v and %d pictures", where, v, wantKeys, wantMarks, pictures)
			}
			v = see(chromedp.Click(`.rows a`), chromedp.WaitVisible(fmt.Sprintf(`input[name=row][value="%d"]`, nearest[0])))
			if v.Query != keys[nearest[0]] || len(v.Keys) != k {
				t.Errorf("%s: a click on the first neighbour shows %+v", where, v)
			}
		}
	}
	// What is not there is said on the page, and the field keeps it, to be mended.
	a := s.ask(t, "GET", "/banks/run%2Ftrain?key="+url.QueryEscape(`no/"such"`), "", nil)
	if a.status != 404 || !strings.Contains(a.text, `role="alert"`) || !strings.Contains(a.text, `value="no/&#34;such&#34;"`) {
		t.Errorf("%d %s", a.status, a.text)
	}
}

// nearestByLoop are the k other rows of two columns that are nearest to one by l2,
// the smaller row first where two are equally near.
func nearestByLoop(vectors []float32, row, k int) []int {
	square := func(i int) float64 {
		x, y := float64(vectors[2*i]-vectors[2*row]), float64(vectors[2*i+1]-vectors[2*row+1])
		return x*x + y*y
	}
	var best []int
	for len(best) < k {
		next := -1
		for i := range len(vectors) / 2 {
			taken := i == row
			for _, b := range best {
				taken = taken || b == i
			}
			if !taken && (next < 0 || square(i) < square(next)) {
				next = i
			}
		}
		best = append(best, next)
	}
	return best
}
