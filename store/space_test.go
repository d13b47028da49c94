package store

import (
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

func TestBallast(t *testing.T) {
	dir := t.TempDir()
	if err := ensureBallast(dir); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, ballastName)); err != nil || info.Size() != ballastBytes {
		t.Fatal(info, err)
	}
	if n, err := releaseBallast(dir); n != ballastBytes || err != nil {
		t.Fatal(n, err)
	}
	if n, err := releaseBallast(dir); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	withFreeSpace(t, spaceReserve)
	if err := ensureBallast(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, ballastName)); err == nil {
		t.Fatal("the ballast went into the reserve")
	}
	withFreeSpace(t, 4096)
	if err := checkOpenSpace(dir); !errors.Is(err, ErrNoSpace) {
		t.Fatal(err)
	}
}
