package peers

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// launch is how a peer's process is started for one index.
type launch struct {
	peer     string   // of PeerNames
	command  []string // program and arguments, before those that all drivers take
	env      []string // beyond this process's own
	index    string   // the driver's first argument
	exact    bool
	loops    bool        // the library takes one query at a time; its driver loops over a batch
	tunings  [][]setting // ways to ask, of which the fastest counts; nil: one
	settings []setting   // widths of search, each a contender of its own; nil: one
}

// setting is a request "set NAME VALUE".
type setting struct {
	name  string
	value int
}

func (s setting) String() string { return s.name + " " + strconv.Itoa(s.value) }

// child is a running peer. It belongs to one goroutine.
type child struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	errors  *tail
	answers string // the file for ids
	count   int    // queries
}

// greeting is the first line of a driver.
type greeting struct {
	Name    string  `json:"name"`
	Version string  `json:"version"`
	Level   string  `json:"level"`
	Index   string  `json:"index"`
	Build   float64 `json:"build_seconds"`
}

// start runs a driver and waits until its index is built. The process ends with ctx
// or close.
func start(ctx context.Context, l launch, t *task, threads int) (*child, greeting, error) {
	args := append(l.command[1:len(l.command):len(l.command)], l.index,
		t.gallery, strconv.FormatInt(t.rows, 10), strconv.Itoa(t.dim),
		t.queries, strconv.Itoa(t.count), strconv.Itoa(threads))
	c := &child{cmd: exec.CommandContext(ctx, l.command[0], args...), errors: &tail{}, count: t.count}
	c.answers = filepath.Join(filepath.Dir(t.gallery), "answers.i64")
	c.cmd.Env = append(os.Environ(), l.env...)
	for _, name := range []string{"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "GOMAXPROCS"} {
		c.cmd.Env = append(c.cmd.Env, name+"="+strconv.Itoa(threads))
	}
	c.cmd.Stderr = c.errors
	c.cmd.WaitDelay = time.Second
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, greeting{}, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, greeting{}, err
	}
	c.in, c.out = in, bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, greeting{}, err
	}
	var hello greeting
	if err := c.receive(ctx, &hello); err != nil {
		c.close()
		return nil, greeting{}, err
	}
	hello.Level = strings.TrimSpace(hello.Level)
	return c, hello, nil
}

// receive reads one line of JSON.
func (c *child) receive(ctx context.Context, v any) error {
	line, err := c.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, v)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, io.EOF):
		c.cmd.Wait() // until stderr is complete
		return fmt.Errorf("%s ended: %s", filepath.Base(c.cmd.Path), or(c.errors.last(), c.cmd.ProcessState.String()))
	}
	return fmt.Errorf("%s answered %q: %w", filepath.Base(c.cmd.Path), bytes.TrimSpace(line), err)
}

type answer struct {
	Seconds float64   `json:"seconds"`
	Calls   []float64 `json:"calls"`
}

func (c *child) ask(ctx context.Context, request string) (a answer, err error) {
	if _, err := io.WriteString(c.in, request+"\n"); err != nil && !errors.Is(err, os.ErrClosed) {
		// A process that has ended says why when its answer is read.
		if err := c.receive(ctx, &a); err != nil {
			return a, err
		}
	}
	return a, c.receive(ctx, &a)
}

func (c *child) batch(ctx context.Context, k, n int) ([]int64, float64, error) {
	a, err := c.ask(ctx, fmt.Sprintf("batch %d %d %s", k, n, c.answers))
	if err != nil {
		return nil, 0, err
	}
	data, err := os.ReadFile(c.answers)
	if err != nil {
		return nil, 0, err
	}
	if len(data) != 8*k*n {
		return nil, 0, fmt.Errorf("%s wrote %d bytes of ids for %d × %d", filepath.Base(c.cmd.Path), len(data), n, k)
	}
	ids := make([]int64, k*n)
	_, err = binary.Decode(data, binary.LittleEndian, ids)
	return ids, a.Seconds, err
}

func (c *child) single(ctx context.Context, k, n, first int) ([]float64, error) {
	a, err := c.ask(ctx, fmt.Sprintf("single %d %d %d", k, n, first%c.count))
	if err == nil && len(a.Calls) != n {
		err = fmt.Errorf("%s timed %d calls of %d", filepath.Base(c.cmd.Path), len(a.Calls), n)
	}
	return a.Calls, err
}

func (c *child) set(ctx context.Context, s setting) error {
	_, err := c.ask(ctx, "set "+s.String())
	return err
}

// close ends the process: drivers stop where their requests do, or are killed.
func (c *child) close() {
	c.in.Close()
	if c.cmd.ProcessState != nil {
		return
	}
	timer := time.AfterFunc(5*time.Second, func() { c.cmd.Process.Kill() })
	defer timer.Stop()
	c.cmd.Wait() // how it ended no longer matters
}

// tail keeps the end of what is written to it. It is safe for concurrent use.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if extra := len(t.text) - 4096; extra > 0 {
		t.text = append(t.text[:0], t.text[extra:]...)
	}
	return len(p), nil
}

// last is the last line that speaks of an error, or else the last line.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.text)), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.Contains(strings.ToLower(lines[i]), "error") {
			return strings.TrimSpace(lines[i])
		}
	}
	return strings.TrimSpace(lines[len(lines)-1])
}
