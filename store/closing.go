package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// The closing record, the file CLOSED in the database directory, says what every
// file of Badger's directory was when the database was last closed in order. A
// writing open removes it before anything changes, so where it is, nothing may
// have changed: a file that is missing, of another length, or (where it is small
// enough to be read at each open) of other content is damage, however sound it
// looks to Badger.
//
//	offset  bytes  field
//	0       8      "MBCLOSED"
//	8       4      format version, little endian as all below: 1
//	12      4      n: length of the whole file in bytes
//	16      4      files: how many entries follow
//	20      ...    a file: u16 name length, name, u64 size, u32 checksum
//	n-4     4      CRC32C of the bytes before it
//
// The checksum is the CRC32C of the whole file for MANIFEST, KEYREGISTRY and the
// tables, and of the header for a value log: its blocks carry their own. LOCK and
// DISCARD, which hold nothing that matters, are not recorded.
type closingRecord []closedFile

type closedFile struct {
	Name     string
	Size     int64
	Checksum uint32
}

const (
	closingName    = "CLOSED"
	closingMagic   = "MBCLOSED"
	closingVersion = 1
)

// markClosed writes the closing record. It is called after Badger's Close of a
// writing open returned without an error. When another process has opened the
// database meanwhile there is nothing to record, and no error.
func markClosed(dir string) error {
	blocks := blocksDirectory(dir)
	unlock, err := lockDirectory(blocks, false)
	if err != nil {
		if isLockFailure(err) {
			return nil
		}
		return err
	}
	defer unlock()
	entries, err := os.ReadDir(blocks)
	if err != nil {
		return err
	}
	var rec closingRecord
	for _, entry := range entries {
		name := entry.Name()
		if name == "LOCK" || name == "DISCARD" || !entry.Type().IsRegular() {
			continue
		}
		if filepath.Ext(name) == ".mem" {
			// Badger's Close flushes them all; one that is left means that it did
			// not finish, and a replay is due.
			return nil
		}
		size, sum, err := summarize(filepath.Join(blocks, name), true)
		if err != nil {
			return err
		}
		rec = append(rec, closedFile{name, size, sum})
	}
	if err := syncDirectory(blocks); err != nil {
		return err
	}
	return replaceFile(dir, closingName, encodeClosing(rec), func(string) {})
}

func removeClosing(dir string) error {
	err := os.Remove(filepath.Join(dir, closingName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDirectory(dir)
}

// compareWithClosing holds the directory against the closing record, if there is
// one. What the LSM tree lives in must be as it was; a changed value log goes to
// the report's problems.
func (in *inspection) compareWithClosing(ctx context.Context) error {
	b, err := os.ReadFile(filepath.Join(in.dir, closingName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	rec, err := decodeClosing(b)
	if errors.Is(err, ErrNewerFormat) {
		return err
	}
	if err != nil {
		// The record guards the rest and holds nothing itself: without it the
		// directory is examined like one after a crash.
		in.report.Problems = append(in.report.Problems, corruptFile(closingName, "%v", err))
		return nil
	}
	in.report.Clean = true
	recorded := map[string]bool{}
	for _, want := range rec {
		recorded[want.Name] = true
		if err := ctx.Err(); err != nil {
			return err
		}
		problem := in.compareFile(want)
		isLog := filepath.Ext(want.Name) == ".vlog"
		if isLog {
			var number uint64
			if _, err := fmt.Sscanf(want.Name, "%d.vlog", &number); err == nil {
				in.newest = max(in.newest, number)
			}
		}
		switch {
		case problem == nil:
		case isLog && errors.Is(problem, ErrCorrupt) && in.sizes[want.Name] != 0:
			in.report.Problems = append(in.report.Problems, problem)
		case isLog && errors.Is(problem, fs.ErrNotExist):
			in.report.Problems = append(in.report.Problems,
				corruptFile(filepath.Join(blocksName, want.Name), "is missing"))
		case errors.Is(problem, fs.ErrNotExist):
			return corruptFile(filepath.Join(blocksName, want.Name), "is missing")
		default:
			return problem
		}
	}
	for name := range in.sizes {
		switch filepath.Ext(name) {
		case ".sst", ".mem", ".vlog":
			if !recorded[name] {
				return corruptFile(filepath.Join(blocksName, name), "was not there when the database was closed: files of two copies are mixed")
			}
		}
	}
	return nil
}

func (in *inspection) compareFile(want closedFile) error {
	size, ok := in.sizes[want.Name]
	if !ok {
		return fs.ErrNotExist
	}
	full := filepath.Join(blocksName, want.Name)
	if size != want.Size {
		return corruptFile(full, "has %d bytes, %d when the database was closed", size, want.Size)
	}
	_, sum, err := summarize(in.path(want.Name), false)
	if err != nil {
		return err
	}
	if sum != want.Checksum {
		return corruptFile(full, "has checksum %08x, %08x when the database was closed", sum, want.Checksum)
	}
	return nil
}

// summarize returns size and checksum of a file as the closing record has them,
// syncing it first if asked.
func summarize(path string, sync bool) (int64, uint32, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	if sync {
		if err := f.Sync(); err != nil {
			return 0, 0, err
		}
	}
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	var from io.Reader = f
	switch {
	case filepath.Ext(path) == ".vlog":
		from = io.LimitReader(f, logHeaderSize)
	case filepath.Ext(path) == ".sst", filepath.Base(path) == badger.ManifestFilename, filepath.Base(path) == badger.KeyRegistryFileName:
	default:
		return info.Size(), 0, nil
	}
	hash := crc32.New(fileTable)
	if _, err := io.Copy(hash, from); err != nil {
		return 0, 0, err
	}
	return info.Size(), hash.Sum32(), nil
}

func encodeClosing(rec closingRecord) []byte {
	b := make([]byte, 20, 64+32*len(rec))
	copy(b, closingMagic)
	binary.LittleEndian.PutUint32(b[8:], closingVersion)
	binary.LittleEndian.PutUint32(b[16:], uint32(len(rec)))
	for _, f := range rec {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(f.Name)))
		b = append(b, f.Name...)
		b = binary.LittleEndian.AppendUint64(b, uint64(f.Size))
		b = binary.LittleEndian.AppendUint32(b, f.Checksum)
	}
	return sealFrame(b)
}

func decodeClosing(b []byte) (closingRecord, error) {
	body, err := openFrame(b, closingMagic, closingVersion, 20)
	if err != nil {
		return nil, err
	}
	files := int64(binary.LittleEndian.Uint32(body[16:]))
	body = body[20:]
	const smallest = 2 + 8 + 4
	if files*smallest > int64(len(body)) {
		return nil, fmt.Errorf("%d files cannot fit in %d bytes", files, len(body))
	}
	rec := make(closingRecord, 0, files)
	for i := range files {
		if len(body) < smallest {
			return nil, fmt.Errorf("file %d of %d is cut short", i, files)
		}
		n := int(binary.LittleEndian.Uint16(body))
		if len(body) < smallest+n {
			return nil, fmt.Errorf("file %d of %d is cut short", i, files)
		}
		rest := body[2+n:]
		rec = append(rec, closedFile{
			Name:     string(body[2 : 2+n]),
			Size:     int64(binary.LittleEndian.Uint64(rest)),
			Checksum: binary.LittleEndian.Uint32(rest[8:]),
		})
		body = rest[12:]
	}
	if len(body) != 0 {
		return nil, fmt.Errorf("%d bytes after the last file", len(body))
	}
	return slices.Clip(rec), nil
}
