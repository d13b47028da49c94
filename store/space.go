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

const ballastName = "ballast" // in the database directory

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

// openBytes is what a writing open writes at least, whatever the database holds:
// a log each for values and memtable, their directory entries, MANIFEST.
const openBytes = 2 << 20

// checkOpenSpace returns ErrNoSpace when the disk is so full that Badger's
// writing open would be killed by it, and says how to get out. After a crash the
// open flushes the memtable logs into tables of about their size. Measured on a
// full tmpfs: with 1 MiB in them 2 MiB must be free, with 14 MiB 16.
func checkOpenSpace(dir string) error {
	free, err := freeSpace(dir)
	if err != nil {
		return fmt.Errorf("free space of %s: %w", dir, err)
	}
	need := int64(openBytes)
	mems, err := filepath.Glob(filepath.Join(blocksDirectory(dir), "*.mem"))
	if err != nil {
		return err
	}
	for _, name := range mems {
		n, err := filledBytes(name)
		if err != nil {
			return err
		}
		need += n
	}
	if free >= need {
		return nil
	}
	remedy := "free some room on this disk"
	ballast := filepath.Join(dir, ballastName)
	if info, err := os.Stat(ballast); err == nil && info.Size() > 0 {
		remedy += fmt.Sprintf("; %s stands by to be deleted and is %s", ballast, sizeText(info.Size()))
	}
	return fmt.Errorf("%s: %w to open it for writing: %s free, %s needed (%s)",
		dir, ErrNoSpace, sizeText(free), sizeText(need), remedy)
}

// filledBytes is the length of a sparse log up to its last byte that is not zero.
func filledBytes(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	last, err := lastByte(f, info.Size())
	return last + 1, err
}

// ballastSize is what a writing open of the database may need after a crash, and
// a little more, which others take meanwhile: a memtable never holds more than the
// tables have ever held or than its own size.
func ballastSize(dir string) int64 {
	var tables int64
	names, _ := filepath.Glob(filepath.Join(blocksDirectory(dir), "*.sst"))
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			tables += info.Size()
		}
	}
	const megabyte = 1 << 20
	return openBytes + megabyte + (min(tables, memtableBytes)+megabyte-1)/megabyte*megabyte
}

// ensureBallast makes the ballast file as large as the database needs, if the
// disk has room for four times as much; without room it does nothing. Its
// bytes are not zero, so no file system stores them as a hole. It is called after
// a writing open and at its close, and costs a directory listing when the file is
// as it should be.
func ensureBallast(dir string) error {
	path := filepath.Join(dir, ballastName)
	size := ballastSize(dir)
	var have int64
	if info, err := os.Stat(path); err == nil {
		have = info.Size()
	}
	if have >= size {
		return nil
	}
	// It may go into the reserve, which writes leave alone afterwards, but not be
	// what fills the disk.
	if free, err := freeSpace(dir); err != nil || free < 4*size {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	piece := make([]byte, 1<<18)
	state := uint64(0x9e3779b97f4a7c15)
	for i := range piece {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		piece[i] = byte(state)
	}
	for have < size {
		n, err := f.Write(piece[:min(int64(len(piece)), size-have)])
		if err != nil {
			f.Close()
			os.Remove(path)
			return err
		}
		have += int64(n)
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
