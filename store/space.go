package store

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// A full disk kills a process that has Badger open: Badger writes through sparse
// memory maps, and a page that the disk has no room for is a SIGBUS in Badger's
// own goroutine. Nor can the database be opened again while the disk is full. So
// room is asked for before Badger sees a write, a reserve is never touched (it
// covers what Badger does on its own: flushing memtables, compaction), and a
// small file of real bytes stands by to be deleted when another program has
// filled the disk to the last page.

// spaceReserve is how many free bytes must remain after a write: four memtables
// of 16 MiB, and never under 64 MiB. Tests lower it.
var spaceReserve int64 = max(64<<20, 4*memtableBytes)

// memtableBytes is the size of Badger's memtable, after which it is flushed.
const memtableBytes = 16 << 20

const ballastName = "ballast"

// freeSpace returns the bytes that this user may still write on the file system
// of dir; tests replace it.
var freeSpace = freeBytes

// checkSpace returns ErrNoSpace unless need bytes can be written in dir with the
// reserve left over.
func checkSpace(dir string, need int64) error {
	free, err := freeSpace(dir)
	if err != nil {
		return fmt.Errorf("free space of %s: %w", dir, err)
	}
	if need < 0 || free-spaceReserve < need {
		return fmt.Errorf("%s: %w: %s free, %s needed and %s kept in reserve (free some room, or use a --db on another disk)",
			dir, ErrNoSpace, sizeText(free), sizeText(need), sizeText(spaceReserve))
	}
	return nil
}

// checkOpenSpace returns ErrNoSpace when the disk is so full that Badger's
// writing open would be killed by it, and says how to get out.
func checkOpenSpace(dir string) error {
	free, err := freeSpace(dir)
	if err != nil {
		return fmt.Errorf("free space of %s: %w", dir, err)
	}
	if free >= ballastBytes {
		return nil
	}
	remedy := "free some room on this disk"
	if info, err := os.Stat(filepath.Join(dir, ballastName)); err == nil && info.Size() > 0 {
		remedy = fmt.Sprintf("free some room on this disk, or delete %s, which stands by for this, and remove banks",
			filepath.Join(dir, ballastName))
	}
	return fmt.Errorf("%s: %w to open it for writing: %s free, %s needed (%s)",
		dir, ErrNoSpace, sizeText(free), sizeText(ballastBytes), remedy)
}

// ensureBallast puts the ballast file into dir if it is not there in full and
// the disk has room for it beyond the reserve; without room it does nothing. Its
// bytes are not zero, so no file system stores them as a hole.
func ensureBallast(dir string) error {
	path := filepath.Join(dir, ballastName)
	if info, err := os.Stat(path); err == nil && info.Size() == ballastBytes {
		return nil
	}
	if checkSpace(dir, ballastBytes) != nil {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	piece := make([]byte, 1<<20)
	state := uint64(0x9e3779b97f4a7c15)
	for written := 0; written < ballastBytes; written += len(piece) {
		for i := range piece {
			state ^= state << 13
			state ^= state >> 7
			state ^= state << 17
			piece[i] = byte(state)
		}
		if _, err := f.Write(piece); err != nil {
			f.Close()
			os.Remove(path)
			return err
		}
	}
	err = f.Sync()
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}

// releaseBallast deletes the ballast file and returns the bytes that came free:
// 0 when there was none.
func releaseBallast(dir string) (int64, error) {
	path := filepath.Join(dir, ballastName)
	info, err := os.Stat(path)
	if err == nil {
		err = os.Remove(path)
	}
	switch {
	case err == nil:
		return info.Size(), nil
	case os.IsNotExist(err):
		return 0, nil
	}
	return 0, err
}

// ReleaseBallast deletes the file that a database keeps on disk so that it can
// be opened on a full one, and returns the bytes that came free. The next writing
// open with enough room puts it back.
func ReleaseBallast(dir string) (int64, error) {
	if _, err := os.Stat(blocksDirectory(dir)); err != nil {
		return 0, &fs.PathError{Op: "release ballast", Path: dir, Err: fs.ErrNotExist}
	}
	return releaseBallast(dir)
}

func sizeText(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d bytes", n)
}

// ballastBytes is the size of the ballast file.
const ballastBytes = 8 << 20
