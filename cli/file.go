package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// newFile is a file under way: it is written beside its target under another
// name, and takes the target's only when it is whole and on disk. So an
// interrupted command leaves an older file of that name as it was.
type newFile struct {
	*bufio.Writer
	f      *os.File
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
	return &newFile{Writer: bufio.NewWriterSize(f, 1<<20), f: f, target: target}, nil
}

// keep gives the file its name.
func (n *newFile) keep() error {
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
	if !n.done {
		n.done = true
		n.f.Close()
		os.Remove(n.f.Name())
	}
}
