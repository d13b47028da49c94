package soak_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"membank/cli"
	"membank/cli/soak"
)

var (
	long  = flag.Duration("soak", 1500*time.Millisecond, "how long TestSoak runs, 10m for real")
	kills = flag.Int("kills", 4, "how often TestKills kills its server")
)

// asServer makes the test binary the program that soak starts: "well", or one whose
// stderr is that of the race detector.
const asServer = "MEMBANK_SOAK_TEST_SERVER"

func TestMain(m *testing.M) {
	switch os.Getenv(asServer) {
	case "racing":
		fmt.Fprintln(os.Stderr, "WARNING: DATA RACE")
		fallthrough
	case "well":
		os.Exit(cli.Main())
	}
	os.Setenv(asServer, "well") // for the processes that tests start
	os.Exit(m.Run())
}

func mustRun(t *testing.T, o soak.Options) soak.Report {
	t.Helper()
	var log bytes.Buffer
	o.Dir, o.Log = t.TempDir(), &log
	report, err := soak.Run(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	left, err := os.ReadDir(o.Dir)
	if err != nil || (report.Kept != "") != (len(report.Faults) > 0) || len(left) != min(1, len(report.Faults)) {
		t.Errorf("faults %v: kept %q, left %v, %v", report.Faults, report.Kept, left, err)
	}
	return report
}

// Eight ranks on one bank. -soak 10m is the long form; with -race the server is
// watched as well, since it is this binary.
func TestSoak(t *testing.T) {
	r := mustRun(t, soak.Options{Duration: *long})
	if len(r.Faults) > 0 || r.Updates < 16 || r.Pushes != r.Updates || r.Reads < 2*r.Updates || r.Rows < 100*r.Updates {
		t.Errorf("%+v", r)
	}
	t.Logf("%+v", r)
}

// More clients than the server lets in: some are refused and ask again, and nothing
// that was let in is lost.
func TestSoakOfACrowd(t *testing.T) {
	r := mustRun(t, soak.Options{Duration: *long, Clients: 160})
	if len(r.Faults) > 0 || r.Refused == 0 || r.Updates == 0 {
		t.Errorf("%+v", r)
	}
	t.Logf("%+v", r)
}

// kill -9 at work and while the server starts.
func TestKills(t *testing.T) {
	r := mustRun(t, soak.Options{Kills: *kills})
	if len(r.Faults) > 0 || r.Kills.Total < *kills || r.Kills.InFlight == 0 || r.Reads < int64(16**kills) || r.Updates < int64(*kills) {
		t.Errorf("%+v", r)
	}
	t.Logf("%+v", r)
}

// A soak that finds nothing may be blind. It sees what a server does wrong: each of
// these stands between client and server and makes one of the answers a lie, or one
// of the updates another than was asked for.
func TestLiesAreFound(t *testing.T) {
	for name, c := range map[string]struct {
		lie    lie
		kills  bool
		saying string
	}{
		"an update that is forgotten":    {lie{path: "slots/update", forgotten: true}, false, "lost"},
		"an update that changes nothing": {lie{path: "slots/update", request: func(r *http.Request) { replace(r, "keep-old=0&", "keep-old=1&") }}, false, "slot"},
		"an update done twice":           {lie{path: "slots/update", twice: true}, false, "done twice|lost"},
		"a torn row":                     {lie{path: "slots/update", vectors: func(v []float32) { v[len(v)-1]++ }}, false, "is torn"},
		"an update of another step":      {lie{path: "slots/update", request: func(r *http.Request) { replace(r, "&step=", "&step=1000") }}, false, "version 1000|says that it wrote"},
		"an old answer":                  {lie{path: "slots/get", stale: true}, false, "acknowledged"},
		"a push done twice":              {lie{path: "queue/push", twice: true}, false, "follows its push"},
		"another's labels":               {lie{path: "queue/push", ints: func(x map[string][]int64) { x["labels"][3] = 7 }}, false, "label"},
		"an old queue":                   {lie{path: "queue/get", stale: true}, false, "was lost"},
		"an error":                       {lie{path: "slots/get", request: func(r *http.Request) { r.URL.RawQuery += "&no=such" }}, false, "400"},
		"a log that is none":             {lie{path: "/update", every: true, request: inMemory}, true, "as durable"},
		"a queue's log that is none":     {lie{path: "/push", every: true, request: inMemory}, true, "as durable"},
		"a mixed step done twice":        {lie{path: "slots-0/update?renorm=none&keep-old=0.5", every: true, twice: true}, true, "row"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := soak.Options{Seed: 5, Clients: 4, Duration: 20 * time.Second}
			if c.kills {
				o.Duration, o.Kills = 0, 20
			}
			told := new(atomic.Int64)
			r := mustRun(t, o.Lying(func(next http.RoundTripper) http.RoundTripper {
				return &liar{lie: c.lie, next: next, told: told}
			}))
			if len(r.Faults) == 0 || !regexp.MustCompile(c.saying).MatchString(fmt.Sprint(r.Faults)) {
				t.Errorf("%d lies, found %+v; want one that says %q", told.Load(), r.Faults, c.saying)
			}
		})
	}
}

// lie is what a liar does to requests whose path and query contain path: to one of
// them after some that it leaves alone, or to every one.
type lie struct {
	path      string
	every     bool
	twice     bool // it is sent twice
	stale     bool // it gets the answer of the one before
	forgotten bool // an update is answered as if it had been done
	request   func(r *http.Request)
	vectors   func([]float32)
	ints      func(map[string][]int64)
}

type liar struct {
	lie
	next http.RoundTripper
	told *atomic.Int64
	seen int
	kept []byte
}

const patience = 12 // requests of a client before the lie

func (l *liar) RoundTrip(r *http.Request) (*http.Response, error) {
	path, _ := strings.CutPrefix(strings.ReplaceAll(r.URL.RequestURI(), "%2F", "/"), "/v1/memory/soak/")
	if !strings.Contains("/"+path, l.path) {
		return l.next.RoundTrip(r)
	}
	l.seen++
	now := l.every || l.seen == patience
	if now {
		l.told.Add(1)
	}
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	again := func() (*http.Response, error) {
		if r.Body, r.ContentLength = http.NoBody, int64(len(body)); len(body) > 0 {
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		return l.next.RoundTrip(r)
	}
	if now && l.request != nil {
		l.request(r)
	}
	if now && (l.vectors != nil || l.ints != nil) {
		body = l.rewritten(body)
	}
	if now && l.forgotten {
		return l.forget(r, body)
	}
	if now && l.twice {
		first, err := again()
		if err != nil {
			return nil, err
		}
		io.Copy(io.Discard, first.Body)
		first.Body.Close()
	}
	a, err := again()
	if err != nil || !l.stale {
		return a, err
	}
	text, err := io.ReadAll(a.Body)
	a.Body.Close()
	fresh := text
	if now && l.kept != nil {
		text = l.kept
	}
	if l.seen == patience/2 { // old enough that it cannot be right any more
		l.kept = fresh
	}
	a.Body = io.NopCloser(bytes.NewReader(text))
	return a, err
}

// forget answers an update with what the bank holds, and does not do it.
func (l *liar) forget(r *http.Request, body []byte) (*http.Response, error) {
	ints, _, _, err := soak.ReadArrays(body)
	if err != nil {
		return nil, err
	}
	asked, err := soak.Archive(1, "ids", ints["gather"])
	if err != nil {
		return nil, err
	}
	step := r.URL.Query().Get("step")
	get, err := http.NewRequestWithContext(r.Context(), "POST", strings.Replace(r.URL.String(), "/update?"+r.URL.RawQuery, "/get?output=rows.npz", 1), bytes.NewReader(asked))
	if err != nil {
		return nil, err
	}
	get.Header = r.Header
	a, err := l.next.RoundTrip(get)
	if err == nil {
		a.Header.Set("Membank-Summary", fmt.Sprintf(`{"rows":%d,"step":%s}`, len(ints["ids"]), step))
	}
	return a, err
}

// rewritten is a body with other arrays.
func (l *liar) rewritten(body []byte) []byte {
	ints, vectors, dim, err := soak.ReadArrays(body)
	if err != nil {
		panic(err)
	}
	if l.vectors != nil {
		l.vectors(vectors)
	}
	if l.ints != nil {
		l.ints(ints)
	}
	var pairs []any
	for _, name := range []string{"ids", "gather", "labels"} {
		if ints[name] != nil {
			pairs = append(pairs, name, ints[name])
		}
	}
	if body, err = soak.Archive(dim, append(pairs, "vectors", vectors)...); err != nil {
		panic(err)
	}
	return body
}

// inMemory asks for less than the client wants to be told it has.
func inMemory(r *http.Request) {
	replace(r, "durability=sync", "durability=memory")
	replace(r, "durability=log", "durability=memory")
}

func replace(r *http.Request, old, by string) {
	r.URL.RawQuery = strings.Replace(r.URL.RawQuery, old, by, 1)
}

// What the race detector says of the server is a fault, of a soak with kills, too.
func TestARaceOfTheServerIsFound(t *testing.T) {
	t.Setenv(asServer, "racing")
	for _, o := range []soak.Options{{Duration: time.Millisecond, Clients: 1}, {Kills: 1, Clients: 1}} {
		if r := mustRun(t, o); len(r.Faults) == 0 || !strings.Contains(r.Faults[0].Message, "DATA RACE") {
			t.Errorf("%+v", r)
		}
	}
}

// A soak that is interrupted says so, finds no fault in it, and stops its server.
func TestInterrupted(t *testing.T) {
	for _, o := range []soak.Options{{Duration: time.Hour}, {Kills: 1e6}} {
		ctx, cancel := context.WithCancel(t.Context())
		o.Dir = t.TempDir()
		time.AfterFunc(600*time.Millisecond, cancel)
		r, err := soak.Run(ctx, o)
		if !errors.Is(err, context.Canceled) || len(r.Faults) > 0 {
			t.Errorf("%v, %+v", err, r)
		}
		if left, _ := os.ReadDir(o.Dir); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// The command: JSON of counts, and what is asked wrongly.
func TestTheCommand(t *testing.T) {
	var out, errs bytes.Buffer
	dir := t.TempDir()
	run := func(args ...string) int {
		out.Reset()
		errs.Reset()
		return cli.Run(t.Context(), append([]string{"membank", "bench", "soak", "--dir", dir}, args...), nil, &out, &errs)
	}
	if code := run("--duration", "200ms", "--kills", "1", "--clients", "2", "--seed", "9", "--json"); code != 0 {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	var r soak.Report
	d := json.NewDecoder(&out)
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil || r.Seed != 9 || r.Clients != 2 || r.Kills.Total < 1 || r.Updates == 0 || r.Faults == nil {
		t.Errorf("%v %+v", err, r)
	}
	if code := run("--duration", "50ms", "--clients", "1", "--quiet"); code != 0 || errs.Len() > 0 || !strings.Contains(out.String(), "compared element by element") {
		t.Errorf("exit %d: %s%s", code, out.String(), errs.String())
	}
	for _, args := range [][]string{{"--duration", "soon"}, {"--duration", "-1s"}, {"--duration", "0s"}, {"--kills", "few"}, {"--kills", "-1"}, {"--clients", "0"}, {"--clients", "5000"}, {"--seed", "x"}, {"more"}} {
		if code := run(args...); code != 2 || !strings.HasPrefix(errs.String(), "membank: ") {
			t.Errorf("%v: exit %d, %s", args, code, errs.String())
		}
	}
	t.Setenv(asServer, "racing")
	if code := run("--duration", "1ms", "--clients", "1"); code != 5 || !strings.Contains(errs.String(), "soak: 1 fault (") || !strings.Contains(out.String(), "DATA RACE") {
		t.Errorf("with a fault: exit %d: %s%s", code, out.String(), errs.String())
	}
}
