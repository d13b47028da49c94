package cli

import (
	"bytes"
	"context"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func pngFile(t *testing.T, path string, w, h int) {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range img.Pix {
		img.Pix[i] = uint8(i * 7)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, path, b.String())
}

// The page embeds the images that keys name inside --images, and nothing else:
// no file outside, no key as markup, no link.
func TestQueryPage(t *testing.T) {
	database(t)
	dir := t.TempDir()
	images := filepath.Join(dir, "images")
	pngFile(t, filepath.Join(images, "a", "small.png"), 20, 20)
	pngFile(t, filepath.Join(images, "big.png"), 600, 300)
	pngFile(t, filepath.Join(dir, "secret.png"), 20, 20)
	write(t, filepath.Join(images, "text.png"), "not an image")
	if err := os.Symlink(filepath.Join(dir, "secret.png"), filepath.Join(images, "link.png")); err != nil {
		t.Log("no symbolic link: ", err)
	}
	keys := []string{"a/small", "/big.png", "../secret.png", "text.png", "link.png", `<script>alert(1)</script>"'`}
	must(t, "ingest", "b", features(t, filepath.Join(dir, "x.npy"), len(keys), nil), "--keys", write(t, filepath.Join(dir, "k.txt"), strings.Join(keys, "\n")+"\n"),
		"--labels", write(t, filepath.Join(dir, "l.txt"), "1\n1\n0\n0\n-1\n-1\n"))
	page := filepath.Join(dir, "page.html")
	must(t, "query", "b", "--from", "b", "-k", "6", "-o", page, "--images", images)
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	if n := strings.Count(text, "data:image/png"); n != 7 {
		t.Errorf("the small image is there %d times, want 7: as a query and in six answers", n)
	}
	if n := strings.Count(text, "data:image/jpeg"); n != 7 {
		t.Errorf("the big image is there %d times, want 7, as a thumbnail", n)
	}
	for _, bad := range []string{"<script>alert", "http", "ZgotmplZ", "src=\"a/"} {
		if strings.Contains(text, bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
	for _, want := range []string{"../secret.png", "&lt;script&gt;alert", `class="right"`, `class="wrong"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	must(t, "query", "b", "--row", "0", "-o", page)
	if data, _ := os.ReadFile(page); strings.Contains(string(data), "data:image") || !strings.Contains(string(data), "/big.png") {
		t.Error("without --images the page shows keys")
	}
}

// A thumbnail keeps the proportions and the average colour.
func TestThumbnail(t *testing.T) {
	img := image.NewNRGBA(image.Rect(0, 0, 640, 320))
	for y := range 320 {
		for x := range 640 {
			img.Set(x, y, color.NRGBA{200, 100, 50, 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	p, ok := thumbnailOf(b.Bytes())
	if !ok || !strings.HasPrefix(string(p.URI), "data:image/jpeg;base64,") || p.Small {
		t.Fatalf("%v %.40s", ok, p.URI)
	}
	small := shrink(img, 128, 64)
	if r, g, bl, a := small.At(77, 33).RGBA(); r>>8 != 200 || g>>8 != 100 || bl>>8 != 50 || a>>8 != 255 {
		t.Errorf("colour %d %d %d %d", r>>8, g>>8, bl>>8, a>>8)
	}
	b.Reset()
	jpeg.Encode(&b, small, nil)
	for cut := range b.Len() {
		thumbnailOf(b.Bytes()[:cut]) // a cut image is no panic
	}
	if _, ok := thumbnailOf([]byte("GIF89a\xff\xff\xff\xff")); ok {
		t.Error("a broken image has a thumbnail")
	}
}

// No panic reaches a user.
func TestPanicIsAnError(t *testing.T) {
	var errs bytes.Buffer
	code := Run(context.Background(), []string{"membank", "version", "--json"}, nil, explosive{}, &errs)
	if code != exitFailure || !strings.Contains(errs.String(), "membank: internal error: boom (") || !strings.Contains(errs.String(), `{"error":{"code":"failure"`) {
		t.Errorf("exit %d, %q", code, errs.String())
	}
}

type explosive struct{}

func (explosive) Write([]byte) (int, error) { panic("boom") }

// A result that did not get out is no success.
func TestStdoutThatFails(t *testing.T) {
	database(t)
	must(t, "ingest", "b", features(t, filepath.Join(t.TempDir(), "x.npy"), 10, nil))
	for _, line := range []string{"ls", "ls --json", "show b", "query b --row 0", "query b --row 0 --json", "verify", "version"} {
		var errs bytes.Buffer
		code := Run(context.Background(), append([]string{"membank"}, strings.Fields(line)...), nil, full{}, &errs)
		if code != exitFailure || !strings.Contains(errs.String(), "stdout: ") || !strings.HasPrefix(errs.String(), "membank: ") {
			t.Errorf("%s: exit %d, %q", line, code, errs.String())
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }
