package journal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

var errNotDir = syscall.ENOTDIR

// Open opens the log in dir, reads it once, and cuts off what a kill left
// unfinished. Errors: ErrNone, ErrBusy, ErrDamaged, ErrNewer.
func Open(dir string, o Options) (*Journal, error) {
	if !o.ReadOnly {
		if err := reserve(dir); err != nil {
			return nil, err
		}
	}
	j, err := openLog(dir, o)
	if err != nil && !o.ReadOnly {
		release(dir)
	}
	return j, err
}

func openLog(dir string, o Options) (*Journal, error) {
	j := &Journal{dir: dir, o: o}
	mode := os.O_RDWR
	if o.ReadOnly {
		mode = os.O_RDONLY
	}
	f, err := os.OpenFile(j.path(), mode, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDir) {
		return nil, fmt.Errorf("%s: %w", dir, ErrNone)
	}
	if err != nil {
		return nil, err
	}
	j.f = f
	if err := j.recover(); err != nil {
		f.Close()
		return nil, err
	}
	return j, nil
}

// recover finds the end of the last complete change.
func (j *Journal) recover() error {
	info, err := j.f.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	lead := make([]byte, fileHeader)
	if _, err := j.f.ReadAt(lead, 0); err != nil && err != io.EOF {
		return err
	}
	if err := checkFileHeader(lead); err != nil {
		if errors.Is(err, ErrNewer) {
			return fmt.Errorf("%s: %w", j.path(), err)
		}
		return &DamageError{Path: j.path(), Reason: err.Error()}
	}
	s := newScanner(j.f, size)
	j.end = s.at
	reason, headed := "", false
	for {
		h, payload, err := s.next()
		if err == io.EOF {
			break
		}
		var broken *os.PathError
		if errors.As(err, &broken) {
			return err
		}
		if err == nil && h.sequence != j.sequence {
			err = fmt.Errorf("record %d where %d belongs", h.sequence, j.sequence)
		}
		if err == nil && (h.sequence == 0) != (h.kind == kindHead) {
			err = fmt.Errorf("record %d is of kind %d", h.sequence, h.kind)
		}
		if err != nil {
			reason = err.Error()
			break
		}
		if h.kind == kindHead {
			j.head, headed = bytes.Clone(payload), true
		}
		j.sequence++
		if !h.more {
			j.end = s.at
		}
	}
	if !headed {
		return &DamageError{Path: j.path(), Offset: fileHeader, Reason: "its head: " + reason}
	}
	if reason != "" {
		if err := j.promised(s.at, size, reason); err != nil {
			return err
		}
	}
	// An unfinished change of several records took numbers, too.
	if j.torn = size - j.end; j.torn > 0 {
		j.sequence = j.sequenceAt(j.end)
		if !j.o.ReadOnly {
			if err := j.f.Truncate(j.end); err != nil {
				return err
			}
		}
	}
	// What was found after a kill is in the page cache and perhaps not on disk.
	if !j.o.ReadOnly {
		if err := j.f.Sync(); err != nil {
			return err
		}
	}
	j.synced = j.end
	return nil
}

// sequenceAt counts the records before end.
func (j *Journal) sequenceAt(end int64) (n uint64) {
	s := newScanner(j.f, end)
	for {
		if _, _, err := s.next(); err != nil {
			return n
		}
		n++
	}
}

// promised returns a *DamageError if a whole record behind the broken one at
// offset says that offset was durable when it was written.
func (j *Journal) promised(offset, size int64, reason string) error {
	const window = 1 << 20
	buffer := make([]byte, window+recordHeader)
	for at := offset + 1; at+recordHeader <= size; at += window {
		n, err := j.f.ReadAt(buffer[:min(int64(len(buffer)), size-at)], at)
		if err != nil && err != io.EOF {
			return err
		}
		for from := 0; ; {
			i := bytes.Index(buffer[from:n], []byte(recordMagic))
			if i < 0 || from+i+recordHeader > n || from+i >= window {
				break
			}
			from += i
			if j.vouches(buffer[from:from+recordHeader], at+int64(from), size, offset) {
				return &DamageError{Path: j.path(), Offset: offset, Reason: reason + ", and a later record says that it was durable"}
			}
			from++
		}
	}
	return nil
}

// vouches: a whole record stands at this place and says that offset was durable.
func (j *Journal) vouches(head []byte, at, size, offset int64) bool {
	h, err := openHeader(head, size-at-recordHeader)
	if err != nil || h.synced <= offset || h.synced > at || h.sequence < j.sequence {
		return false
	}
	payload := make([]byte, h.bytes)
	if _, err := j.f.ReadAt(payload, at+recordHeader); err != nil {
		return false
	}
	return checkRecord(h, head, payload) == nil
}

// scanner reads records one after the other.
type scanner struct {
	r       *bufio.Reader
	at, end int64 // behind the last whole record; of what is to be read
	head    [recordHeader]byte
	payload []byte
}

func newScanner(f *os.File, end int64) *scanner {
	return &scanner{r: bufio.NewReaderSize(io.NewSectionReader(f, fileHeader, max(end-fileHeader, 0)), 1<<20), at: fileHeader, end: end}
}

// next returns io.EOF at the end of a whole record only; the payload is reused.
func (s *scanner) next() (header, []byte, error) {
	left := s.end - s.at
	if left == 0 {
		return header{}, nil, io.EOF
	}
	if left < recordHeader {
		return header{}, nil, fmt.Errorf("%d bytes are left, a record has at least %d", left, recordHeader)
	}
	if _, err := io.ReadFull(s.r, s.head[:]); err != nil {
		return header{}, nil, err
	}
	h, err := openHeader(s.head[:], left-recordHeader)
	if err != nil {
		return h, nil, err
	}
	if cap(s.payload) < int(h.bytes) {
		s.payload = make([]byte, h.bytes)
	}
	s.payload = s.payload[:h.bytes]
	if _, err := io.ReadFull(s.r, s.payload); err != nil {
		return h, nil, err
	}
	if err := checkRecord(h, s.head[:], s.payload); err != nil {
		return h, nil, err
	}
	s.at += recordHeader + int64(h.bytes)
	return h, s.payload, nil
}
