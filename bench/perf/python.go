package perf

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

//go:embed memory.py
var numpyBaseline string

//go:embed overhttp.py
var overHTTP string

// A MemoryServer is a server in a process of its own, of which Memory makes a client.
type MemoryServer struct {
	URL  string
	PID  int
	Stop func() error
}

// findPython is an interpreter that has NumPy; "": there is none.
func findPython(ctx context.Context, wanted string) string {
	candidates := []string{wanted}
	if wanted == "" {
		candidates = []string{"python3", "/usr/bin/python3"}
	}
	for _, python := range candidates {
		if python != "-" && exec.CommandContext(ctx, python, "-c", "import numpy").Run() == nil {
			return python
		}
	}
	return ""
}

// pythonProcess does steps on request: it reads how many, and answers with their
// times by kind in milliseconds.
type pythonProcess struct {
	name    string // of its figures and in errors
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	says    bytes.Buffer // stderr
}

// startPython starts a script. Without an interpreter it is nil, which does nothing.
func startPython(ctx context.Context, name, python, script string, args ...any) (*pythonProcess, error) {
	if python == "" {
		return nil, nil
	}
	p := &pythonProcess{name: name, command: exec.CommandContext(ctx, python, "-c", script)}
	for _, a := range args {
		p.command.Args = append(p.command.Args, fmt.Sprint(a))
	}
	p.command.Stderr = &p.says
	var err error
	if p.in, err = p.command.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	return p, p.steps(0, nil) // when it answers its arrays are made
}

// startNumPy starts the baseline.
func (o *MemoryOptions) startNumPy(ctx context.Context, python string) (*pythonProcess, error) {
	return startPython(ctx, "numpy", python, numpyBaseline, o.Rows, o.Dim, o.Batch, o.Negatives, o.Queue)
}

// startHTTP starts a server on a database in dir and a script that is its client.
func (o *MemoryOptions) startHTTP(ctx context.Context, python, dir string) (p *pythonProcess, stop func() error, err error) {
	if python == "" || o.Serve == nil {
		return nil, func() error { return nil }, nil
	}
	if err := os.WriteFile(filepath.Join(dir, "membank.py"), []byte(o.Client), 0o600); err != nil {
		return nil, nil, err
	}
	server, err := o.Serve(ctx, filepath.Join(dir, "served"))
	if err != nil {
		return nil, nil, err
	}
	if p, err = startPython(ctx, "http", python, overHTTP, dir, server.URL, server.PID, o.Durability, o.Rows, o.Dim, o.Batch, o.Negatives, o.Queue); err != nil {
		return nil, nil, errors.Join(err, server.Stop())
	}
	return p, server.Stop, nil
}

// steps adds the times of n steps of each kind to those of "NAME KIND".
func (p *pythonProcess) steps(n int, times map[string][]float64) error {
	if p == nil {
		return nil
	}
	_, err := fmt.Fprintln(p.in, n)
	var line []byte
	if err == nil {
		line, err = p.out.ReadBytes('\n')
	}
	got := map[string][]float64{}
	if err == nil {
		err = json.Unmarshal(line, &got)
	}
	if err != nil {
		p.stop() // which ends what it says
		return fmt.Errorf("python, %s: %w: %s", p.name, err, strings.TrimSpace(p.says.String()))
	}
	for kind, list := range got {
		if len(list) == 0 {
			continue
		}
		key := p.name + " " + kind
		times[key] = slices.Concat(times[key], list)
	}
	return nil
}

func (p *pythonProcess) stop() {
	if p == nil || p.command.ProcessState != nil {
		return
	}
	p.in.Close()
	if err := p.command.Wait(); err != nil {
		p.command.Process.Kill()
	}
}
