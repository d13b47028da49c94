package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// The outside record is what this database last acknowledged, kept where Badger
// cannot roll it back: in the database directory, beside Badger's own. Badger
// opens at an older state without a word when its logs or its MANIFEST are
// damaged; a sequence number outside that is ahead of the one inside is how such
// a loss is noticed.
//
// There are two copies, COMMIT.a and COMMIT.b, and a commit replaces the older
// (or damaged) one: write a temporary file, sync it, rename it over, sync the
// directory. The newer good copy is not touched before its successor is durable,
// so a kill or a power cut at any step leaves one record to be read, either the
// old or the new.
//
//	offset  bytes  field
//	0       8      "MBCOMMIT"
//	8       4      format version, little endian as all below: 1
//	12      4      n: length of the whole file in bytes
//	16      8      sequence: commits since the database was created
//	24      4      banks: how many entries follow
//	28      ...    a bank: u16 name length, name, u64 generation, i64 rows, u32 digest
//	n-4     4      CRC32C of the bytes before it
//
// Worked example: sequence 7, one bank "a" at generation 3 with 5 rows and digest
// 0x01020304 is 28 + 2+1+8+8+4 + 4 = 55 bytes:
//
//	4d42434f4d4d4954 01000000 37000000 0700000000000000 01000000
//	0100 61 0300000000000000 0500000000000000 04030201 <crc>
type outsideRecord struct {
	Sequence uint64
	Banks    []outsideBank
}

// outsideBank is one bank's entry of an outsideRecord: Digest is the CRC32C of
// the bank's manifest, as the caller computes it.
type outsideBank struct {
	Name       string
	Generation uint64
	Rows       int64
	Digest     uint32
}

const (
	outsideMagic   = "MBCOMMIT"
	outsideVersion = 1
	outsideNameA   = "COMMIT.a"
	outsideNameB   = "COMMIT.b"
)

// outsideStep is called before each step of writeOutside, in order; tests stop
// the process in it.
var outsideStep = func(step string) {}

// readOutside returns the valid copy with the higher sequence. The error is
// fs.ErrNotExist when there is neither file, ErrCorrupt when no copy that is
// there can be read. One damaged copy beside a good one is not an error: the
// damaged one may be the newer, then the record is one commit behind, which the
// caller must allow for anyway (a crash between the two commits looks the same).
func readOutside(dir string) (outsideRecord, error) {
	a, errA := readOutsideCopy(filepath.Join(dir, outsideNameA))
	b, errB := readOutsideCopy(filepath.Join(dir, outsideNameB))
	switch {
	case errors.Is(errA, ErrNewerFormat):
		return outsideRecord{}, errA
	case errors.Is(errB, ErrNewerFormat):
		return outsideRecord{}, errB
	case errA == nil && (errB != nil || a.Sequence >= b.Sequence):
		return a, nil
	case errB == nil:
		return b, nil
	case errors.Is(errA, fs.ErrNotExist) && errors.Is(errB, fs.ErrNotExist):
		return outsideRecord{}, fmt.Errorf("no outside record in %s: %w", dir, fs.ErrNotExist)
	case errors.Is(errA, ErrCorrupt):
		return outsideRecord{}, errA
	case errors.Is(errB, ErrCorrupt):
		return outsideRecord{}, errB
	case errors.Is(errA, fs.ErrNotExist):
		return outsideRecord{}, errB
	}
	return outsideRecord{}, errA
}

func readOutsideCopy(path string) (outsideRecord, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return outsideRecord{}, err
	}
	rec, err := decodeOutside(b)
	if errors.Is(err, ErrNewerFormat) {
		return rec, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	if err != nil {
		return rec, corruptFile(filepath.Base(path), "%v", err)
	}
	return rec, nil
}

// writeOutside makes rec the outside record. It is durable when writeOutside
// returns nil; on an error or a crash the record is rec or its predecessor.
// rec.Sequence must be larger than that of the record in place.
func writeOutside(dir string, rec outsideRecord) error {
	a, errA := readOutsideCopy(filepath.Join(dir, outsideNameA))
	b, errB := readOutsideCopy(filepath.Join(dir, outsideNameB))
	target := outsideNameA
	if errA == nil && (errB != nil || a.Sequence >= b.Sequence) {
		target = outsideNameB
	}
	for _, current := range []struct {
		rec outsideRecord
		err error
	}{{a, errA}, {b, errB}} {
		if errors.Is(current.err, ErrNewerFormat) {
			return current.err
		}
		if current.err == nil && current.rec.Sequence >= rec.Sequence {
			return fmt.Errorf("outside record: sequence %d is not after %d", rec.Sequence, current.rec.Sequence)
		}
	}
	encoded, err := encodeOutside(rec)
	if err != nil {
		return err
	}
	return replaceFile(dir, target, encoded, outsideStep)
}

// replaceFile puts b under dir/name so that a crash leaves the old file whole or
// the new one. step is called before each step.
func replaceFile(dir, name string, b []byte, step func(string)) error {
	path := filepath.Join(dir, name)
	temporary := path + ".new"
	step("create")
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	fail := func(err error) error {
		f.Close()
		os.Remove(temporary)
		return err
	}
	step("write")
	half := len(b) / 2
	if _, err := f.Write(b[:half]); err != nil {
		return fail(err)
	}
	step("write-rest")
	if _, err := f.Write(b[half:]); err != nil {
		return fail(err)
	}
	step("sync")
	if !faultNoSync {
		if err := f.Sync(); err != nil {
			return fail(err)
		}
	}
	if err := f.Close(); err != nil {
		os.Remove(temporary)
		return err
	}
	step("rename")
	if err := os.Rename(temporary, path); err != nil {
		os.Remove(temporary)
		return err
	}
	step("sync-directory")
	if err := syncDirectory(dir); err != nil {
		return err
	}
	step("done")
	return nil
}

func encodeOutside(rec outsideRecord) ([]byte, error) {
	b := make([]byte, 28, 64+64*len(rec.Banks))
	copy(b, outsideMagic)
	binary.LittleEndian.PutUint32(b[8:], outsideVersion)
	binary.LittleEndian.PutUint64(b[16:], rec.Sequence)
	binary.LittleEndian.PutUint32(b[24:], uint32(len(rec.Banks)))
	for _, bank := range rec.Banks {
		if len(bank.Name) > 0xffff {
			return nil, fmt.Errorf("outside record: bank name of %d bytes", len(bank.Name))
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(len(bank.Name)))
		b = append(b, bank.Name...)
		b = binary.LittleEndian.AppendUint64(b, bank.Generation)
		b = binary.LittleEndian.AppendUint64(b, uint64(bank.Rows))
		b = binary.LittleEndian.AppendUint32(b, bank.Digest)
	}
	return sealFrame(b), nil
}

func decodeOutside(b []byte) (outsideRecord, error) {
	body, err := openFrame(b, outsideMagic, outsideVersion, 28)
	if err != nil {
		return outsideRecord{}, err
	}
	rec := outsideRecord{Sequence: binary.LittleEndian.Uint64(body[16:])}
	banks := int64(binary.LittleEndian.Uint32(body[24:]))
	body = body[28:]
	const smallest = 2 + 8 + 8 + 4
	if banks*smallest > int64(len(body)) {
		return outsideRecord{}, fmt.Errorf("%d banks cannot fit in %d bytes", banks, len(body))
	}
	if banks > 0 {
		rec.Banks = make([]outsideBank, 0, banks)
	}
	for i := range banks {
		if len(body) < smallest {
			return outsideRecord{}, fmt.Errorf("bank %d of %d is cut short", i, banks)
		}
		n := int(binary.LittleEndian.Uint16(body))
		if len(body) < smallest+n {
			return outsideRecord{}, fmt.Errorf("bank %d of %d is cut short", i, banks)
		}
		rest := body[2+n:]
		rec.Banks = append(rec.Banks, outsideBank{
			Name:       string(body[2 : 2+n]),
			Generation: binary.LittleEndian.Uint64(rest),
			Rows:       int64(binary.LittleEndian.Uint64(rest[8:])),
			Digest:     binary.LittleEndian.Uint32(rest[16:]),
		})
		body = rest[20:]
	}
	if len(body) != 0 {
		return outsideRecord{}, fmt.Errorf("%d bytes after the last bank", len(body))
	}
	return rec, nil
}

// sealFrame fills in the length at offset 12 and appends the checksum: the frame
// that the outside record and the closing record share.
func sealFrame(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[12:], uint32(len(b)+4))
	return binary.LittleEndian.AppendUint32(b, checksumFile(b))
}

// openFrame checks a frame of at least header bytes and returns it without its
// checksum. A good frame of a later version is ErrNewerFormat.
func openFrame(b []byte, magic string, version uint32, header int) ([]byte, error) {
	switch {
	case len(b) < header+4:
		return nil, fmt.Errorf("%d bytes, at least %d expected", len(b), header+4)
	case string(b[:8]) != magic:
		return nil, fmt.Errorf("does not begin with %q", magic)
	case int64(binary.LittleEndian.Uint32(b[12:])) != int64(len(b)):
		return nil, fmt.Errorf("%d bytes, %d expected", len(b), binary.LittleEndian.Uint32(b[12:]))
	}
	body := b[:len(b)-4]
	if want, got := binary.LittleEndian.Uint32(b[len(body):]), checksumFile(body); want != got {
		return nil, fmt.Errorf("checksum is %08x, %08x expected", got, want)
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != version {
		return nil, fmt.Errorf("format version %d, this membank reads up to %d: %w", v, version, ErrNewerFormat)
	}
	return slices.Clip(body), nil
}

// syncDirectory makes the names in dir durable.
func syncDirectory(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
