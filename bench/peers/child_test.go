package peers

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary be a peer, too: a brute force in one loop, or one
// that misbehaves.
func TestMain(m *testing.M) {
	if behaviour := os.Getenv("PEERS_TEST_DRIVER"); behaviour != "" {
		drive(behaviour, os.Args[1:])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func drive(behaviour string, args []string) {
	number := func(s string) int { n, _ := strconv.Atoi(s); return n }
	rows, dim, count := number(args[2]), number(args[3]), number(args[5])
	switch behaviour {
	case "mute":
		fmt.Fprintln(os.Stderr, "Error: no kernel for this machine\nbye")
		os.Exit(7)
	case "babbling":
		fmt.Println("Welcome!")
	case "asleep":
		time.Sleep(time.Hour)
	}
	gallery, err := readAll(args[1], rows, dim)
	if err != nil {
		panic(err)
	}
	queries, err := readAll(args[4], count, dim)
	if err != nil {
		panic(err)
	}
	width, startup := 0, 0
	search := func(q, k int) []int64 {
		type hit struct {
			row   int64
			score float64
		}
		hits := make([]hit, rows)
		for i := range hits {
			hits[i].row = int64(i)
			for j, v := range gallery.Row(i) {
				hits[i].score += float64(v) * float64(queries.Row(q)[j])
			}
		}
		slices.SortFunc(hits, func(a, b hit) int { return cmp.Compare(b.score, a.score) })
		ids := make([]int64, k)
		for i := range ids {
			ids[i] = hits[i].row
			if width > 0 && i >= width { // a narrow search misses the rest
				ids[i] = -1
			}
		}
		return ids
	}
	fmt.Printf(`{"name":"stub","version":"1","level":" none ","index":"%s","build_seconds":0.5}`+"\n", args[0])
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		words := strings.Fields(lines.Text())
		switch words[0] {
		case "batch":
			k, n := number(words[1]), number(words[2])
			if behaviour == "mortal" && n > 8 {
				fmt.Fprintln(os.Stderr, "fatal error: out of memory")
				os.Exit(1)
			}
			var ids []int64
			for q := range n {
				ids = append(ids, search(q, k)...)
			}
			f, err := os.Create(words[3])
			if err != nil {
				panic(err)
			}
			binary.Write(f, binary.LittleEndian, ids)
			f.Close()
			seconds := float64(n) / 1000
			if behaviour == "steep" { // 10 ms a query, or 0.1 s for any batch
				seconds *= 10
				if startup > 0 {
					seconds = 0.1
				}
			}
			fmt.Printf("{\"seconds\":%g}\n", seconds)
		case "single":
			calls := slices.Repeat([]string{"0.002"}, number(words[2]))
			fmt.Printf("{\"calls\":[%s]}\n", strings.Join(calls, ","))
		case "set":
			if words[1] == "width" {
				width = number(words[2])
			}
			if words[1] == "startup" {
				startup = number(words[2])
			}
			fmt.Println(`{"seconds":0}`)
		}
	}
}

// stub launches this binary as a peer.
func stub(behaviour string, settings ...setting) launch {
	return launch{peer: "stub", command: []string{os.Args[0]}, env: []string{"PEERS_TEST_DRIVER=" + behaviour},
		index: behaviour, exact: true, settings: settings}
}

// meet compares membank with stubs on a small set.
func meet(t *testing.T, o Options, launches ...launch) (*SetReport, *Report) {
	t.Helper()
	var report Report
	s, err := compare(context.Background(), o.Dir, "ssl", o.withDefaults(), launches, &report)
	if err != nil {
		t.Fatal(err)
	}
	return s, &report
}

func TestPeerTakesTurns(t *testing.T) {
	o := small(t)
	s, report := meet(t, o, stub("honest"), stub("narrow", setting{"width", 2}, setting{"width", 5}))
	if len(report.Missing) > 0 {
		t.Fatal(report.Missing)
	}
	if len(s.Indexes) != 4 || s.Indexes[2] != (Index{"stub", "1", "none", "honest", true, 0.5}) {
		t.Errorf("indexes %+v", s.Indexes)
	}
	recalls := map[string]float64{"honest": 1, "narrow width 2": 0.4, "narrow width 5": 1}
	found := 0
	for _, r := range s.Results {
		if r.Ours {
			continue
		}
		found++
		if r.Mode == Single {
			if r.MeanMS != 2 || r.MedianMS != 2 || r.Best != 500 {
				t.Errorf("single calls of 2 ms: %+v", r)
			}
			continue
		}
		want := recalls[strings.TrimSpace(r.Index+" "+r.Settings)]
		if *r.Recall != want || r.RecallQueries != o.Truth {
			t.Errorf("%s %s: recall %v over %d queries, want %v", r.Index, r.Settings, *r.Recall, r.RecallQueries, want)
		}
		if r.Best != 1000 || r.Median != 1000 || r.Rounds != o.Rounds {
			t.Errorf("1 ms a query: %+v", r)
		}
	}
	if found != 6 {
		t.Errorf("%d results of peers", found)
	}
}

// A query of the stub takes a millisecond, by its own account, so the batch of 40
// takes 40. With 20 ms a turn and 3 rounds, a peer that takes batches is asked the
// whole batch once, and one that loops over queries 20 queries each time.
func TestSlowPeers(t *testing.T) {
	o := small(t)
	o.Budget, o.Singles, o.Rounds = 20*time.Millisecond, -1, 3
	looping := stub("looping")
	looping.loops = true
	s, _ := meet(t, o, stub("honest"), looping)
	want := map[string][2]int{"exact, fp32": {3, 40}, "exact, codes": {3, 40}, "honest": {1, 40}, "looping": {3, 20}}
	for _, r := range s.Results {
		if got := [2]int{r.Rounds, r.Queries}; got != want[r.Index] {
			t.Errorf("%s had %d turns of %d queries, want %v", r.Index, r.Rounds, r.Queries, want[r.Index])
		}
		delete(want, r.Index)
	}
	if len(want) > 0 {
		t.Errorf("no results of %v", want)
	}
}

// The rate of a peer need not grow with the batch in a straight line: it is asked the
// batch that counts, with every tuning, and the fastest is reported.
func TestWholeBatchDecidesTheTuning(t *testing.T) {
	o := small(t)
	o.Budget, o.Singles = time.Millisecond, -1
	l := stub("steep")
	l.tunings = [][]setting{{{"startup", 0}}, {{"startup", 1}}}
	s, _ := meet(t, o, l)
	for _, r := range s.Results {
		if !r.Ours && (r.Settings != "startup 1" || r.Queries != o.Queries || r.Best < 350 || r.Best > 450) {
			t.Errorf("%+v", r)
		}
	}
}

func TestFailingPeersAreNamed(t *testing.T) {
	s, report := meet(t, small(t), stub("mute"), stub("babbling"), stub("mortal"), stub("honest"))
	want := map[string]string{
		"stub mute on set ssl":     "Error: no kernel for this machine",
		"stub babbling on set ssl": `answered "Welcome!"`,
		"stub mortal on set ssl":   "out of memory",
	}
	for _, m := range report.Missing {
		if text, ok := want[m.Name]; !ok || !strings.Contains(m.Reason, text) {
			t.Errorf("%+v", m)
		}
		delete(want, m.Name)
	}
	if len(want) > 0 {
		t.Errorf("not named: %v", want)
	}
	for _, r := range s.Results {
		if !r.Ours && r.Index != "honest" {
			t.Errorf("%+v", r)
		}
	}
}

// A child that never answers ends with the context.
func TestCancelEndsChildren(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	o := small(t)
	task, err := newTask(ctx, o.Dir, "ssl", o)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := start(ctx, stub("asleep"), task, 1); err != context.DeadlineExceeded {
		t.Errorf("err %v", err)
	}
}
