package store

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// The header of a value log entry is what Badger slices by: damage there makes it
// panic with a lock held, which must end neither the process nor in a Close that
// waits for ever.
func TestDamagedEntryHeaders(t *testing.T) {
	dir, want := closedDatabase(t)
	logs, err := filepath.Glob(filepath.Join(dir, blocksName, "*.vlog"))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	damaged := copyTree(t, dir)
	path := filepath.Join(damaged, blocksName, filepath.Base(logs[0]))
	for at := logHeaderSize; at < logHeaderSize+8; at++ {
		for _, mask := range []byte{1, 0x80, 0xff} {
			if testing.Short() && mask != 0xff {
				continue
			}
			b := slices.Clone(whole)
			b[at] ^= mask
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
			outcome(t, damaged, want, Options{ReadOnly: true})
		}
	}
}
