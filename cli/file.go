package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// newFile is a file under way: it is written beside its target under another
// name, and takes the target's only when it is whole and on disk. So an
// interrupted command leaves an older file of that name as it was.
type newFile struct {
	*bufio.Writer
	f      *os.File // nil: the answer to a request
	out    *tally
	target string
	done   bool
}

func createFile(target string) (*newFile, error) {
	if info, err := os.Stat(target); err == nil && info.IsDir() {
		return nil, usage("-o %s: is a directory (name a file)", target)
	}
	f, err := os.CreateTemp(filepath.Dir(target), ".membank-*")
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, notFound("-o %s: there is no directory %s (make it first)", target, filepath.Dir(target))
		}
		return nil, fmt.Errorf("-o %s: %w", target, err)
	}
	out := &tally{w: f}
	return &newFile{Writer: bufio.NewWriterSize(out, 1<<20), f: f, out: out, target: target}, nil
}

// tally counts what passes.
type tally struct {
	w io.Writer
	n int64
}

func (t *tally) Write(p []byte) (int, error) {
	n, err := t.w.Write(p)
	t.n += int64(n)
	return n, err
}

// size is the bytes of a file that was kept.
func (n *newFile) size() int64 { return n.out.n }

// keep gives the file its name.
func (n *newFile) keep() error {
	if n.f == nil {
		n.done = true
		return n.Flush()
	}
	err := n.Flush()
	if err == nil {
		err = n.f.Chmod(0o644)
	}
	if err == nil {
		err = n.f.Sync()
	}
	if e := n.f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(n.f.Name(), n.target)
	}
	n.done = true
	if err != nil {
		os.Remove(n.f.Name())
		return fmt.Errorf("-o %s: %w", n.target, err)
	}
	return nil
}

// discard removes what was written, unless it was kept.
func (n *newFile) discard() {
	if n.f == nil {
		return
	}
	if !n.done {
		n.done = true
		n.f.Close()
		os.Remove(n.f.Name())
	}
}
