package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The marker, membank.json, says that a directory is a database and which format
// it has. It is written last when a database is created, so a directory without
// it is none yet; its checksum keeps a damaged format number from looking like a
// newer one.
const (
	markerName    = "membank.json"
	formatVersion = 1
)

type marker struct {
	Program  string `json:"program"`
	Format   int    `json:"format"`
	Checksum string `json:"crc32c"` // of "membank 1" with the program and format there are
}

func (m marker) sum() string {
	return fmt.Sprintf("%08x", crc32.Checksum(fmt.Appendf(nil, "%s %d", m.Program, m.Format), castagnoli))
}

func encodeMarker() []byte {
	m := marker{Program: "membank", Format: formatVersion}
	m.Checksum = m.sum()
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // three plain fields
	}
	return append(b, '\n')
}

// checkMarker returns nil if dir holds a database of this format. It is
// fs.ErrNotExist (alone or wrapped) when there is no marker.
func checkMarker(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, markerName))
	if err != nil {
		return err
	}
	var m marker
	if err := json.Unmarshal(b, &m); err != nil {
		return corruptFile(markerName, "%v", err)
	}
	switch {
	case m.Program != "membank" || m.Checksum != m.sum():
		return corruptFile(markerName, "its checksum does not fit")
	case m.Format > formatVersion:
		return fmt.Errorf("%s: %w: its format is %d, this membank reads up to %d (install a newer membank)", dir, ErrNewerFormat, m.Format, formatVersion)
	case m.Format < 1:
		return corruptFile(markerName, "format %d", m.Format)
	}
	return nil
}

// examine tells what a directory is before anything in it is touched: nil for a
// database, fs.ErrNotExist for a place where one can be created (nothing there,
// an empty directory, or a creation that was cut off), otherwise why not.
func examine(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s: %w: it is a file, a database is a directory", dir, ErrNotMembank)
	}
	if err := checkMarker(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	foreign := ""
	badgers := 0
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case name == "MANIFEST" || name == "KEYREGISTRY" || strings.HasSuffix(name, ".vlog") || strings.HasSuffix(name, ".sst"):
			badgers++
		case name == blocksName, name == lostName, name == ballastName, name == memoryName, strings.HasPrefix(name, closingName),
			strings.HasPrefix(name, outsideNameA), strings.HasPrefix(name, outsideNameB),
			strings.HasPrefix(name, markerName):
			continue
		}
		foreign = name
	}
	switch {
	case badgers > 1:
		return fmt.Errorf("%s: %w: it has no %s (give another --db)", dir, ErrForeignBadger, markerName)
	case foreign != "":
		return fmt.Errorf("%s: %w: it holds %s and no %s (give an empty or a new directory)", dir, ErrNotMembank, foreign, markerName)
	}
	// Only files of ours. What was ever committed to is a damaged database.
	rec, err := readOutside(dir)
	_, closed := os.Stat(filepath.Join(dir, closingName))
	if err == nil && (rec.Sequence > firstSequence || len(rec.Banks) > 0) || errors.Is(err, ErrCorrupt) || closed == nil {
		return corruptFile(markerName, "is missing")
	}
	return fs.ErrNotExist
}

func notThere(dir string) error {
	return fmt.Errorf("%w: no database at %s (create one with membank ingest)", ErrNotMembank, dir)
}
