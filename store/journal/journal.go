package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

const (
	fileName = "@journal"
	newName  = fileName + ".new"
)

// Options say how to open a log. The zero value reads and writes.
type Options struct {
	ReadOnly bool // nothing on disk changes: a torn tail is left out, not cut off
	// Space, if set, is asked before bytes are written and returns an error when
	// the disk has no room for them.
	Space func(bytes int64) error
}

// Journal is an open log.
type Journal struct {
	dir  string
	o    Options
	head []byte
	torn int64

	mu        sync.Mutex // around what follows
	f         *os.File
	sequence  uint64 // of the next record
	end       int64  // bytes of the file that are whole records
	synced    int64  // of them durable
	allowance int64  // bytes that Space has granted
	broken    error
	buffer    []byte

	// syncing is held by the one who calls fsync; the others wait for it and then
	// look whether it was enough.
	syncing sync.Mutex
}

// open lists the logs that this process writes.
var open = struct {
	sync.Mutex
	paths map[string]bool
}{paths: map[string]bool{}}

func reserve(dir string) error {
	path, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	open.Lock()
	defer open.Unlock()
	if open.paths[path] {
		return fmt.Errorf("%s: %w", dir, ErrBusy)
	}
	open.paths[path] = true
	return nil
}

func release(dir string) {
	path, _ := filepath.Abs(dir)
	open.Lock()
	defer open.Unlock()
	delete(open.paths, path)
}

// Exists reports whether dir holds a log.
func Exists(dir string) (bool, error) {
	_, err := os.Stat(filepath.Join(dir, fileName))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDir) {
		return false, nil
	}
	return err == nil, err
}

// Find returns the directories below root that hold a log, relative to it with
// '/', sorted.
func Find(root string) (names []string, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() != fileName {
			return err
		}
		name, err := filepath.Rel(root, filepath.Dir(path))
		names = append(names, filepath.ToSlash(name))
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return names, err
}

// Create starts a log with a head in dir, which is made if need be. The log is
// durable when Create returns. Errors: ErrExists, ErrBusy.
func Create(dir string, head []byte, o Options) (*Journal, error) {
	if err := reserve(dir); err != nil {
		return nil, err
	}
	j := &Journal{dir: dir, o: o}
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		var there bool
		if there, err = Exists(dir); there {
			err = fmt.Errorf("%s: %w", dir, ErrExists)
		}
	}
	if err == nil {
		err = j.Rotate(head)
	}
	if err != nil {
		release(dir)
		return nil, err
	}
	return j, nil
}

// Remove deletes the log in dir and the directory, and the empty directories above
// it up to root. ErrNone if there is none, ErrBusy while it is open for writing.
func Remove(root, dir string) error {
	if err := reserve(dir); err != nil {
		return err
	}
	defer release(dir)
	there, err := Exists(dir)
	if err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("%s: %w", dir, ErrNone)
	}
	if err := os.Remove(filepath.Join(dir, fileName)); err != nil {
		return err
	}
	os.Remove(filepath.Join(dir, newName)) // of a rotation that a kill cut off
	if err := syncDirectory(dir); err != nil {
		return err
	}
	for dir != root && len(dir) > len(root) {
		if os.Remove(dir) != nil { // not empty: another log lies below
			return nil
		}
		dir = filepath.Dir(dir)
	}
	return nil
}

// Head is the payload of the first record. It must not be changed.
func (j *Journal) Head() []byte { return j.head }

// Torn is how many bytes behind the last complete change Open found and left out.
func (j *Journal) Torn() int64 { return j.torn }

// Size is the bytes of the log.
func (j *Journal) Size() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.end
}

// Piece is one record to be appended: Fill writes its payload of Bytes bytes, which
// are not zeroed before. Kind is 1 to 254.
type Piece struct {
	Kind  uint8
	Step  int64
	Bytes int
	Fill  func(payload []byte)
}

// Append adds one change, of one record or several: Replay gives either all of them
// or none. When it returns, the change survives the end of the process, and not yet
// a power cut: see Sync, which takes the end that Append returned. An error leaves
// the log as it was.
func (j *Journal) Append(pieces ...Piece) (end int64, err error) {
	total := int64(0)
	for _, p := range pieces {
		if p.Bytes > MaxRecord {
			return 0, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, p.Bytes, MaxRecord)
		}
		total += recordHeader + int64(p.Bytes)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.writable(); err != nil {
		return 0, err
	}
	if err := j.room(total); err != nil {
		return 0, err
	}
	at, sequence := j.end, j.sequence
	for i, p := range pieces {
		b := j.scratch(recordHeader + p.Bytes)
		if p.Fill != nil {
			p.Fill(b[recordHeader:])
		}
		sealRecord(b, header{kind: p.Kind, more: i+1 < len(pieces), sequence: sequence, step: p.Step, synced: j.synced})
		if _, err := j.f.WriteAt(b, at); err != nil {
			return 0, j.undo(err)
		}
		at += int64(len(b))
		sequence++
	}
	j.end, j.sequence = at, sequence
	j.allowance -= total
	return at, nil
}

// undo takes away what a failed write left.
func (j *Journal) undo(err error) error {
	if cut := j.f.Truncate(j.end); cut != nil {
		j.broken = fmt.Errorf("%s: %w (and what it left cannot be cut off: %v)", j.path(), err, cut)
		return j.broken
	}
	return fmt.Errorf("%s: %w", j.path(), err)
}

// grant is how much room is asked for at a time, so that not every small record
// costs a question.
const grant = 8 << 20

func (j *Journal) room(bytes int64) error {
	if j.o.Space == nil || bytes <= j.allowance {
		return nil
	}
	if err := j.o.Space(bytes + grant); err == nil {
		j.allowance = bytes + grant
		return nil
	}
	if err := j.o.Space(bytes); err != nil {
		return err
	}
	j.allowance = bytes
	return nil
}

func (j *Journal) scratch(n int) []byte {
	const keep = 4 << 20 // larger buffers are for one record
	if n > keep {
		return make([]byte, n)
	}
	if cap(j.buffer) < n {
		j.buffer = make([]byte, max(n, 64<<10))
	}
	return j.buffer[:n]
}

func (j *Journal) writable() error {
	switch {
	case j.f == nil:
		return ErrClosed
	case j.o.ReadOnly:
		return ErrReadOnly
	}
	return j.broken
}

// Sync makes the log durable up to end. Callers that wait at the same time share an
// fsync.
func (j *Journal) Sync(end int64) error {
	if done, err := j.durable(end); done || err != nil {
		return err
	}
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if done, err := j.durable(end); done || err != nil {
		return err
	}
	j.mu.Lock()
	f, upTo := j.f, j.end
	j.mu.Unlock()
	err := f.Sync()
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		j.broken = fmt.Errorf("%s: fsync: %w", j.path(), err)
		return j.broken
	}
	j.synced = max(j.synced, upTo)
	return nil
}

func (j *Journal) durable(end int64) (bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.writable(); err != nil {
		return false, err
	}
	return j.synced >= end, nil
}

// Rotate replaces the log by an empty one with another head, durably and in one
// step: a kill leaves the old log or the new one.
func (j *Journal) Rotate(head []byte) (err error) {
	if len(head) > MaxRecord {
		return fmt.Errorf("%w: a head of %d bytes", ErrTooLarge, len(head))
	}
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f != nil || j.broken != nil || j.o.ReadOnly {
		if err := j.writable(); err != nil {
			return err
		}
	}
	b := append(encodeFileHeader(), make([]byte, recordHeader+len(head))...)
	copy(b[fileHeader+recordHeader:], head)
	sealRecord(b[fileHeader:], header{kind: kindHead})
	if j.o.Space != nil {
		if err := j.o.Space(int64(len(b))); err != nil {
			return err
		}
	}
	temporary := filepath.Join(j.dir, newName)
	f, err := os.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(temporary, j.path())
	}
	if err != nil {
		f.Close()
		os.Remove(temporary)
		return err
	}
	old := j.f
	j.f, j.head, j.sequence, j.allowance = f, b[fileHeader+recordHeader:], 1, 0
	j.end, j.synced = int64(len(b)), int64(len(b))
	if old != nil {
		old.Close() // it has no name any more
	}
	if err := syncDirectory(j.dir); err != nil {
		j.broken = err // which of the two logs a power cut leaves is unknown
		return err
	}
	return nil
}

// Replay calls fn with the records of complete changes, in order, the head
// excepted. Nothing may be appended meanwhile.
func (j *Journal) Replay(ctx context.Context, fn func(Record) error) error {
	j.mu.Lock()
	f, end := j.f, j.end
	j.mu.Unlock()
	if f == nil {
		return ErrClosed
	}
	r := newScanner(f, end)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, payload, err := r.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return &DamageError{Path: j.path(), Offset: r.at, Reason: err.Error()}
		}
		if h.kind == kindHead || h.kind == kindClosed {
			continue
		}
		if err := fn(Record{Kind: h.kind, Step: h.step, More: h.more, Payload: payload}); err != nil {
			return err
		}
	}
}

// Close syncs the log, notes that it was closed in order, and closes it. It may be
// called twice.
func (j *Journal) Close() error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f == nil {
		return nil
	}
	var err error
	if !j.o.ReadOnly {
		defer release(j.dir)
		if j.broken == nil && j.sequence > 1 {
			err = j.sign()
		}
	}
	err = errors.Join(err, j.f.Close())
	j.f = nil
	return err
}

// sign writes the last record: it says that all before it was durable.
func (j *Journal) sign() error {
	if err := j.f.Sync(); err != nil {
		return err
	}
	j.synced = j.end
	b := make([]byte, recordHeader)
	sealRecord(b, header{kind: kindClosed, sequence: j.sequence, synced: j.synced})
	if j.o.Space != nil && j.o.Space(recordHeader) != nil {
		return nil // the records themselves are safe
	}
	if _, err := j.f.WriteAt(b, j.end); err != nil {
		return j.undo(err)
	}
	return j.f.Sync()
}

func (j *Journal) path() string { return filepath.Join(j.dir, fileName) }

// syncDirectory makes the names in dir durable.
func syncDirectory(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	return errors.Join(err, f.Close())
}
