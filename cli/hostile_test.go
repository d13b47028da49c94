package cli

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"membank/store/dump"
)

// farProcess is a server in a process of its own, whose memory can be watched.
type farProcess struct {
	*testServer
	cmd *exec.Cmd
}

func startProcess(t *testing.T, dir string, flags ...string) *farProcess {
	t.Helper()
	p := &farProcess{testServer: &testServer{dir: dir, log: &logBuffer{}}}
	p.cmd = child("membank", append([]string{"serve", "--json", "--quiet", "--db", dir, "--listen", "127.0.0.1:0"}, flags...)...)
	p.cmd.Stderr = p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var l listening
	for l.URL == "" && lines.Scan() {
		json.Unmarshal(lines.Bytes(), &l)
	}
	go io.Copy(io.Discard, out)
	t.Cleanup(func() {
		p.cmd.Process.Signal(os.Interrupt)
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("the server ended with %v\n%s", err, p.log)
		}
	})
	if p.url = l.URL; p.url == "" {
		t.Fatalf("the server did not start: %s", p.log)
	}
	return p
}

// watch reads, every other millisecond, what memory of its own the process has (file
// pages that are mapped come and go as the system pleases), until the test ends; peak
// is the most so far, 0 where the system does not say.
func (p *farProcess) watch(t *testing.T) (peak func() int64) {
	t.Helper()
	var most atomic.Int64
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	look := func() {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
				n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				most.Store(max(most.Load(), n<<10))
			}
		}
	}
	look()
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(2 * time.Millisecond):
				look()
			}
		}
	}()
	return most.Load
}

// state is all that the server holds, bytes of every bank.
func (p *farProcess) state(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, q := range []struct{ method, path string }{
		{"GET", "/v1/banks"}, {"GET", "/v1/banks/b"}, {"GET", "/v1/banks/b/export?output=b.npz"}, {"GET", "/v1/memory"},
		{"GET", "/v1/memory/m"}, {"POST", "/v1/memory/m/get?output=m.npz"}, {"GET", "/v1/memory/q"}, {"POST", "/v1/memory/q/get?scope=all&output=q.npz"},
	} {
		a := p.ask(t, q.method, q.path, "", nil)
		if a.status != 200 {
			t.Fatalf("%s %s: %d %s", q.method, q.path, a.status, a.text)
		}
		all.WriteString(a.text)
	}
	return all.String()
}

// rowsOf are rows×dim floats that are all v.
func rowsOf(rows, dim int, v float32) []float32 {
	x := make([]float32, rows*dim)
	for i := range x {
		x[i] = v
	}
	return x
}

// bombOf is an .npz whose one array is deflated zeros, many times what it weighs.
func bombOf(t *testing.T, name, descr, shape string, zeros int64) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestSpeed) })
	w, err := z.CreateHeader(&zip.FileHeader{Name: name + ".npy", Method: zip.Deflate})
	if err != nil {
		t.Fatal(err)
	}
	w.Write(npy("'"+descr+"'", shape, nil))
	for piece := make([]byte, 1<<20); zeros > 0; zeros -= int64(len(piece)) {
		w.Write(piece[:min(zeros, int64(len(piece)))])
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// members is an .npz of .npy files as they are given: name, file, name, file.
func members(t *testing.T, pairs ...any) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		data := pairs[i+1].([]byte)
		w, err := z.CreateRaw(&zip.FileHeader{Name: pairs[i].(string), CRC32: crc32.ChecksumIEEE(data), CompressedSize64: uint64(len(data)), UncompressedSize64: uint64(len(data))})
		if err != nil {
			t.Fatal(err)
		}
		w.Write(data)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What a hostile client sends to any route that writes or reads gets an error in our
// one shape, costs memory that does not grow with what it claims, and changes
// nothing. The server is a process of its own: what it held at its worst is what the
// system says.
func TestHostileClients(t *testing.T) {
	p := startProcess(t, filepath.Join(t.TempDir(), "db"), "--memory", "64MiB", "--bank-memory", "64MiB", "--max-body", "8MiB")
	npz := "application/x-npz"
	for path, body := range map[string][]byte{
		"/v1/banks/b/rows": npzOf(t, "labels", []int64{1, -1, 2}, "keys", []string{"x", "y", "z"}, "features", []float32{1, 0, 0, 1, 1, 1}),
		"/v1/memory/m?rows=64&dim=2&init=unit&seed=3": nil, "/v1/memory/q?kind=queue&rows=20&dim=2&init=unit&seed=4": nil,
	} {
		kind := npz
		if body == nil {
			kind = ""
		}
		if a := p.ask(t, "POST", path, kind, body); a.status != 200 {
			t.Fatalf("%s: %d %s", path, a.status, a.text)
		}
	}
	if a := p.ask(t, "POST", "/v1/memory/m/update?step=5", npz, namedOf(t, []int64{1, 2}, []float32{1, 2, 3, 4}, 2)); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.text)
	}
	if a := p.ask(t, "POST", "/v1/memory/q/push?step=5", npz, npzOf(t, "vectors", []float32{1, 2, 3, 4})); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.text)
	}
	before := p.state(t)

	// Clients that hang on for as long as all the others come: half a header, and a
	// right update but for its last byte.
	right := namedOf(t, []int64{0}, []float32{9, 9}, 2)
	host := strings.TrimPrefix(p.url, "http://")
	var slow []net.Conn
	for i := range 60 {
		c, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		text := "POST /v1/memory/m/update HTTP/1.1\r\nHost: " + host + "\r\nContent-Type: application/x-npz\r\n"
		if i%2 == 0 {
			text += fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(right), right[:len(right)-1])
		}
		io.WriteString(c, text)
		slow = append(slow, c)
	}

	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	whole := npyOf(t, 2, 1, 2, 3, 4)
	header := func(shape, descr string) []byte { return npy("'"+descr+"'", shape, nil) }
	lied := append([]byte("\x93NUMPY\x02\x00\xff\xff\xff\xff"), bytes.Repeat([]byte(" "), 4096)...) // a header of 4 GiB
	tensors := append(binary.LittleEndian.AppendUint64(nil, 1<<40), '{')                            // a header of 1 TiB
	ids := npyOfInts(t, 0, 1)
	wide := zipped(t, 256<<20)
	type attack struct {
		path string // "": every route that takes such a body; several are apart by blanks
		kind string
		body []byte
	}
	const written = "/v1/banks/b/rows?append=true /v1/memory/m/update /v1/memory/q/push"
	attacks := map[string]attack{
		"NaN":                       {body: members(t, "ids.npy", ids, "vectors.npy", npyOf(t, 2, 1, nan, 3, 4))},
		"Inf":                       {body: members(t, "ids.npy", ids, "vectors.npy", npyOf(t, 2, 1, 2, inf, 4))},
		"too large to square":       {path: "/v1/memory/m/update", body: members(t, "ids.npy", ids, "vectors.npy", npyOf(t, 2, 1e30, 2, 3, 4))},
		"wrong dims":                {path: written, body: members(t, "ids.npy", ids, "vectors.npy", npyOf(t, 3, 1, 2, 3, 4, 5, 6))},
		"no dims":                   {body: members(t, "ids.npy", ids, "vectors.npy", header("(2, 0)", "<f4"))},
		"three axes":                {body: members(t, "ids.npy", ids, "vectors.npy", npy("'<f4'", "(1, 2, 2)", rowsOf(2, 2, 1)))},
		"scalar":                    {body: members(t, "ids.npy", ids, "vectors.npy", npy("'<f4'", "()", rowsOf(1, 1, 1)))},
		"fewer ids":                 {path: "/v1/memory/m/update", body: members(t, "ids.npy", npyOfInts(t, 0), "vectors.npy", whole)},
		"id of no slot":             {path: "/v1/memory/m/update", body: namedOf(t, []int64{0, 64}, rowsOf(2, 2, 1), 2)},
		"negative id":               {path: "/v1/memory/m/update", body: namedOf(t, []int64{0, -1}, rowsOf(2, 2, 1), 2)},
		"id beyond int32":           {path: "/v1/memory/m/update", body: namedOf(t, []int64{0, 1 << 40}, rowsOf(2, 2, 1), 2)},
		"id of a get":               {path: "/v1/memory/m/get", body: members(t, "ids.npy", npyOfInts(t, 64))},
		"id of a gather":            {path: "/v1/memory/m/update?output=x.npz", body: members(t, "ids.npy", ids, "gather.npy", npyOfInts(t, -5), "vectors.npy", whole)},
		"ids that are floats":       {path: "/v1/memory/m/update", body: members(t, "ids.npy", npy("'<f4'", "(2,)", rowsOf(2, 1, 0)), "vectors.npy", whole)},
		"no ids":                    {path: "/v1/memory/m/update", body: members(t, "vectors.npy", whole)},
		"no vectors":                {path: "/v1/memory/m/update", body: members(t, "ids.npy", ids)},
		"labels too few":            {path: "/v1/memory/q/push", body: members(t, "labels.npy", npyOfInts(t, 1), "vectors.npy", whole)},
		"keys too few":              {path: "/v1/memory/q/push", body: npzOf(t, "keys", []string{"k"}, "vectors", rowsOf(2, 2, 1))},
		"slots pushed":              {path: "/v1/memory/m/push", body: members(t, "vectors.npy", whole)},
		"queue updated":             {path: "/v1/memory/q/update", body: namedOf(t, []int64{0, 1}, rowsOf(2, 2, 1), 2)},
		"step that is none":         {path: "/v1/memory/m/update?step=-3", body: namedOf(t, []int64{0, 1}, rowsOf(2, 2, 1), 2)},
		"step beyond int64":         {path: "/v1/memory/m/update?step=99999999999999999999", body: namedOf(t, []int64{0, 1}, rowsOf(2, 2, 1), 2)},
		"weight NaN":                {path: "/v1/memory/m/update?keep-old=NaN", body: namedOf(t, []int64{0, 1}, rowsOf(2, 2, 1), 2)},
		"unknown durability":        {path: "/v1/memory/m/update?durability=none", body: namedOf(t, []int64{0, 1}, rowsOf(2, 2, 1), 2)},
		"a header of 4 GiB":         {body: members(t, "ids.npy", ids, "vectors.npy", lied)},
		"bare header of 4 GiB":      {kind: "application/x-npy", body: lied},
		"tensors of 1 TiB":          {kind: "application/x-safetensors", body: tensors},
		"rows without data":         {body: members(t, "ids.npy", ids, "vectors.npy", header("(4611686018427387904, 2)", "<f4"))},
		"bare rows without data":    {kind: "application/x-npy", body: header("(268435456, 2)", "<f4")},
		"shape that overflows":      {body: members(t, "ids.npy", ids, "vectors.npy", header("(4294967296, 4294967296)", "<f4"))},
		"negative shape":            {body: members(t, "ids.npy", ids, "vectors.npy", header("(-2, 2)", "<f4"))},
		"ids without data":          {path: "/v1/memory/m/update", body: members(t, "ids.npy", header("(1099511627776,)", "<i8"), "vectors.npy", whole)},
		"keys of a gigabyte each":   {path: "/v1/memory/q/push", body: members(t, "keys.npy", header("(2,)", "<U268435456"), "vectors.npy", whole)},
		"objects":                   {body: members(t, "ids.npy", ids, "vectors.npy", header("(2,)", "|O"))},
		"pickle":                    {body: []byte("\x80\x04K\x01.")},
		"a zip of nothing":          {body: members(t)},
		"not an array":              {body: members(t, "vectors.npy", []byte("hello"))},
		"the same array twice":      {body: members(t, "ids.npy", ids, "ids.npy", ids, "vectors.npy", whole)},
		"bomb of rows":              {body: wide},
		"bomb of ids":               {path: "/v1/memory/m/update", body: bombOf(t, "ids", "<i8", "(33554432,)", 256<<20)},
		"bomb of one key":           {path: "/v1/memory/q/push", body: bombOf(t, "keys", "<U67108864", "(1,)", 256<<20)},
		"bomb behind an array":      {path: "/v1/memory/m/get", body: bombOf(t, "ids", "|u1", "(268435456,)", 256<<20)},
		"bomb as query":             {path: "/v1/banks/b/query?k=1", body: wide},
		"bomb as search":            {path: "/v1/memory/m/nearest", body: wide},
		"bomb as first rows":        {path: "/v1/memory/n?rows=4&dim=2", body: wide},
		"JSON of text":              {path: "/v1/memory/m/update", kind: "application/json", body: []byte(`{"ids":[0],"vectors":[["x",2]]}`)},
		"JSON number too large":     {path: "/v1/memory/m/update", kind: "application/json", body: []byte(`{"ids":[0],"vectors":[[1e400,2]]}`)},
		"JSON id too large":         {path: "/v1/memory/m/update", kind: "application/json", body: []byte(`{"ids":[9e30],"vectors":[[1,2]]}`)},
		"JSON in JSON in JSON":      {kind: "application/json", body: []byte(`{"vectors":` + strings.Repeat("[", 1<<20) + strings.Repeat("]", 1<<20) + `}`)},
		"JSON cut short":            {kind: "application/json", body: []byte(`{"vectors":[[1,`)},
		"JSON of NaN":               {kind: "application/json", body: []byte(`{"ids":[0],"vectors":[[NaN,1]]}`)},
		"a bank of petabytes":       {path: "/v1/memory/n?rows=1000000000000000&dim=1000000"},
		"rows beyond int64":         {path: "/v1/memory/n?rows=99999999999999999999&dim=2"},
		"dims beyond int":           {path: "/v1/memory/n?rows=1&dim=9223372036854775807"},
		"prototypes by the billion": {path: "/v1/memory/n?rows=1&dim=2&prototypes=1000000000000"},
		"negatives by the billion":  {path: "/v1/memory/m/sample?n=1000000000000"},
		"negatives, evenly":         {path: "/v1/memory/m/sample?n=1000000&anchors=1000000"},
		"anchors by the billion":    {path: "/v1/memory/m/sample?n=1&anchors=1000000000000"},
		"gather by the billion":     {path: "/v1/memory/m/update?negatives=1000000000000&output=x.npz", body: namedOf(t, []int64{0, 1}, rowsOf(2, 2, 1), 2)},
		"losses by the billion":     {path: "/v1/memory/m/loss?kind=infonce&n=1000000000000", body: members(t, "vectors.npy", whole, "positives.npy", ids)},
	}
	ones := npyOf(t, 2, 1, 1, 1, 1)
	for i := range 8 { // an update cut short, and one with a bit changed
		body := namedOf(t, []int64{0, 1}, rowsOf(2, 2, 1), 2)
		attacks[fmt.Sprintf("cut at %d/8", i)] = attack{path: "/v1/memory/m/update", body: body[:max(1, len(body)*i/8)]}
		flipped := bytes.Clone(body)
		flipped[bytes.LastIndex(body, ones[len(ones)-16:])+2*i] ^= 16
		attacks[fmt.Sprintf("bit of element %d flipped", i/2)] = attack{path: "/v1/memory/m/update", body: flipped}
	}
	for i, name := range []string{"../../../../etc/cron.d/x", "/etc/passwd", `..\..\x`, "ids/../../vectors", "a\x00b", strings.Repeat("v", 60000), ""} {
		attacks[fmt.Sprintf("path in a name %d", i)] = attack{body: members(t, name+".npy", npyOf(t, 2, 1, nan, 3, 4))}
	}

	peak := p.watch(t)
	calm := peak()
	for name, a := range attacks {
		if a.path == "" {
			a.path = written + " /v1/banks/fresh/rows"
		}
		for path := range strings.FieldsSeq(a.path) {
			kind := a.kind
			if kind == "" && a.body != nil {
				kind = npz
			}
			begun := time.Now()
			got := p.ask(t, "POST", path, kind, a.body)
			var d struct {
				Error struct{ Code, Message string }
			}
			if err := json.Unmarshal([]byte(got.text), &d); err != nil || got.status < 400 || got.status >= 500 || d.Error.Code == "" || len(d.Error.Message) > 2000 {
				t.Errorf("%s: POST %s: %d %.300s", name, path, got.status, got.text)
			}
			if took := time.Since(begun); took > 5*time.Second {
				t.Logf("%s: POST %s took %v", name, path, took)
			}
			if now := peak(); now-calm > 64<<20 {
				t.Fatalf("%s: POST %s: the server took %d MiB more than before", name, path, (now-calm)>>20)
			}
			if after := p.state(t); after != before {
				t.Fatalf("%s: POST %s: the banks changed", name, path)
			}
		}
	}
	t.Logf("%d attacks, %d MiB before, %d at the most", len(attacks), calm>>20, peak()>>20)

	// More than was said, and less: the body is chunked and has no end, or ends early.
	for _, path := range []string{"/v1/memory/m/update", "/v1/banks/b/rows?append=true"} {
		endless, err := http.NewRequest("POST", p.url+path, io.MultiReader(bytes.NewReader(npy("'<f4'", "(1000000000, 2)", nil)), io.LimitReader(zeros{}, 2<<30)))
		if err != nil {
			t.Fatal(err)
		}
		endless.Header.Set("Content-Type", "application/x-npy")
		if a, err := http.DefaultTransport.RoundTrip(endless); err == nil {
			a.Body.Close()
			if a.StatusCode < 400 || a.StatusCode >= 500 {
				t.Errorf("%s without an end: %d", path, a.StatusCode)
			}
		}
	}
	for _, c := range slow { // the last byte never comes
		c.Close()
	}
	for end := time.Now().Add(20 * time.Second); !strings.Contains(p.ask(t, "GET", "/metrics", "", nil).text, "membank_requests_active 1\n"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("requests of clients that left are still under way")
		}
	}
	if after := p.state(t); after != before {
		t.Error("the banks changed")
	}
	if now := peak(); now-calm > 64<<20 {
		t.Errorf("the server took %d MiB more than before", (now-calm)>>20)
	}
	if a := p.ask(t, "POST", "/v1/memory/m/update", npz, right); a.status != 200 {
		t.Errorf("a right update afterwards: %d %s", a.status, a.text)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func npyOfInts(t *testing.T, list ...int64) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := dump.WriteNPY(&b, list); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// zipped is a bomb of rows: two columns of zeros.
func zipped(t *testing.T, bytes int64) []byte {
	return bombOf(t, "vectors", "<f4", fmt.Sprintf("(%d, 2)", bytes/8), bytes)
}
