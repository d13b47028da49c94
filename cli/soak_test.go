package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"membank/simd"
	"membank/store/dump"
)

var (
	kills = flag.Int("kills", 4, "how often TestKillTheServer kills its server")
	soak  = flag.Duration("soak", 2*time.Second, "how long TestSoak runs, 10m for real")
)

// startChild starts a server in a process of its own, which can be killed.
func startChild(t *testing.T, dir string) (*exec.Cmd, string) {
	t.Helper()
	c := child("membank", "serve", "--json", "--quiet", "--db", dir, "--listen", "127.0.0.1:0")
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var l listening
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if json.Unmarshal(lines.Bytes(), &l) == nil && l.URL != "" {
			go io.Copy(io.Discard, out)
			return c, l.URL
		}
	}
	c.Wait()
	t.Fatalf("the server did not start: %s", errs.String())
	return nil, ""
}

// trainer is a client that writes one batch a step: slots by id, and a queue.
type trainer struct {
	client *http.Client
	url    string
}

func (c *trainer) post(path string, body []byte) ([]byte, error) {
	r, err := http.NewRequest("POST", c.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/x-npz")
	}
	a, err := c.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err == nil && a.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", a.StatusCode, text)
	}
	return text, err
}

// arrays reads the arrays of an answer: integers, and rows of floats.
func (c *trainer) arrays(path string, body []byte) (map[string][]int64, map[string]simd.Matrix, error) {
	text, err := c.post(path, body)
	if err != nil {
		return nil, nil, err
	}
	s, err := dump.NewStream("answer", bytes.NewReader(text), dump.StreamOptions{})
	if err != nil {
		return nil, nil, err
	}
	ints, rows := map[string][]int64{}, map[string]simd.Matrix{}
	for {
		x, err := s.Next()
		if err == io.EOF {
			return ints, rows, nil
		}
		if err != nil {
			return nil, nil, err
		}
		if x.Kind() == 'i' {
			ints[x.Member()], err = x.AllInts(dump.NoLabel)
		} else {
			a := &bodyArray{}
			err = a.readMatrix(context.Background(), x)
			rows[x.Member()] = a.matrix
		}
		if err != nil {
			return nil, nil, err
		}
	}
}

const (
	slotRows, slotDim, slotBatch = 64, 4, 6
	queueRows                    = 20
)

// batchOf is what step writes: a function of the step, so that the state after any
// number of steps can be computed.
func batchOf(step int64) (ids []int64, rows []float32) {
	r := rand.New(rand.NewPCG(uint64(step), 11))
	for range slotBatch {
		ids = append(ids, r.Int64N(slotRows))
		for range slotDim {
			rows = append(rows, float32(r.NormFloat64()))
		}
	}
	return ids, rows
}

// kill -9 of the server in the midst of updates: what comes up again is the
// state after all steps that were acknowledged, or one more, whole; slots and queue
// each, values and versions.
func TestKillTheServer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "db")
	child, url := startChild(t, dir)
	c := &trainer{client: &http.Client{Transport: &http.Transport{}}, url: url}
	defer func() { child.Process.Kill(); child.Wait(); c.client.CloseIdleConnections() }()
	for _, path := range []string{
		fmt.Sprintf("/v1/memory/slots?rows=%d&dim=%d&init=zeros", slotRows, slotDim),
		fmt.Sprintf("/v1/memory/queue?kind=queue&rows=%d&dim=%d&init=zeros", queueRows, slotDim),
	} {
		if _, err := c.post(path, nil); err != nil {
			t.Fatal(err)
		}
	}
	var slotsAcked, queueAcked int64
	for kill := range *kills {
		delay := time.Duration(rand.IntN(60)+1) * time.Millisecond
		time.AfterFunc(delay, func() { child.Process.Kill() })
		for step := max(slotsAcked, queueAcked) + 1; ; step++ {
			ids, rows := batchOf(step)
			if step > slotsAcked {
				if _, err := c.post(fmt.Sprintf("/v1/memory/slots/update?renorm=none&durability=log&step=%d", step), namedOf(t, ids, rows, slotDim)); err != nil {
					break
				}
				slotsAcked = step
			}
			if step > queueAcked {
				if _, err := c.post(fmt.Sprintf("/v1/memory/queue/push?durability=log&step=%d", step), npzOfBatch(t, rows)); err != nil {
					break
				}
				queueAcked = step
			}
		}
		child.Wait()
		c.client.CloseIdleConnections()
		child, c.url = startChild(t, dir)
		slotsAcked = c.checkSlots(t, kill, slotsAcked)
		queueAcked = c.checkQueue(t, kill, queueAcked)
		if t.Failed() {
			return
		}
		// The one that is behind catches up, so that both are at one step again.
		for queueAcked < slotsAcked {
			queueAcked++
			_, rows := batchOf(queueAcked)
			if _, err := c.post(fmt.Sprintf("/v1/memory/queue/push?durability=log&step=%d", queueAcked), npzOfBatch(t, rows)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if slotsAcked < int64(*kills) {
		t.Errorf("only %d steps between %d kills", slotsAcked, *kills)
	}
	t.Logf("%d kills, %d steps", *kills, slotsAcked)
}

func npzOfBatch(t testing.TB, rows []float32) []byte {
	t.Helper()
	var b bytes.Buffer
	z := dump.NewNPZWriter(&b)
	if err := z.Write("vectors", rows, slotBatch, slotDim); err != nil {
		t.Fatal(err)
	}
	z.Close()
	return b.Bytes()
}

// checkSlots compares the slots with the steps replayed, and returns their step.
func (c *trainer) checkSlots(t *testing.T, kill int, acked int64) int64 {
	t.Helper()
	ints, rows, err := c.arrays("/v1/memory/slots/get?output=x.npz", nil)
	if err != nil {
		t.Fatal(err)
	}
	at := slices.Max(ints["step"])
	at = max(at, 0)
	if at != acked && at != acked+1 {
		t.Errorf("kill %d: slots are at step %d, acknowledged was %d", kill, at, acked)
	}
	want, version := make([]float32, slotRows*slotDim), slices.Repeat([]int64{-1}, slotRows)
	for step := int64(1); step <= at; step++ {
		ids, batch := batchOf(step)
		for i, id := range ids {
			copy(want[id*slotDim:], batch[i*slotDim:(i+1)*slotDim])
			version[id] = step
		}
	}
	if !slices.Equal(rows["rows"].Data, want) || !slices.Equal(ints["step"], version) {
		t.Errorf("kill %d: slots are not those after step %d", kill, at)
	}
	return at
}

func (c *trainer) checkQueue(t *testing.T, kill int, acked int64) int64 {
	t.Helper()
	ints, rows, err := c.arrays("/v1/memory/queue/get?scope=all&output=x.npz", nil)
	if err != nil {
		t.Fatal(err)
	}
	at := max(slices.Max(ints["step"]), 0)
	if at != acked && at != acked+1 {
		t.Errorf("kill %d: the queue is at step %d, acknowledged was %d", kill, at, acked)
	}
	want, cursor := make([]float32, queueRows*slotDim), 0
	for step := int64(1); step <= at; step++ {
		_, batch := batchOf(step)
		for i := range slotBatch {
			copy(want[cursor*slotDim:], batch[i*slotDim:(i+1)*slotDim])
			cursor = (cursor + 1) % queueRows
		}
	}
	if !slices.Equal(rows["rows"].Data, want) {
		t.Errorf("kill %d: the queue is not that after step %d", kill, at)
	}
	return at
}

// Eight ranks update one bank: each has slots of its own, and all write some in
// common. No update is lost, no row is torn, versions never go back. -soak 10m with
// -race is the long form.
func TestSoak(t *testing.T) {
	const ranks, own, common, dim = 8, 16, 16, 32
	s := startServer(t, database(t), "--quiet")
	must(t, "bank", "init", "m", "--rows", fmt.Sprint(ranks*own+common), "--dim", fmt.Sprint(dim), "--init", "zeros", "--db", s.url)
	var steps, updates atomic.Int64
	end := time.Now().Add(*soak)
	var all sync.WaitGroup
	for rank := range ranks {
		all.Go(func() {
			c := &trainer{client: &http.Client{Transport: &http.Transport{}}, url: s.url}
			defer c.client.CloseIdleConnections()
			seen := slices.Repeat([]int64{-1}, ranks*own+common)
			every := make([]int64, len(seen))
			for i := range every {
				every[i] = int64(i)
			}
			for n := 1; time.Now().Before(end); n++ {
				ids, rows := []int64{}, []float32{}
				for i := range own + common {
					id := int64(rank*own + i)
					if i >= own {
						id = int64(ranks*own + i - own)
					}
					ids = append(ids, id)
					rows = append(rows, slices.Repeat([]float32{float32(rank*1_000_000 + n)}, dim)...)
				}
				step := steps.Add(1)
				body := namedOf(t, ids, rows, dim)
				if _, err := c.post(fmt.Sprintf("/v1/memory/m/update?renorm=none&durability=%s&step=%d", []string{"memory", "log"}[n%2], step), body); err != nil {
					t.Error(err)
					return
				}
				updates.Add(1)
				ints, got, err := c.arrays("/v1/memory/m/get?output=x.npz", nil)
				if err != nil {
					t.Error(err)
					return
				}
				for i := range every {
					row := got["rows"].Row(i)
					for _, x := range row {
						if x != row[0] {
							t.Errorf("rank %d: row %d is torn: %v", rank, i, row)
							return
						}
					}
					if v := ints["step"][i]; v < seen[i] {
						t.Errorf("rank %d: the version of row %d went from %d to %d", rank, i, seen[i], v)
						return
					}
					seen[i] = ints["step"][i]
					if mine := i/own == rank && i < ranks*own; mine && row[0] != float32(rank*1_000_000+n) {
						t.Errorf("rank %d: update %d of row %d is lost: %v", rank, n, i, row[0])
						return
					}
				}
			}
		})
	}
	all.Wait()
	var shown shownBank
	if err := json.Unmarshal([]byte(must(t, "bank", "show", "m", "--json", "--db", s.url)), &shown); err != nil {
		t.Fatal(err)
	}
	if shown.Updates != updates.Load() || updates.Load() < ranks {
		t.Errorf("the bank counts %d updates, %d were acknowledged", shown.Updates, updates.Load())
	}
	t.Logf("%d updates by %d ranks in %v", updates.Load(), ranks, *soak)
}
