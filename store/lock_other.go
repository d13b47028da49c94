//go:build !linux

package store

import "os"

// lockHolders knows only the writer that the LOCK file names, and takes it at its
// word: what a process holds cannot be asked here.
func lockHolders(blocks string) []Holder {
	pid, since := writtenPID(blocks)
	if pid == 0 {
		return nil
	}
	if _, err := os.FindProcess(pid); err != nil {
		return nil
	}
	return []Holder{{PID: pid, Since: since}}
}

// lockDirectory leaves locking to Badger here.
func lockDirectory(dir string, shared bool) (func(), error) {
	return func() {}, nil
}
