package store

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"strconv"

	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"github.com/dgraph-io/ristretto/v2/z"
	"google.golang.org/protobuf/proto"
)

var fileTable = crc32.MakeTable(crc32.Castagnoli)

func checksumFile(b []byte) uint32 { return crc32.Checksum(b, fileTable) }

// logEnd returns the offset at which Badger's replay of a log of size bytes stops:
// after the last whole transaction before the first entry that is cut, zero or
// fails its checksum.
//
// An entry is {meta, user meta, key length, value length, expiry (uvarints), key,
// value, CRC32C (big endian) of all before}. meta bit 6 marks an entry of a
// transaction, bit 7 its end, whose value is the transaction's number in decimal;
// the last 8 bytes of a key hold that number too, complemented.
func logEnd(f io.ReaderAt, size int64) (int64, error) { return walkLog(f, size, nil) }

// walkLog is logEnd that calls fn, unless it is nil, with the key of every sound
// entry on the way; the key includes its version.
func walkLog(f io.ReaderAt, size int64, fn func(key []byte)) (int64, error) {
	const inTransaction, endsTransaction = 1 << 6, 1 << 7
	offset := int64(logHeaderSize)
	end := offset
	var transaction uint64
	r := bufio.NewReaderSize(io.NewSectionReader(f, offset, max(size-offset, 0)), 1<<16)
	for {
		e, length, err := readEntry(r, size-offset)
		if err != nil {
			return end, err
		}
		if length == 0 {
			return end, nil
		}
		offset += length
		if fn != nil {
			fn(e.key)
		}
		switch {
		case e.meta&inTransaction != 0:
			if transaction == 0 {
				transaction = e.version
			}
			if transaction != e.version {
				return end, nil
			}
		case e.meta&endsTransaction != 0:
			number, err := strconv.ParseUint(string(e.value), 10, 64)
			if err != nil || number != transaction {
				return end, nil
			}
			transaction = 0
			end = offset
		default:
			if transaction != 0 {
				return end, nil
			}
			end = offset
		}
	}
}

type logEntry struct {
	meta    byte
	key     []byte
	version uint64
	value   []byte // of an entry that ends a transaction, else nil
}

// readEntry reads one entry of at most left bytes. A length of 0 means that there
// is no whole and sound entry here; the error is the disk's only.
func readEntry(r *bufio.Reader, left int64) (e logEntry, length int64, err error) {
	var sum uint32
	var one [1]byte
	next := func() (byte, error) {
		b, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		one[0] = b
		sum = crc32.Update(sum, fileTable, one[:])
		length++
		return b, nil
	}
	ended := func(err error) (logEntry, int64, error) {
		if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return logEntry{}, 0, nil
		}
		return logEntry{}, 0, err
	}
	if e.meta, err = next(); err != nil {
		return ended(err)
	}
	if _, err = next(); err != nil {
		return ended(err)
	}
	var numbers [3]uint64 // key length, value length, expiry
	for i := range numbers {
		for shift := 0; ; shift += 7 {
			b, err := next()
			if err != nil || shift > 63 {
				return ended(err)
			}
			numbers[i] |= uint64(b&0x7f) << shift
			if b < 0x80 {
				break
			}
		}
	}
	keyBytes, valueBytes := numbers[0], numbers[1]
	if keyBytes == 0 || keyBytes > 1<<16 || valueBytes > math.MaxUint32 ||
		length+int64(keyBytes+valueBytes)+4 > left {
		return ended(nil)
	}
	key := make([]byte, keyBytes)
	if _, err = io.ReadFull(r, key); err != nil {
		return ended(err)
	}
	sum = crc32.Update(sum, fileTable, key)
	e.key = key
	if keyBytes >= 8 {
		e.version = math.MaxUint64 - binary.BigEndian.Uint64(key[keyBytes-8:])
	}
	if e.meta&(1<<7) != 0 && valueBytes <= 20 {
		e.value = make([]byte, valueBytes)
		if _, err = io.ReadFull(r, e.value); err != nil {
			return ended(err)
		}
		sum = crc32.Update(sum, fileTable, e.value)
	} else {
		hash := summer{&sum}
		if _, err = io.CopyN(hash, r, int64(valueBytes)); err != nil {
			return ended(err)
		}
	}
	var want [4]byte
	if _, err = io.ReadFull(r, want[:]); err != nil {
		return ended(err)
	}
	if binary.BigEndian.Uint32(want[:]) != sum {
		return ended(nil)
	}
	return e, length + int64(keyBytes+valueBytes) + 4, nil
}

// summer is a Writer that adds to a CRC32C.
type summer struct{ sum *uint32 }

func (s summer) Write(b []byte) (int, error) {
	*s.sum = crc32.Update(*s.sum, fileTable, b)
	return len(b), nil
}

// lastByte returns the offset of the last byte of f that is not zero, -1 if there
// is none. f has size bytes, mostly a hole in practice.
func lastByte(f *os.File, size int64) (int64, error) {
	const piece = 1 << 20
	buffer := make([]byte, piece)
	for to := DataEnd(f, size); to > 0; {
		from := max(to-piece, 0)
		b := buffer[:to-from]
		if _, err := f.ReadAt(b, from); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if n := len(bytes.TrimRight(b, "\x00")); n > 0 {
			return from + int64(n) - 1, nil
		}
		to = from
	}
	return -1, nil
}

// cutZeros shortens the newest value log of a crashed process, which is still as
// long as the map it was written through (512 MiB, a hole for the most part). It
// keeps a page beyond the last byte that is not zero, since the last entry may
// itself end in zeros.
func cutZeros(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	last, err := lastByte(f, size)
	if err != nil {
		return err
	}
	const page = 4096
	keep := (last+1+page-1)/page*page + page
	if last < logHeaderSize {
		keep = logHeaderSize // nothing was written: Badger deletes it when it is this short
	}
	if keep >= size {
		return nil
	}
	if err := f.Truncate(keep); err != nil {
		return err
	}
	return f.Sync()
}

// copyFile copies up to the last byte that is not zero, so a sparse log does not
// become a long one, and syncs.
func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	last, err := lastByte(src, info.Size())
	if err != nil {
		return err
	}
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, io.NewSectionReader(src, 0, last+1))
	if err == nil {
		err = dst.Sync()
	}
	if closeErr := dst.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		os.Remove(to)
	}
	return err
}

// discardMakesSense checks DISCARD: 16 bytes a log {u64 number, u64 bytes, big
// endian}, ascending, ended by a number of 0.
func discardMakesSense(b []byte, newest uint64) bool {
	var before uint64
	for ; len(b) >= 16; b = b[16:] {
		number, discard := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
		if number == 0 {
			return true
		}
		if number <= before || number > newest || discard > math.MaxUint32 {
			return false
		}
		before = number
	}
	return false
}

// checkTable checks every byte of a table (.sst) that a checksum covers. A table
// ends in
//
//	index, u32 index length, checksum of the index, u32 checksum length   (big endian)
//
// which is looked at first by hand, because Badger's reader exits the process
// when a length there points outside the file. The blocks are then read as Badger
// does, whose panics on nonsense are errors here.
func checkTable(path string) (err error) {
	if err := checkTableEnd(path); err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("it cannot be read as a table")
		}
	}()
	f, err := z.OpenMmapFile(path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	t, err := table.OpenTable(f, table.Options{
		ReadOnly:  true,
		ChkMode:   options.OnTableRead,
		BlockSize: 4 << 10,
	})
	if err != nil {
		return err
	}
	return t.Close(-1)
}

func checkTableEnd(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	left := info.Size()
	take := func(n int64, what string) ([]byte, error) {
		if n < 0 || n > left || n > math.MaxInt32 {
			return nil, fmt.Errorf("%s of %d bytes in a file with %d left", what, n, left)
		}
		left -= n
		b := make([]byte, n)
		_, err := f.ReadAt(b, left)
		return b, err
	}
	number := func(what string) (int64, error) {
		b, err := take(4, what)
		if err != nil {
			return 0, err
		}
		return int64(binary.BigEndian.Uint32(b)), nil
	}
	n, err := number("checksum length")
	if err != nil {
		return err
	}
	encoded, err := take(n, "checksum")
	if err != nil {
		return err
	}
	var sum pb.Checksum
	if err := proto.Unmarshal(encoded, &sum); err != nil {
		return fmt.Errorf("checksum of the index: %w", err)
	}
	if sum.Algo != pb.Checksum_CRC32C {
		return fmt.Errorf("checksum algorithm %d", sum.Algo)
	}
	if n, err = number("index length"); err != nil {
		return err
	}
	index, err := take(n, "index")
	if err != nil {
		return err
	}
	if err := y.VerifyChecksum(index, &sum); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	return nil
}
