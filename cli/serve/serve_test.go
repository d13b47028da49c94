package serve

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// toy is a server whose commands do what a test wants of HTTP.
type toy struct {
	*Server
	address string
	log     *lockedBuffer
	stop    context.CancelFunc
	ended   chan error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type reply struct {
	Got int64 `json:"got"`
}

var toyRoutes = []Route{
	{Method: "GET", Path: "/v1/banks", Command: []string{"ls"}, Summary: "list", Light: true, Result: []reply{}, Args: []Param{{Name: "prefix"}}},
	{Method: "POST", Path: "/v1/banks/{bank}/rows", Command: []string{"ingest"}, Args: []Param{{Name: "bank", Required: true}}, Body: UploadBody, Result: reply{},
		Params: []Param{{Name: "append", Switch: true}, {Name: "dtype"}}},
	{Method: "POST", Path: "/v1/banks/{bank}/query", Command: []string{"query"}, Args: []Param{{Name: "bank", Required: true}}, Body: ArrayBody, BodyFlag: "vectors",
		Params: []Param{{Name: "k"}, {Name: "key", Many: true}, {Name: "vectors"}, {Name: "output"}}, Files: []string{".npz"}, Lines: true, Result: reply{}},
}

// startToy serves run behind real HTTP, impatient with slow clients unless tuned.
func startToy(t testing.TB, o Options, run func(context.Context, *Call) error, tune ...func(*Server)) *toy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &toy{address: l.Addr().String(), log: &lockedBuffer{}, ended: make(chan error, 1)}
	o.Routes, o.Run = toyRoutes, run
	o.Explain = func(err error) Fault {
		return Fault{Status: http.StatusInternalServerError, Code: "failure", Message: err.Error(), Exit: 1}
	}
	o.Log = slog.New(slog.NewTextHandler(s.log, nil))
	if s.Server, err = New(l, o); err != nil {
		t.Fatal(err)
	}
	s.headers, s.pause = 400*time.Millisecond, 400*time.Millisecond
	for _, change := range tune {
		change(s.Server)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	go func() { s.ended <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		select {
		case <-s.ended:
		case <-time.After(10 * time.Second):
			t.Error("the server does not end")
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return s
}

// echo counts what the body holds.
func echo(_ context.Context, c *Call) error {
	var n int64
	if c.Body != nil {
		var err error
		if n, err = io.Copy(io.Discard, c.Body); err != nil {
			return err
		}
	}
	if c.File != nil {
		io.WriteString(c.File, "PK")
	}
	fmt.Fprintf(c.Stdout, "{\"got\":%d}\n", n)
	return nil
}

// ask sends a request as a client of bytes would; headers that are empty are left out.
func (s *toy) ask(t testing.TB, method, path string, headers map[string]string, body string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+s.address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range headers {
		if k == "Host" {
			r.Host = v
		} else {
			r.Header.Set(k, v)
		}
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
	return a, string(text)
}

// wantFault checks status and shape of an error.
func wantFault(t testing.TB, a *http.Response, text string, status int, code string) {
	t.Helper()
	var d errorDocument
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil || a.StatusCode != status || d.Error.Code != code || d.Error.Message == "" {
		t.Errorf("status %d, body %s; want %d and code %s", a.StatusCode, text, status, code)
	}
	if kind := a.Header.Get("Content-Type"); kind != "application/json" {
		t.Errorf("an error of type %s", kind)
	}
}

// The first rows of the table of attacks: names, origins, types. Each is refused
// before a command runs.
func TestWhoMayAsk(t *testing.T) {
	ran := make(chan struct{}, 100)
	s := startToy(t, Options{Hosts: []string{"bank.example"}}, func(ctx context.Context, c *Call) error { ran <- struct{}{}; return echo(ctx, c) })
	_, port, _ := net.SplitHostPort(s.address)
	for name, c := range map[string]struct {
		method, path string
		headers      map[string]string
		body         string
		status       int
		code         string // "": allowed
	}{
		"address":             {"GET", "/v1/banks", nil, "", 200, ""},
		"localhost":           {"GET", "/v1/banks", map[string]string{"Host": "LocalHost:" + port}, "", 200, ""},
		"IPv6 loopback":       {"GET", "/v1/banks", map[string]string{"Host": "[::1]:" + port}, "", 200, ""},
		"IPv6 spelt out":      {"GET", "/v1/banks", map[string]string{"Host": "[0:0:0:0:0:0:0:1]:" + port}, "", 200, ""},
		"a given name":        {"GET", "/v1/banks", map[string]string{"Host": "bank.example:" + port}, "", 200, ""},
		"rebound name":        {"GET", "/v1/banks", map[string]string{"Host": "evil.example:" + port}, "", 421, "wrong_host"},
		"name like loopback":  {"GET", "/v1/banks", map[string]string{"Host": "127.evil.example:" + port}, "", 421, "wrong_host"},
		"name with loopback":  {"GET", "/v1/banks", map[string]string{"Host": "127.0.0.1.evil.example:" + port}, "", 421, "wrong_host"},
		"suffix":              {"GET", "/v1/banks", map[string]string{"Host": "evil-bank.example:" + port}, "", 421, "wrong_host"},
		"another loopback":    {"GET", "/v1/banks", map[string]string{"Host": "127.0.0.2:" + port}, "", 421, "wrong_host"},
		"another port":        {"GET", "/v1/banks", map[string]string{"Host": "127.0.0.1:1"}, "", 421, "wrong_host"},
		"no port":             {"GET", "/v1/banks", map[string]string{"Host": "127.0.0.1"}, "", 421, "wrong_host"},
		"on the health route": {"GET", "/healthz", map[string]string{"Host": "evil.example"}, "", 421, "wrong_host"},
		"cross-site fetch":    {"POST", "/v1/banks/a/query", map[string]string{"Sec-Fetch-Site": "cross-site", "Content-Type": "application/x-npy"}, "x", 403, "cross_origin"},
		"same-site fetch":     {"POST", "/v1/banks/a/query", map[string]string{"Sec-Fetch-Site": "same-site", "Content-Type": "application/x-npy"}, "x", 403, "cross_origin"},
		"same-origin fetch":   {"POST", "/v1/banks/a/query", map[string]string{"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-npy"}, "x", 200, ""},
		"null origin":         {"POST", "/v1/banks/a/query", map[string]string{"Origin": "null", "Content-Type": "application/x-npy"}, "x", 403, "cross_origin"},
		"another origin":      {"POST", "/v1/banks/a/query", map[string]string{"Origin": "http://evil.example", "Content-Type": "application/x-npy"}, "x", 403, "cross_origin"},
		"another origin, GET": {"GET", "/v1/banks", map[string]string{"Origin": "http://evil.example"}, "", 403, "cross_origin"},
		"own origin":          {"POST", "/v1/banks/a/query", map[string]string{"Origin": "http://" + s.address, "Content-Type": "application/x-npy"}, "x", 200, ""},
		"preflight":           {"OPTIONS", "/v1/banks/a/query", map[string]string{"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}, "", 403, "cross_origin"},
		"form":                {"POST", "/v1/banks/a/rows", map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, "x=y", 415, "media_type"},
		"multipart form":      {"POST", "/v1/banks/a/rows", map[string]string{"Content-Type": "multipart/form-data; boundary=x"}, "--x--", 415, "media_type"},
		"plain text":          {"POST", "/v1/banks/a/rows", map[string]string{"Content-Type": "text/plain"}, "x", 415, "media_type"},
		"no type":             {"POST", "/v1/banks/a/rows", nil, "x", 415, "media_type"},
		"misspelt parameter":  {"POST", "/v1/banks/a/query?nprob=1", nil, "", 400, "usage"},
		"flag of the process": {"POST", "/v1/banks/a/query?db=/etc", nil, "", 400, "usage"},
		"parameter twice":     {"POST", "/v1/banks/a/query?k=1&k=2", nil, "", 400, "usage"},
		"not a switch":        {"POST", "/v1/banks/a/rows?append=maybe", map[string]string{"Content-Type": "application/x-npy"}, "x", 400, "usage"},
		"file of a kind":      {"POST", "/v1/banks/a/query?output=/etc/passwd", nil, "", 400, "usage"},
		"broken query":        {"POST", "/v1/banks/a/query?k=%zz", nil, "", 400, "usage"},
		"no such route":       {"GET", "/v1/nothing", nil, "", 404, "no_such_route"},
		"another method":      {"PUT", "/v1/banks", nil, "", 404, "no_such_route"},
		"empty upload":        {"POST", "/v1/banks/a/rows", nil, "", 400, "usage"},
		"not JSON":            {"POST", "/v1/banks/a/rows", map[string]string{"Content-Type": "application/json"}, "{", 422, "bad_input"},
		"ragged JSON":         {"POST", "/v1/banks/a/rows", map[string]string{"Content-Type": "application/json"}, `{"vectors":[[1],[1,2]]}`, 422, "bad_input"},
		"unknown JSON":        {"POST", "/v1/banks/a/rows", map[string]string{"Content-Type": "application/json"}, `{"vectors":[[1]],"path":"/etc/passwd"}`, 422, "bad_input"},
	} {
		t.Run(name, func(t *testing.T) {
			a, text := s.ask(t, c.method, c.path, c.headers, c.body)
			if a.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Error("CORS was granted")
			}
			if a.Header.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(a.Header.Get("Content-Security-Policy"), "default-src 'none'") {
				t.Errorf("headers %v", a.Header)
			}
			if c.code == "" {
				if a.StatusCode != c.status {
					t.Errorf("status %d: %s", a.StatusCode, text)
				}
				<-ran
				return
			}
			wantFault(t, a, text, c.status, c.code)
			if len(ran) != 0 {
				<-ran
				t.Error("the command ran")
			}
		})
	}
	// A Host header that is missing or empty; HTTP/1.0 may leave it out.
	for _, head := range []string{"GET /v1/banks HTTP/1.0\r\n\r\n", "GET /v1/banks HTTP/1.1\r\nHost:\r\n\r\n", "GET /v1/banks HTTP/1.1\r\n\r\n"} {
		if line := s.raw(t, head); !strings.Contains(line, " 421 ") && !strings.Contains(line, " 400 ") {
			t.Errorf("%q: %s", head, line)
		}
	}
	if len(ran) != 0 {
		t.Error("a command ran without a Host")
	}
}

// raw sends bytes and returns the status line.
func (s *toy) raw(t testing.TB, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, text)
	line, _ := bufio.NewReader(c).ReadString('\n')
	return line
}

func TestToken(t *testing.T) {
	const token = "0123456789abcdef0123"
	s := startToy(t, Options{Token: []byte(token)}, echo)
	for name, c := range map[string]struct {
		path, authorization string
		ok                  bool
	}{
		"none":       {"/v1/banks", "", false},
		"wrong":      {"/v1/banks", "Bearer 0123456789abcdef0124", false},
		"a prefix":   {"/v1/banks", "Bearer 0123456789", false},
		"empty":      {"/v1/banks", "Bearer ", false},
		"right":      {"/v1/banks", "Bearer " + token, true},
		"metrics":    {"/metrics", "", false},
		"page":       {"/", "", false},
		"openapi":    {"/v1/openapi.json", "", false},
		"unknown":    {"/nothing", "", false},
		"health":     {"/healthz", "", true},
		"ready":      {"/readyz", "", true},
		"a browser":  {"/v1/banks", "Basic " + "eDowMTIzNDU2Nzg5YWJjZGVmMDEyMw==", true}, // x:token
		"other user": {"/v1/banks", "Basic eDp4", false},
	} {
		a, text := s.ask(t, "GET", c.path, map[string]string{"Authorization": c.authorization}, "")
		if c.ok != (a.StatusCode == 200) {
			t.Errorf("%s: status %d", name, a.StatusCode)
		}
		if !c.ok {
			wantFault(t, a, text, 401, "unauthorized")
			if a.Header.Get("Www-Authenticate") == "" {
				t.Errorf("%s: no WWW-Authenticate", name)
			}
		}
	}
	s.ask(t, "POST", "/v1/banks/a/query", map[string]string{"Authorization": "Bearer " + token, "Content-Type": "application/x-npy"}, "secretvector")
	if log := s.log.String(); strings.Contains(log, token) || strings.Contains(log, "secretvector") || strings.Contains(log, "0123456789abcdef") || !strings.Contains(log, "route=\"POST /v1/banks/{bank}/query\"") {
		t.Errorf("the log tells too much or too little:\n%s", log)
	}
}

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{"127.0.0.1": true, "127.8.9.1": true, "::1": true, "localhost": true, "::ffff:127.0.0.1": true,
		"": false, "0.0.0.0": false, "::": false, "10.0.0.1": false, "127.evil.example": false, "localhost.evil.example": false} {
		if Loopback(host) != want {
			t.Errorf("Loopback(%q) is %v", host, !want)
		}
	}
}

func TestBodiesAreBounded(t *testing.T) {
	s := startToy(t, Options{MaxBody: 2 << 20}, echo)
	npy := map[string]string{"Content-Type": "application/x-npy"}
	a, text := s.ask(t, "POST", "/v1/banks/a/rows", npy, strings.Repeat("x", 2<<20))
	if a.StatusCode != 200 || text != "{\"got\":2097152}\n" {
		t.Errorf("%d %s", a.StatusCode, text)
	}
	a, text = s.ask(t, "POST", "/v1/banks/a/rows", npy, strings.Repeat("x", 2<<20+1))
	wantFault(t, a, text, 413, "too_large")
	r, _ := http.NewRequest("POST", "http://"+s.address+"/v1/banks/a/rows", io.MultiReader(strings.NewReader(strings.Repeat("x", 3<<20)))) // chunked
	r.Header.Set("Content-Type", "application/x-npy")
	a, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(a.Body)
	a.Body.Close()
	wantFault(t, a, string(body), 413, "too_large")
	a, text = s.ask(t, "POST", "/v1/banks/a/rows", map[string]string{"Content-Type": "application/json"}, strings.Repeat(" ", 5<<20))
	wantFault(t, a, text, 413, "too_large")
	if line := s.raw(t, "GET /v1/banks HTTP/1.1\r\nHost: "+s.address+"\r\nX-Large: "+strings.Repeat("x", 100<<10)+"\r\n\r\n"); !strings.Contains(line, " 431 ") {
		t.Errorf("headers of 100 KiB: %q", line)
	}
	// A body that ends early is an error of the request, not an answer.
	if line := s.raw(t, "POST /v1/banks/a/rows HTTP/1.1\r\nHost: "+s.address+"\r\nContent-Type: application/x-npy\r\nContent-Length: 100\r\n\r\nabc"); strings.Contains(line, " 200 ") {
		t.Errorf("cut short: %s", line)
	}
}

// A body that comes too slowly is given up, and one that pauses; what comes at a
// steady rate is not, however long it takes.
func TestSlowBodies(t *testing.T) {
	control := http.NewResponseController(&deaf{})
	slow := &rolling{body: &dribble{each: 1, pause: 2 * time.Millisecond}, control: control, pause: time.Second, grace: 20 * time.Millisecond}
	if _, err := io.Copy(io.Discard, slow); !errors.Is(err, errSlow) {
		t.Errorf("500 bytes a second: %v", err)
	}
	steady := &rolling{body: io.LimitReader(&dribble{each: 4096, pause: time.Millisecond}, 200<<10), control: control, pause: time.Second, grace: 20 * time.Millisecond}
	if n, err := io.Copy(io.Discard, steady); err != nil || n != 200<<10 {
		t.Errorf("4 MB a second: %d, %v", n, err)
	}
}

type deaf struct{ http.ResponseWriter }

func (d *deaf) SetReadDeadline(time.Time) error { return nil }

type dribble struct {
	each  int
	pause time.Duration
}

func (d *dribble) Read(p []byte) (int, error) {
	time.Sleep(d.pause)
	return min(len(p), d.each), nil
}

// A client that stops in the middle of a small body gets 408, holds no worker while
// it lasts, and others are served.
func TestSlowlorisHoldsNoWorker(t *testing.T) {
	s := startToy(t, Options{Workers: 2}, echo)
	var lines sync.WaitGroup
	for range 50 {
		lines.Go(func() {
			line := s.raw(t, "POST /v1/banks/a/query HTTP/1.1\r\nHost: "+s.address+"\r\nContent-Type: application/x-npy\r\nContent-Length: 100\r\n\r\nabc")
			if !strings.Contains(line, " 408 ") && !strings.Contains(line, " 503 ") {
				t.Errorf("a body that stops: %q", line)
			}
		})
		lines.Go(func() { // headers that never end
			if line := s.raw(t, "GET /v1/banks HTTP/1.1\r\nHost: "); strings.Contains(line, " 200 ") {
				t.Errorf("headers that stop: %q", line)
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	start := time.Now()
	if a, text := s.ask(t, "POST", "/v1/banks/a/query", map[string]string{"Content-Type": "application/x-npy"}, "quick"); a.StatusCode != 200 || time.Since(start) > 200*time.Millisecond {
		t.Errorf("beside slow clients: %d %s after %v", a.StatusCode, text, time.Since(start))
	}
	lines.Wait()
}

func TestPanicsAreAnswered(t *testing.T) {
	s := startToy(t, Options{}, func(ctx context.Context, c *Call) error {
		if c.Words[0] == "ls" {
			panic("boom")
		}
		return echo(ctx, c)
	})
	a, text := s.ask(t, "GET", "/v1/banks", nil, "")
	wantFault(t, a, text, 500, "internal")
	if !strings.Contains(text, a.Header.Get("Request-Id")) || strings.Contains(text, "boom") {
		t.Errorf("%s", text)
	}
	if a, _ := s.ask(t, "POST", "/v1/banks/a/query", nil, ""); a.StatusCode != 200 {
		t.Errorf("after a panic: %d", a.StatusCode)
	}
	if _, text := s.ask(t, "GET", "/metrics", nil, ""); !strings.Contains(text, "membank_panics_total 1") || !strings.Contains(text, `membank_requests_total{route="GET /v1/banks",status="500"} 1`) {
		t.Errorf("metrics:\n%s", text)
	}
	if log := s.log.String(); !strings.Contains(log, "boom") || !strings.Contains(log, "stack=") {
		t.Errorf("log: %s", log)
	}
}

// A client that goes away cancels its work at once.
func TestAClientThatLeavesCancels(t *testing.T) {
	began, ended := make(chan struct{}), make(chan time.Time, 1)
	s := startToy(t, Options{}, func(ctx context.Context, c *Call) error {
		close(began)
		<-ctx.Done()
		ended <- time.Now()
		return ctx.Err()
	})
	ctx, cancel := context.WithCancel(context.Background())
	r, _ := http.NewRequestWithContext(ctx, "POST", "http://"+s.address+"/v1/banks/a/query", nil)
	done := make(chan error, 1)
	go func() { _, err := http.DefaultTransport.RoundTrip(r); done <- err }()
	<-began
	left := time.Now()
	cancel()
	<-done
	if at := <-ended; at.Sub(left) > 100*time.Millisecond {
		t.Errorf("cancelled %v after the client had left", at.Sub(left))
	}
}

// An orderly stop: what is under way is answered, new work and /readyz get 503,
// /healthz is well, and Serve returns when no handler runs.
func TestOrderlyStop(t *testing.T) {
	began, goOn := make(chan struct{}), make(chan struct{})
	s := startToy(t, Options{}, func(ctx context.Context, c *Call) error {
		if c.Words[0] == "query" {
			close(began)
			<-goOn
		}
		return echo(ctx, c)
	})
	status := make(chan int, 1)
	go func() { a, _ := s.ask(t, "POST", "/v1/banks/a/query", nil, ""); status <- a.StatusCode }()
	<-began
	if a, _ := s.ask(t, "GET", "/readyz", nil, ""); a.StatusCode != 200 {
		t.Errorf("readyz before: %d", a.StatusCode)
	}
	s.stop()
	for !s.stopping.Load() {
		time.Sleep(time.Millisecond)
	}
	a, text := s.ask(t, "GET", "/readyz", nil, "")
	wantFault(t, a, text, 503, "stopping")
	a, text = s.ask(t, "GET", "/v1/banks", nil, "")
	wantFault(t, a, text, 503, "stopping")
	if a, _ := s.ask(t, "GET", "/healthz", nil, ""); a.StatusCode != 200 {
		t.Errorf("healthz while stopping: %d", a.StatusCode)
	}
	close(goOn)
	if got := <-status; got != 200 {
		t.Errorf("the request under way: %d", got)
	}
	err := <-s.ended
	s.ended <- err
	if err != nil {
		t.Error(err)
	}
}

// What does not end in time is cancelled, and Serve waits for that, too.
func TestStopCancelsWhatTakesTooLong(t *testing.T) {
	began := make(chan struct{})
	var cause error
	s := startToy(t, Options{StopTime: 50 * time.Millisecond}, func(ctx context.Context, c *Call) error {
		close(began)
		<-ctx.Done()
		cause = context.Cause(ctx)
		return ctx.Err()
	})
	answer := make(chan string, 1)
	go func() {
		a, text := s.ask(t, "POST", "/v1/banks/a/query", nil, "")
		answer <- fmt.Sprint(a.StatusCode, text)
	}()
	<-began
	s.stop()
	err := <-s.ended
	s.ended <- err
	if got := <-answer; err != nil || !errors.Is(cause, errStopping) || !strings.HasPrefix(got, "503") || !strings.Contains(got, "stopping") {
		t.Errorf("%v, %v, %s", err, cause, got)
	}
}

func TestH2C(t *testing.T) {
	s := startToy(t, Options{}, echo)
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: transport}
	defer client.CloseIdleConnections()
	r, _ := http.NewRequest("POST", "http://"+s.address+"/v1/banks/a/rows", strings.NewReader(strings.Repeat("x", 3<<20)))
	r.Header.Set("Content-Type", "application/x-npy")
	a, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	text, _ := io.ReadAll(a.Body)
	if a.ProtoMajor != 2 || a.StatusCode != 200 || string(text) != "{\"got\":3145728}\n" {
		t.Errorf("%s %d %s", a.Proto, a.StatusCode, text)
	}
}

// Answers of every length come whole, from memory and from a file, and leave no
// file behind.
func TestLongAnswers(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	s := startToy(t, Options{}, func(_ context.Context, c *Call) error {
		for range 700 {
			if _, err := io.WriteString(c.Stdout, strings.Repeat("y", 4000)); err != nil {
				return err
			}
		}
		return nil
	})
	if a, text := s.ask(t, "GET", "/v1/banks", nil, ""); len(text) != 2800000 || a.ContentLength != 2800000 || strings.Trim(text, "y") != "" {
		t.Errorf("%d bytes, Content-Length %d", len(text), a.ContentLength)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
}
