package cli

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"membank/store/dump"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// asked is what a request got.
type askedOf struct {
	status int
	kind   string
	header http.Header
	text   string
}

// ask sends a request as curl would.
func (s *testServer) ask(t testing.TB, method, path, kind string, body []byte, headers ...string) askedOf {
	t.Helper()
	r, err := http.NewRequest(method, s.url+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	a, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	media, _, _ := strings.Cut(a.Header.Get("Content-Type"), ";")
	return askedOf{a.StatusCode, media, a.Header, string(text)}
}

// npyOf is an .npy of rows.
func npyOf(t testing.TB, dim int, data ...float32) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := dump.WriteNPY(&b, data, int64(len(data)/dim), int64(dim)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// npzOf is an .npz of arrays in order: name, data, name, data.
func npzOf(t testing.TB, pairs ...any) []byte {
	t.Helper()
	var b bytes.Buffer
	z := dump.NewNPZWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		var shape []int64
		if x, ok := pairs[i+1].([]float32); ok {
			shape = []int64{int64(len(x) / 2), 2} // vectors here have two dimensions
		}
		if err := z.Write(pairs[i].(string), pairs[i+1], shape...); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Every body that is wrong gets an error that says so, and the bank stays as it was.
func TestBrokenBodiesChangeNothing(t *testing.T) {
	s := startServer(t, database(t))
	good := npzOf(t, "labels", []int64{1, -1, 2}, "keys", []string{"a", "b", "c"}, "features", []float32{1, 0, 0, 1, 1, 1})
	if a := s.ask(t, "POST", "/v1/banks/team%2Ftrain/rows", "application/x-npz", good); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.text)
	}
	before := s.ask(t, "GET", "/v1/banks/team%2Ftrain/rows?rows=0,1,2", "", nil).text
	if got := records(t, before); got != "0 a 1 [1 0]; 1 b - [0 1]; 2 c 2 [1 1]" {
		t.Fatalf("rows %s", got)
	}
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	whole := npyOf(t, 2, 1, 2, 3, 4)
	var bomb bytes.Buffer
	z := zip.NewWriter(&bomb)
	w, _ := z.CreateHeader(&zip.FileHeader{Name: "features.npy", Method: zip.Deflate})
	dump.WriteNPY(w, make([]float32, 8<<20), 2<<20, 4)
	z.Close()
	for name, c := range map[string]struct {
		query string
		body  []byte
		code  string
		want  string
	}{
		"NaN":               {"append=true", npyOf(t, 2, 1, 2, nan, 4), "bad_row", "body: row 1: "},
		"Inf":               {"append=true", npyOf(t, 2, 1, 2, 3, inf), "bad_row", "body: row 1: "},
		"wrong dim":         {"append=true", npyOf(t, 3, 1, 2, 3), "wrong_dim", "it has dimension 2, the rows have 3"},
		"truncated":         {"append=true", whole[:len(whole)-1], "bad_input", "the header promises 16 bytes of data, 15 are there"},
		"too long":          {"append=true", append(bytes.Clone(whole), 0), "bad_input", "goes on after its last element"},
		"truncated npz":     {"append=true", good[:len(good)-30], "bad_input", "cut short"},
		"key of the bank":   {"append=true", npzOf(t, "keys", []string{"x", "a"}, "features", []float32{1, 2, 3, 4}), "duplicate_key", `key "a" is that of row 0 of the bank`},
		"key twice":         {"append=true", npzOf(t, "keys", []string{"x", "x"}, "features", []float32{1, 2, 3, 4}), "duplicate_key", `body: row 1: key "x" is that of row 0`},
		"labels short":      {"append=true", npzOf(t, "labels", []int64{1}, "features", []float32{1, 2, 3, 4}), "bad_input", "1 labels for 2 rows"},
		"labels behind":     {"append=true", npzOf(t, "features", []float32{1, 2, 3, 4}, "labels", []int64{1, 1}), "bad_input", "come after the vectors"},
		"no vectors":        {"append=true", npzOf(t, "labels", []int64{1}), "bad_input", "labels, keys or attributes come after"},
		"nothing at all":    {"append=true", npzOf(t, "other", []int64{1}), "bad_input", "holds no vectors"},
		"it exists":         {"", whole, "bank_exists", "exists already"},
		"unknown dtype":     {"append=true&dtype=f8", whole, "usage", "--dtype f8: unknown"},
		"pickle":            {"append=true", []byte("\x80\x04K\x01."), "bad_input", "is a Python pickle"},
		"objects":           {"append=true", []byte("\x93NUMPY\x01\x00\x3c\x00{'descr': '|O', 'fortran_order': False, 'shape': (2,), }   \n"), "bad_input", "Python objects"},
		"path in a name":    {"append=true", npzOf(t, "../../../etc/cron.d/x", []float32{nan, 1}), "bad_row", "body: row 0"},
		"attributes":        {"append=true", npzOf(t, "attributes", []string{"{}", "["}, "features", []float32{1, 2, 3, 4}), "bad_input", "row 1: is not a JSON object"},
		"text in a dump":    {"append=true", []byte("hello"), "bad_input", "is neither .npy nor .npz nor .safetensors"},
		"huge shape":        {"append=true", []byte("\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 2), } \n"), "bad_input", "are there"},
		"another dimension": {"append=true", append([]byte{}, pieces(t)...), "bad_input", "3 dimensions, and those before have 2"},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.ask(t, "POST", "/v1/banks/team%2Ftrain/rows?"+c.query, "application/octet-stream", c.body)
			var d struct {
				Error struct{ Code, Message string }
			}
			if err := json.Unmarshal([]byte(a.text), &d); err != nil || d.Error.Code != c.code || !strings.Contains(d.Error.Message, c.want) || a.status < 400 || a.status >= 500 {
				t.Errorf("%d %s\nwant %s: %s", a.status, a.text, c.code, c.want)
			}
			if after := s.ask(t, "GET", "/v1/banks/team%2Ftrain/rows?rows=0,1,2", "", nil).text; after != before {
				t.Errorf("the bank changed: %s", after)
			}
			if got := s.ask(t, "GET", "/v1/banks/team%2Ftrain", "", nil).text; !strings.Contains(got, `"rows":3,`) || !strings.Contains(got, `"generation":1,`) {
				t.Errorf("the bank changed: %s", got)
			}
		})
	}
	t.Run("zip bomb", func(t *testing.T) {
		small := startServer(t, filepath.Join(t.TempDir(), "small"), "--max-body", "1MiB")
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		a := small.ask(t, "POST", "/v1/banks/bomb/rows", "application/x-npz", bomb.Bytes())
		runtime.ReadMemStats(&after)
		if a.status != 422 || !strings.Contains(a.text, "unpacks to more bytes than are allowed") {
			t.Errorf("%d bytes that unpack to 32 MiB: %d %s", bomb.Len(), a.status, a.text)
		}
		if got := small.ask(t, "GET", "/v1/banks", "", nil).text; got != "[]\n" {
			t.Errorf("banks %s", got)
		}
	})
	for _, q := range []struct{ path, code string }{
		{"/v1/banks/team%2Ftrain/rows?rows=3", "no_such_row"}, {"/v1/banks/team%2Ftrain/rows?rows=-1", "usage"}, {"/v1/banks/team%2Ftrain/rows?rows=99999999999999999999", "usage"},
		{"/v1/banks/team%2Ftrain/rows?key=zzz", "not_found"}, {"/v1/banks/none", "no_such_bank"}, {"/v1/banks/..%2F..%2Fetc", "no_such_bank"}, {"/v1/banks/%00", "no_such_bank"},
	} {
		if a := s.ask(t, "GET", q.path, "", nil); a.status < 400 || a.status >= 500 || !strings.Contains(a.text, `"code":"`+q.code+`"`) {
			t.Errorf("%s: %d %s", q.path, a.status, a.text)
		}
	}
}

// pieces are two pieces of different dimension.
func pieces(t testing.TB) []byte {
	var b bytes.Buffer
	z := dump.NewNPZWriter(&b)
	z.Write("0/features", []float32{1, 2}, 1, 2)
	z.Write("1/features", []float32{1, 2, 3}, 1, 3)
	z.Close()
	return b.Bytes()
}

// Labels may be names, vectors may come in pieces, JSON and safetensors are arrays,
// too, and attributes keep their types.
func TestUploadsOfEveryForm(t *testing.T) {
	s := startServer(t, database(t))
	var tensors bytes.Buffer
	if err := dump.WriteSafetensors(&tensors, []dump.Tensor{{Name: "labels", Shape: []int64{2}, Data: []int64{5, 6}}, {Name: "features", Shape: []int64{2, 2}, Data: []float32{1, 2, 3, 4}}}, nil); err != nil {
		t.Fatal(err)
	}
	var parts bytes.Buffer
	z := dump.NewNPZWriter(&parts)
	z.Write("class_names", []string{"cat", "dog"})
	for i := range 3 {
		p := fmt.Sprintf("%d/", i)
		z.Write(p+"labels", []int64{int64(i % 2), -1})
		z.Write(p+"keys", []string{fmt.Sprint("k", 2*i), fmt.Sprint("k", 2*i+1)})
		z.Write(p+"attributes", []string{`{"year":2001,"share":2.0}`, `{"name":"é\n","year":null}`})
		z.Write(p+"features", []float32{float32(i), 1, float32(i), 2}, 2, 2)
	}
	z.Close()
	for name, c := range map[string]struct {
		kind, query string
		body        []byte
		want        string
	}{
		"npy":          {"application/x-npy", "", npyOf(t, 2, 1, 2, 3, 4), "0 0 - [1 2]; 1 1 - [3 4]"},
		"names":        {"application/x-npz", "", npzOf(t, "labels", []string{"owl", ""}, "x", []float32{1, 2, 3, 4}), "0 0 0 owl [1 2]; 1 1 - [3 4]"},
		"named arrays": {"application/zip", "array=a&labels-array=l", npzOf(t, "l", []int64{7, 8}, "a", []float32{1, 2, 3, 4}, "b", []float32{9, 9}), "0 0 7 [1 2]; 1 1 8 [3 4]"},
		"safetensors":  {"application/x-safetensors", "", tensors.Bytes(), "0 0 5 [1 2]; 1 1 6 [3 4]"},
		"JSON":         {"application/json", "", []byte(`{"vectors":[[1,2],[3,4]],"keys":["x","y"],"labels":[3,null]}`), "0 x 3 [1 2]; 1 y - [3 4]"},
		"f16":          {"application/x-npy", "dtype=f16", npyOf(t, 2, 1, 2, 3, 4), "0 0 - [1 2]; 1 1 - [3 4]"},
		"skip-bad":     {"application/x-npy", "skip-bad=true", npyOf(t, 2, 1, 2, float32(math.NaN()), 0, 3, 4), "0 0 - [1 2]; 1 1 - [3 4]"},
		"pieces":       {"application/x-npz", "", parts.Bytes(), "0 k0 0 cat [0 1]; 1 k1 - [0 2]"},
	} {
		t.Run(name, func(t *testing.T) {
			bank := strings.ReplaceAll(name, " ", "-")
			if a := s.ask(t, "POST", "/v1/banks/"+bank+"/rows?"+c.query, c.kind, c.body); a.status != 200 {
				t.Fatalf("%d %s", a.status, a.text)
			}
			text := s.ask(t, "GET", "/v1/banks/"+bank+"/rows?rows=0,1", "", nil).text
			text = regexp.MustCompile(`,"attributes":\{[^}]*\}`).ReplaceAllString(text, "")
			if got := records(t, text); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	if got := s.ask(t, "GET", "/v1/banks/pieces/rows?key=k2&key=k5", "", nil).text; !strings.Contains(got, `"attributes":{"share":2,"year":2001}`) || !strings.Contains(got, `"attributes":{"name":"é\n"}`) || !strings.Contains(got, `"row":5`) {
		t.Errorf("attributes of pieces: %s", got)
	}
	if got := s.ask(t, "POST", "/v1/banks/pieces/query?where=year%3D%3D2001%20and%20share%3C2.5&k=9&row=0", "", nil).text; strings.Count(got, `"row"`) != 3 {
		t.Errorf("--where over sent attributes: %s", got)
	}
	// Queries in every form have one answer.
	want := s.ask(t, "POST", "/v1/banks/pieces/query?k=2", "application/x-npy", npyOf(t, 2, 1, 2)).text
	for kind, body := range map[string][]byte{"application/json": []byte(`{"vectors":[[1,2]]}`), "application/x-npz": npzOf(t, "y", []int64{1}, "q", []float32{1, 2})} {
		if got := s.ask(t, "POST", "/v1/banks/pieces/query?k=2", kind, body).text; got != want || !strings.Contains(got, `"neighbours":[{"row":3`) {
			t.Errorf("%s: %s, as .npy %s", kind, got, want)
		}
	}
	if a := s.ask(t, "POST", "/v1/banks/pieces/rows/delete", "application/json", []byte(`{"keys":["k1","k2"]}`)); a.status != 200 || !strings.Contains(a.text, `"deleted":2,"rows":4`) {
		t.Errorf("delete by keys: %d %s", a.status, a.text)
	}
	if a := s.ask(t, "POST", "/v1/banks/pieces/rows/delete", "", nil); a.status != 400 {
		t.Errorf("delete of no rows in particular: %d %s", a.status, a.text)
	}
	if a := s.ask(t, "DELETE", "/v1/banks/pieces?where=row%3D%3D0", "", nil); a.status != 400 {
		t.Errorf("DELETE of a bank takes no --where: %d %s", a.status, a.text)
	}
	if a := s.ask(t, "GET", "/v1/banks/pieces", "", nil); !strings.Contains(a.text, `"rows":4,`) {
		t.Errorf("%s", a.text)
	}
}

// What a person or an attacker wrote into keys and labels stays text, and pictures
// come from inside their directory only.
func TestThePageAndItsPictures(t *testing.T) {
	dir := t.TempDir()
	images := filepath.Join(dir, "images")
	os.MkdirAll(filepath.Join(images, "a"), 0o755)
	secret := keyedPNG(t, filepath.Join(dir, "secret.png"))
	keyedPNG(t, filepath.Join(images, "a", "1.png"))
	os.Symlink(secret, filepath.Join(images, "link.png"))
	os.WriteFile(filepath.Join(images, "broken.jpg"), []byte("\xff\xd8\xff\xe0 cut"), 0o644)
	os.WriteFile(filepath.Join(images, "x.svg"), []byte("<svg onload=alert(1)>"), 0o644)
	s := startServer(t, filepath.Join(dir, "db"), "--images", images)
	keys := []string{"a/1.png", "../secret.png", "link.png", "broken.jpg", "x.svg", "<img src=x onerror=alert(1)>", "/a/1.png", "%2e%2e/secret.png"}
	vectors := []float32{}
	labels := []string{}
	for i := range keys {
		vectors = append(vectors, float32(i), 1)
		labels = append(labels, "<script>alert(2)</script>")
	}
	if a := s.ask(t, "POST", "/v1/banks/p%2Fq/rows", "application/x-npz", npzOf(t, "labels", labels, "keys", keys, "features", vectors)); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.text)
	}
	for row, ok := range []bool{true, false, false, false, false, false, true, false} {
		a := s.ask(t, "GET", fmt.Sprintf("/pictures/p%%2Fq/%d", row), "", nil)
		if ok != (a.status == 200 && a.kind == "image/png") || !ok && a.status != 404 {
			t.Errorf("picture of %s: %d %s", keys[row], a.status, a.kind)
		}
	}
	if a := s.ask(t, "GET", "/", "", nil); a.status != 200 || !strings.Contains(a.text, `href="/banks/p%2Fq"`) {
		t.Errorf("%d %s", a.status, a.text)
	}
	a := s.ask(t, "GET", "/banks/p%2Fq?row=5&k=9", "", nil)
	if a.status != 200 || strings.Contains(a.text, "<img src=x") || strings.Contains(a.text, "<script") || !strings.Contains(a.text, "&lt;script&gt;") || !strings.Contains(a.text, `src="/pictures/p%2Fq/0"`) {
		t.Errorf("%d %s", a.status, a.text)
	}
	if csp := a.header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("policy %s", csp)
	}
	if a := s.ask(t, "GET", "/banks/none", "", nil); a.status != 404 || !strings.Contains(a.text, "did you mean") && !strings.Contains(a.text, "membank ls") {
		t.Errorf("%d %s", a.status, a.text)
	}
}

func keyedPNG(t testing.TB, path string) string {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, 4, 4))
	img.Set(1, 1, color.White)
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return write(t, path, b.String())
}

// The matrix of what may be exposed how.
func TestWhatServeRefusesToExpose(t *testing.T) {
	dir := database(t)
	token := filepath.Join(t.TempDir(), "token")
	os.WriteFile(token, []byte(strings.Repeat("k", 32)+"\n"), 0o600)
	open := filepath.Join(t.TempDir(), "open")
	os.WriteFile(open, []byte(strings.Repeat("k", 32)), 0o644)
	os.Chmod(open, 0o644)
	short := filepath.Join(t.TempDir(), "short")
	os.WriteFile(short, []byte("k"), 0o600)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--listen", "0.0.0.0:0"}, "give --token-file"},
		{[]string{"--listen", ":0"}, "give --token-file"},
		{[]string{"--listen", "[::]:0", "--insecure-http"}, "give --token-file"},
		{[]string{"--listen", "0.0.0.0:0", "--token-file", token}, "--insecure-http"},
		{[]string{"--token-file", open}, "other users can read it"},
		{[]string{"--token-file", short}, "too few for a token"},
		{[]string{"--token-file", short + "x"}, "no such file"},
		{[]string{"--listen", "127.0.0.1"}, "not an address and a port"},
		{[]string{"--max-body", "many"}, "not a size"},
		{[]string{"--images", dir + "x"}, "no such directory"},
	} {
		if r := run(t, append([]string{"serve"}, c.args...)...); r.code == exitOK || !strings.Contains(r.err, c.want) {
			t.Errorf("serve %v: exit %d, %s", c.args, r.code, r.err)
		}
	}
	s := startServer(t, dir, "--token-file", token)
	if r := run(t, "ls", "--db", s.url); r.code != exitFailure || !strings.Contains(r.err, "token") {
		t.Errorf("without a token: exit %d, %s", r.code, r.err)
	}
	if r := run(t, "ls", "--db", s.url, "--token-file", token); r.code != exitOK {
		t.Errorf("with the token: exit %d, %s", r.code, r.err)
	}
	t.Setenv("MEMBANK_TOKEN_FILE", token)
	if r := run(t, "ls", "--db", s.url); r.code != exitOK {
		t.Errorf("with MEMBANK_TOKEN_FILE: exit %d, %s", r.code, r.err)
	}
	if log := s.log.String(); strings.Contains(log, "kkkk") {
		t.Errorf("the log tells the token:\n%s", log)
	}
}

// The OpenAPI document names every route, and every answer is as its schema says.
// The validator is somebody else's.
func TestOpenAPIDescribesTheServer(t *testing.T) {
	s := startServer(t, database(t))
	var document map[string]any
	if err := json.Unmarshal([]byte(s.ask(t, "GET", "/v1/openapi.json", "", nil).text), &document); err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("openapi.json", document); err != nil {
		t.Fatal(err)
	}
	paths := document["paths"].(map[string]any)
	for _, route := range serveRoutes() {
		operations, _ := paths[route.Path].(map[string]any)
		if operations[strings.ToLower(route.Method)] == nil {
			t.Errorf("%s %s is not described", route.Method, route.Path)
		}
	}
	npy, npz := "application/x-npy", "application/x-npz"
	rows := npzOf(t, "labels", []int64{1, 2, 1, 2}, "features", []float32{1, 0, 0, 1, 1, .1, .1, 1})
	seen := map[string]bool{}
	for _, c := range []struct {
		method, pattern, path, kind string
		body                        []byte
		status                      int
	}{
		{"POST", "/v1/banks/{bank}/rows", "/v1/banks/a/rows", npz, rows, 200},
		{"POST", "/v1/banks/{bank}/rows", "/v1/banks/a/rows", npz, rows, 409},
		{"POST", "/v1/banks/{bank}/rows", "/v1/banks/a/rows?append=true", npz, []byte("x"), 422},
		{"GET", "/v1/banks", "/v1/banks", "", nil, 200},
		{"GET", "/v1/banks", "/v1/banks?x=1", "", nil, 400},
		{"GET", "/v1/banks/{bank}", "/v1/banks/a", "", nil, 200},
		{"GET", "/v1/banks/{bank}", "/v1/banks/b", "", nil, 404},
		{"GET", "/v1/banks/{bank}/rows", "/v1/banks/a/rows?rows=0,3", "", nil, 200},
		{"GET", "/v1/banks/{bank}/rows", "/v1/banks/a/rows?rows=0,3&output=x.npy", "", nil, 200},
		{"GET", "/v1/banks/{bank}/export", "/v1/banks/a/export?output=x.npz", "", nil, 200},
		{"GET", "/v1/banks/{bank}/export", "/v1/banks/a/export", "", nil, 400},
		{"POST", "/v1/banks/{bank}/query", "/v1/banks/a/query?k=2", npy, npyOf(t, 2, 1, 2), 200},
		{"POST", "/v1/banks/{bank}/query", "/v1/banks/a/query?row=0&exclude-self=true", "", nil, 200},
		{"POST", "/v1/banks/{bank}/query", "/v1/banks/a/query?from=a&output=n.npz", "", nil, 200},
		{"POST", "/v1/banks/{bank}/query", "/v1/banks/a/query?row=0&output=n.html", "", nil, 200},
		{"POST", "/v1/banks/{bank}/graph", "/v1/banks/a/graph?k=2&output=g.npz", "", nil, 200},
		{"POST", "/v1/eval/knn", "/v1/eval/knn?train=a&leave-one-out=true&k=1,2&per-class=true", "", nil, 200},
		{"POST", "/v1/eval/knn", "/v1/eval/knn", "", nil, 400},
		{"POST", "/v1/banks/{bank}/index/codes", "/v1/banks/a/index/codes", "", nil, 200},
		{"POST", "/v1/banks/{bank}/rows/delete", "/v1/banks/a/rows/delete?where=row%3D%3D0&dry-run=true", "", nil, 200},
		{"POST", "/v1/eval/knn", "/v1/eval/knn?protocol=help", "", nil, 200},
		{"POST", "/v1/banks/{bank}/rows", "/v1/banks/run%2Fe1%2Ftrain/rows", npz, rows, 200},
		{"POST", "/v1/banks/{bank}/rows", "/v1/banks/run%2Fe2%2Ftrain/rows", npz, rows, 200},
		{"POST", "/v1/eval/knn", "/v1/eval/knn?train=run%2Fe%2A%2Ftrain&leave-one-out=true&k=1", "", nil, 200},
		{"POST", "/v1/eval/retrieval", "/v1/eval/retrieval?gallery=a&leave-one-out=true", "", nil, 200},
		{"POST", "/v1/eval/clusters", "/v1/eval/clusters?bank=a&clusters=2", "", nil, 200},
		{"POST", "/v1/eval/fewshot", "/v1/eval/fewshot?train=a&test=a&per-class-shots=1&tries=2&k=1", "", nil, 200},
		{"POST", "/v1/eval/robustness", "/v1/eval/robustness?train=a&test=a&perturbed=a&k=1", "", nil, 200},
		{"POST", "/v1/eval/groups", "/v1/eval/groups?gallery=a&queries=a&match=label", "", nil, 200},
		{"POST", "/v1/eval/transfer", "/v1/eval/transfer?protocol=help", "", nil, 200},
		{"POST", "/v1/banks/{bank}/index", "/v1/banks/a/index?nlist=2", "", nil, 200},
		{"GET", "/v1/banks/{bank}/index", "/v1/banks/a/index", "", nil, 200},
		{"POST", "/v1/banks/{bank}/index/tune", "/v1/banks/a/index/tune", "", nil, 200},
		{"DELETE", "/v1/banks/{bank}/index", "/v1/banks/a/index", "", nil, 200},
		{"POST", "/v1/compact", "/v1/compact", "", nil, 200},
		{"POST", "/v1/memory/{name}", "/v1/memory/q?kind=queue&rows=4&dim=2,2", "", nil, 200},
		{"POST", "/v1/memory/{name}/push", "/v1/memory/q/push", npz, npzOf(t, "labels", []int64{0, 1}, "vectors", []float32{1, 0, 0, 1}, "vectors_1", []float32{1, 0, 0, 1}), 200},
		{"POST", "/v1/memory/{name}/assign", "/v1/memory/q/assign?queue=written", npz, npzOf(t, "vectors", []float32{1, 0, 0, 1}, "prototypes", []float32{1, 0}, "other", []float32{1, 0, 0, 1}), 200},
		{"POST", "/v1/memory/{name}/assign", "/v1/memory/q/assign?output=q.npz", npz, npzOf(t, "vectors", []float32{1, 0}, "prototypes", []float32{1, 0}), 200},
		{"POST", "/v1/memory/{name}/assign", "/v1/memory/q/assign", npz, npzOf(t, "vectors", []float32{1, 0}), 400},
		{"POST", "/v1/memory/{name}/smooth", "/v1/memory/q/smooth", npz, npzOf(t, "vectors", []float32{1, 0}, "probabilities", []float32{.5, .5}), 200},
		{"POST", "/v1/memory/{name}/consistency", "/v1/memory/q/consistency?kind=relic", npz, npzOf(t, "vectors", []float32{1, 0}, "other", []float32{0, 1}), 200},
		{"POST", "/v1/memory/{name}/transform", "/v1/memory/q/transform?output=ft.npz", npz, npzOf(t, "vectors", []float32{1, 0}, "other", []float32{0, 1}), 200},
		{"POST", "/v1/memory/{name}/transform", "/v1/memory/q/transform", npz, npzOf(t, "vectors", []float32{1, 0}, "other", []float32{0, 1}), 400},
		{"POST", "/v1/memory/{name}", "/v1/memory/s?prototypes=2", npz, npzOf(t, "vectors", []float32{1, 0, 0, 1, 1, .1, .1, 1}), 200},
		{"POST", "/v1/memory/{name}/odc-start", "/v1/memory/s/odc-start", npz, npzOf(t, "labels", []int64{0, 1, 0, 1}), 200},
		{"POST", "/v1/memory/{name}/odc", "/v1/memory/s/odc?loss-weights=true&min-cluster=1", npz, npzOf(t, "ids", []int64{0}, "vectors", []float32{1, 0}), 200},
		{"POST", "/v1/memory/{name}/concentrations", "/v1/memory/s/concentrations", "", nil, 200},
		{"POST", "/v1/memory/{name}/recluster", "/v1/memory/s/recluster?heads=2", "", nil, 200},
		{"POST", "/v1/memory/{name}/recluster", "/v1/memory/s/recluster?heads=0", "", nil, 400},
		{"POST", "/v1/memory/{name}/loss", "/v1/memory/s/loss?n=2", npz, npzOf(t, "positives", []int64{0}, "vectors", []float32{1, 0}), 200},
		{"DELETE", "/v1/banks/{bank}", "/v1/banks/a", "", nil, 200},
		{"GET", "/healthz", "/healthz", "", nil, 200},
		{"GET", "/readyz", "/readyz", "", nil, 200},
		{"GET", "/metrics", "/metrics", "", nil, 200},
	} {
		seen[c.method+" "+c.pattern] = true
		a := s.ask(t, c.method, c.path, c.kind, c.body)
		if a.status != c.status {
			t.Errorf("%s %s: %d %s", c.method, c.path, a.status, a.text)
			continue
		}
		pointer := "openapi.json#/paths/" + strings.ReplaceAll(strings.ReplaceAll(c.pattern, "~", "~0"), "/", "~1") + "/" + strings.ToLower(c.method) + "/responses/200/content/" + strings.ReplaceAll(a.kind, "/", "~1") + "/schema"
		if a.status != 200 {
			pointer = "openapi.json#/components/schemas/Error"
		}
		pointer = strings.NewReplacer("{", "%7B", "}", "%7D").Replace(pointer)
		schema, err := compiler.Compile(pointer)
		if err != nil {
			t.Errorf("%s %s: %s: %v", c.method, c.path, pointer, err)
			continue
		}
		if a.kind != "application/json" && a.kind != "application/jsonl" {
			continue
		}
		for line := range strings.Lines(a.text) {
			value, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
			if err == nil {
				err = schema.Validate(value)
			}
			if err != nil {
				t.Errorf("%s %s: %v\n%s", c.method, c.path, err, line)
			}
		}
	}
	// Every other route exists: asked for nothing it says what it lacks, in our shape.
	failure, err := compiler.Compile("openapi.json#/components/schemas/Error")
	if err != nil {
		t.Fatal(err)
	}
	for path, operations := range paths {
		for method := range operations.(map[string]any) {
			if seen[strings.ToUpper(method)+" "+path] || path == "/v1/openapi.json" {
				continue
			}
			a := s.ask(t, strings.ToUpper(method), regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(path, "none"), "", nil)
			value, err := jsonschema.UnmarshalJSON(strings.NewReader(a.text))
			if err == nil && a.status != 200 {
				err = failure.Validate(value)
			}
			if err != nil || strings.Contains(a.text, "no_such_route") || a.status >= 500 {
				t.Errorf("%s %s: %d %s (%v)", method, path, a.status, a.text, err)
			}
		}
	}
}

// A server opens no file that a client names: no parameter of a route is a flag
// that takes a path.
func TestNoRouteTakesAPath(t *testing.T) {
	for _, route := range serveRoutes() {
		command := find(route.Command)
		for _, p := range route.Params {
			if p.Name == "output" || p.Name == route.BodyFlag || slices.Contains(lists, p.Name) { // asked below
				continue
			}
			for _, f := range command.Flags {
				takes := strings.Fields(fmt.Sprint(f))[1] // --labels FILE …
				if !slices.Contains(f.Names(), p.Name) {
					continue
				}
				if strings.ContainsAny(takes, "/") || strings.Contains(takes, "FILE") || strings.Contains(takes, "DIR") {
					t.Errorf("%s %s takes %s, which is a path: %v", route.Method, route.Path, p.Name, f)
				}
			}
		}
	}
	dir := database(t)
	secret := write(t, filepath.Join(t.TempDir(), "secret.txt"), "classified\n")
	s := startServer(t, dir)
	s.ask(t, "POST", "/v1/banks/a/rows", "application/x-npy", npyOf(t, 2, 1, 2))
	must(t, "bank", "init", "m", "--rows", "4", "--dim", "2", "--db", s.url)
	for _, path := range []string{
		"/v1/memory/m/get?ids=" + url.QueryEscape(secret), "/v1/memory/m/sample?n=1&positives=" + url.QueryEscape(secret), "/v1/memory/m/sample?n=1&exclude=" + url.QueryEscape(secret),
		"/v1/memory/m/update?vectors=" + url.QueryEscape(secret) + "&ids=0", "/v1/memory/m/update?gather=" + url.QueryEscape(secret) + "&ids=0&output=x.npz",
		"/v1/memory/b?vectors=" + url.QueryEscape(secret),
		"/v1/banks/a/query?vectors=" + url.QueryEscape(secret), "/v1/banks/a/query?row=0&images=" + url.QueryEscape(filepath.Dir(secret)),
		"/v1/banks/a/rows/delete?keys=" + url.QueryEscape(secret), "/v1/banks/a/rows?labels=" + url.QueryEscape(secret), "/v1/banks/a/graph?output=" + url.QueryEscape(secret+".npz"),
	} {
		a := s.ask(t, "POST", path, "", nil)
		if strings.Contains(a.text, "classified") || a.status == 200 && !strings.Contains(path, "graph") {
			t.Errorf("%s: %d %s", path, a.status, a.text)
		}
	}
	if left, _ := os.ReadDir(filepath.Dir(secret)); len(left) != 1 {
		t.Errorf("a file was written beside the secret: %v", left)
	}
}

// namedOf is a body of ids and vectors.
func namedOf(t testing.TB, ids []int64, vectors []float32, dim int64) []byte {
	t.Helper()
	var b bytes.Buffer
	z := dump.NewNPZWriter(&b)
	if err := errors.Join(z.Write("ids", ids), z.Write("vectors", vectors, int64(len(ids)), dim), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
