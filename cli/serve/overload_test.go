package serve

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// until waits for what must come, and fails the test where it does not.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

// Many more requests than the server takes: two work, thirty-two wait, and all others
// are sent away while those two are still at it, so nobody waits for longer than
// thirty-two others take. What was let in is answered, each once; what was sent away
// never ran. All the while the server says how it is.
func TestOverload(t *testing.T) {
	const all, working, waiting = 400, 2, 32
	var ran, inside, peak atomic.Int64
	goOn := make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	s := startToy(t, Options{Workers: working}, func(ctx context.Context, c *Call) error {
		if c.Words[0] != "query" {
			return echo(ctx, c)
		}
		ran.Add(1)
		n := inside.Add(1)
		for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
		}
		defer inside.Add(-1)
		<-goOn
		return echo(ctx, c)
	}, func(s *Server) { s.headers, s.pause, s.work.wait = time.Hour, time.Hour, time.Hour }) // however slow the machine is
	t.Cleanup(release)
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: all}}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	counts := map[int]int{}
	var clients sync.WaitGroup
	for range all {
		clients.Go(func() {
			a, err := client.Post("http://"+s.address+"/v1/banks/a/query", "application/x-npy", strings.NewReader("x"))
			if err != nil {
				t.Error(err)
				return
			}
			text, _ := io.ReadAll(a.Body)
			a.Body.Close()
			mu.Lock()
			defer mu.Unlock()
			counts[a.StatusCode]++
			if a.StatusCode != http.StatusOK {
				wantFault(t, a, string(text), http.StatusTooManyRequests, "overloaded")
				if a.Header.Get("Retry-After") != "1" {
					t.Errorf("Retry-After %q", a.Header.Get("Retry-After"))
				}
			}
		})
	}
	until(t, "all but those that work and wait are sent away", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return counts[http.StatusTooManyRequests] == all-working-waiting
	})
	until(t, "two work", func() bool { return inside.Load() == working })
	for path, want := range map[string]string{
		"/healthz": "ok", "/readyz": "ready", "/v1/banks": `{"got":0}`,
		"/metrics": fmt.Sprintf("membank_requests_shed_total %d", all-working-waiting),
	} {
		if a, text := s.ask(t, "GET", path, nil, ""); a.StatusCode != http.StatusOK || !strings.Contains(text, want) {
			t.Errorf("GET %s under load: %d %s", path, a.StatusCode, text)
		}
	}
	if ran.Load() != working {
		t.Errorf("%d began while %d may work", ran.Load(), working)
	}
	release()
	clients.Wait()
	if counts[http.StatusOK] != working+waiting || ran.Load() != working+waiting || peak.Load() != working {
		t.Errorf("answers %v, %d ran, %d at once; %d are let in, %d at once", counts, ran.Load(), peak.Load(), working+waiting, working)
	}
	if a, _ := s.ask(t, "POST", "/v1/banks/a/query", nil, ""); a.StatusCode != http.StatusOK {
		t.Errorf("after the rush: %d", a.StatusCode)
	}
}

// A lane gives back what it took: whoever waited too long or left holds no place.
func TestLane(t *testing.T) {
	l := newLane(1, 1, 5*time.Millisecond)
	leave, f := l.enter(t.Context())
	if f != nil {
		t.Fatal(f)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 3 {
		if _, f := l.enter(t.Context()); f == nil || f.Status != http.StatusServiceUnavailable || f.RetryAfter < 1 {
			t.Errorf("after waiting: %+v", f)
		}
		if _, f := l.enter(gone); f == nil || f.Status != http.StatusServiceUnavailable || f.Code != "cancelled" {
			t.Errorf("after leaving: %+v", f)
		}
	}
	l.wait = time.Hour
	entered := make(chan func())
	go func() {
		leave, _ := l.enter(t.Context())
		entered <- leave
	}()
	until(t, "one waits", func() bool { return l.queued.Load() == 1 })
	if _, f := l.enter(t.Context()); f == nil || f.Status != http.StatusTooManyRequests || f.RetryAfter < 1 {
		t.Errorf("with one who waits: %+v", f)
	}
	leave()
	(<-entered)()
	if leave, f = l.enter(t.Context()); f != nil || l.queued.Load() != 0 || len(l.slots) != 1 {
		t.Errorf("afterwards: %+v, %d wait, %d work", f, l.queued.Load(), len(l.slots))
	}
	leave()
}

// half sends the beginning of a request and returns the connection.
func (s *toy) half(t testing.TB, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

// Bodies that are read beforehand have 64 MiB together, weighed by what they promise
// before any of it comes: those beyond get 503, and what never comes is given back.
func TestPromisedBodiesAreBounded(t *testing.T) {
	const each = 1 << 20
	const room = bufferedBodies / each
	s := startToy(t, Options{Workers: 2}, echo, func(s *Server) { s.headers, s.pause = time.Minute, time.Minute })
	head := "POST /v1/banks/a/query HTTP/1.1\r\nHost: " + s.address + "\r\nContent-Type: application/x-npy\r\nContent-Length: " + fmt.Sprint(each) + "\r\n\r\nabc"
	var held []net.Conn
	for range room {
		held = append(held, s.half(t, head))
	}
	until(t, "they hold all there is", func() bool { return s.buffers.held.Load() == bufferedBodies })
	for range 8 {
		if answer, _ := http.ReadResponse(bufio.NewReader(s.half(t, head)), nil); answer == nil || answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") != "1" {
			t.Errorf("one more: %v", answer)
		}
	}
	if n := s.buffers.held.Load(); n != bufferedBodies {
		t.Errorf("%d bytes are held", n)
	}
	for _, c := range held {
		c.Close()
	}
	until(t, "it is given back", func() bool { return s.buffers.held.Load() == 0 })
	if a, text := s.ask(t, "POST", "/v1/banks/a/query", map[string]string{"Content-Type": "application/x-npy"}, strings.Repeat("x", each)); a.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %d %s", a.StatusCode, text)
	}
}

// Long bodies that come slowly fill their own lane: searches go on, and one upload
// more than can wait is sent away.
func TestSlowUploadsHoldNoSearch(t *testing.T) {
	s := startToy(t, Options{Workers: 2}, echo, func(s *Server) { s.headers, s.pause, s.uploads.wait = time.Minute, time.Minute, time.Minute })
	head := "POST /v1/banks/a/rows HTTP/1.1\r\nHost: " + s.address + "\r\nContent-Type: application/x-npy\r\nContent-Length: 1073741824\r\n\r\nabc"
	var held []net.Conn
	for range 8 { // four at work, four that wait
		held = append(held, s.half(t, head))
	}
	until(t, "the lane is full", func() bool { return len(s.uploads.slots) == 4 && s.uploads.queued.Load() == 4 })
	if answer, _ := http.ReadResponse(bufio.NewReader(s.half(t, head)), nil); answer == nil || answer.StatusCode != http.StatusTooManyRequests || answer.Header.Get("Retry-After") == "" {
		t.Errorf("one more upload: %v", answer)
	}
	if a, _ := s.ask(t, "POST", "/v1/banks/a/query", map[string]string{"Content-Type": "application/x-npy"}, "quick"); a.StatusCode != http.StatusOK {
		t.Errorf("a search beside them: %d", a.StatusCode)
	}
	for _, c := range held {
		c.Close()
	}
	until(t, "they are gone", func() bool { return len(s.uploads.slots) == 0 && s.uploads.queued.Load() == 0 })
}

// A client that asks for much and does not read is given up, and has held no worker
// meanwhile.
func TestAReaderThatStops(t *testing.T) {
	s := startToy(t, Options{Workers: 2}, func(_ context.Context, c *Call) error {
		if c.Flags["k"] == nil {
			return echo(context.Background(), c)
		}
		piece := strings.Repeat("y", 1<<20)
		for range 16 {
			if _, err := io.WriteString(c.Stdout, piece); err != nil {
				return err
			}
		}
		return nil
	}, func(s *Server) { s.headers, s.leave = time.Minute, 300*time.Millisecond })
	var held []net.Conn
	for range 6 {
		held = append(held, s.half(t, "POST /v1/banks/a/query?k=1 HTTP/1.1\r\nHost: "+s.address+"\r\n\r\n"))
	}
	for _, c := range held { // the answer has begun
		if line, err := bufio.NewReaderSize(c, 16).ReadString('\n'); err != nil || !strings.Contains(line, " 200 ") {
			t.Fatalf("%q, %v", line, err)
		}
	}
	if a, _ := s.ask(t, "POST", "/v1/banks/a/query", nil, ""); a.StatusCode != http.StatusOK {
		t.Errorf("beside them: %d", a.StatusCode)
	}
	until(t, "they are given up", func() bool { return s.active.Load() == 0 })
	for _, c := range held {
		if n, err := io.Copy(io.Discard, c); n >= 16<<20 || err != nil && errors.Is(err, io.EOF) {
			t.Errorf("%d bytes came, %v", n, err)
		}
	}
}
