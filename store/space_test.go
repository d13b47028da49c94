package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func withFreeSpace(t *testing.T, free int64) {
	t.Helper()
	old := freeSpace
	freeSpace = func(string) (int64, error) { return free, nil }
	t.Cleanup(func() { freeSpace = old })
}

func TestCheckSpaceKeepsTheReserve(t *testing.T) {
	if free, err := freeBytes(t.TempDir()); err != nil || free <= 0 {
		t.Fatal(free, err)
	}
	withFreeSpace(t, spaceReserve+1000)
	if err := checkSpace("db", 1000); err != nil {
		t.Fatal(err)
	}
	err := checkSpace("db", 1001)
	if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "64.0 MiB free") || !strings.Contains(err.Error(), "1001 bytes needed") {
		t.Fatal(err)
	}
	withFreeSpace(t, 10)
	if err := checkSpace("db", 0); !errors.Is(err, ErrNoSpace) {
		t.Fatal(err)
	}
}

func TestBallastGrowsWithTheTables(t *testing.T) {
	dir := newPlain(t, 10)
	size := func() int64 {
		info, err := os.Stat(filepath.Join(dir, ballastName))
		if err != nil {
			return 0
		}
		return info.Size()
	}
	for _, tables := range []int64{0, 1 << 20, 100 << 20} {
		if tables > 0 {
			sparse := filepath.Join(blocksDirectory(dir), "000999.sst")
			if err := os.WriteFile(sparse, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(sparse, tables); err != nil {
				t.Fatal(err)
			}
		}
		if err := ensureBallast(dir); err != nil {
			t.Fatal(err)
		}
		if size() != ballastSize(dir) || size() < openBytes || size() > 2*openBytes+memtableBytes {
			t.Fatalf("tables of %d bytes: ballast of %d, want %d", tables, size(), ballastSize(dir))
		}
	}
	have := size()
	if n, err := ReleaseBallast(dir); n != have || err != nil {
		t.Fatal(n, err)
	}
	if n, err := ReleaseBallast(dir); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	withFreeSpace(t, 3*ballastSize(dir))
	if err := ensureBallast(dir); err != nil {
		t.Fatal(err)
	}
	if size() != 0 {
		t.Fatal("the ballast went into a disk nearly full")
	}
}

func TestOpenOnAFullDiskIsRefused(t *testing.T) {
	dir := newPlain(t, 10)
	if err := ensureBallast(dir); err != nil {
		t.Fatal(err)
	}
	withFreeSpace(t, openBytes)
	if err := checkOpenSpace(dir); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(blocksDirectory(dir), "00042.mem")
	if err := os.WriteFile(log, append(bytes.Repeat([]byte{1}, 5<<20), make([]byte, 1<<20)...), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := checkOpenSpace(dir); !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "7.0 MiB needed") ||
		!strings.Contains(err.Error(), filepath.Join(dir, ballastName)) {
		t.Fatal(err)
	}
}
