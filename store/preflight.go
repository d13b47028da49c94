package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/dgraph-io/badger/v4"
)

// The pre-flight looks at Badger's directory before Badger does, because Badger
// v4.9.6 mends what it finds by throwing away, and says nothing:
//
//   - a table that MANIFEST does not list is deleted, so a short MANIFEST is an
//     empty database. Even a read-only open deletes. The pre-flight hard-links
//     such tables into lost+found (same inode, no space).
//   - the newest value log is cut at the first entry whose checksum fails, also
//     in a database that was closed in order: one flipped bit there takes every
//     later value with it. The pre-flight adds an empty log with the next number
//     (a seal); Badger then checks and cuts only that one, never appends to an old
//     log, and deletes the seal at the next open because it is empty. What is
//     damaged stays as it is: one block fails its own checksum, its neighbours do
//     not.
//   - a memtable log (.mem) is cut at the first bad entry. The pre-flight makes
//     the same cut, after copying the file into lost+found when anything but
//     zeros lies behind it.
//   - a damaged table (.sst) panics or exits the process inside Badger's open. The
//     pre-flight checks all of them first.
//   - an empty .vlog or .mem makes the open fail. A kill leaves one in the moment
//     between creating and sizing it, or between emptying and removing it, which is
//     how Badger deletes. The pre-flight removes it.
//   - nonsense in DISCARD, which holds estimates only, makes value log collection
//     loop for ever. The pre-flight removes it; Badger starts a new one.
//
// When the database was closed in order there is also a closing record (see
// closing.go) that says what every file was, so files that are missing, cut, from
// an older copy or changed are noticed whatever Badger thinks of them.

// preflightReport is what preflight found and did.
type preflightReport struct {
	Clean    bool     // closed in order, and nothing has been changed since
	Kept     []string // files put into lost+found, relative to the database directory
	Removed  []string // empty or senseless files removed, relative likewise
	MadeLost bool     // lost+found was not there before; that of a file system's root is not ours
	// Problems are damaged value logs. They do not stop an open: every block has
	// its own checksum, so reads of what is damaged fail by bank and block, and
	// reads of all else succeed.
	Problems []error
}

const (
	blocksName    = "blocks"
	lostName      = "lost+found"
	logHeaderSize = 20 // key number (8 bytes, 0 without encryption), IV (12 bytes)
)

func blocksDirectory(dir string) string { return filepath.Join(dir, blocksName) }

// preflight prepares dir for a writing open by Badger, and must be called before
// it. The error wraps ErrLocked, ErrNoSpace, or ErrCorrupt naming a file; nothing
// has been changed then. A directory without blocks/ is a new database: no error.
//
// preflight holds Badger's directory lock while it works, so two processes cannot
// mend at once, and releases it for Badger to take.
func preflight(ctx context.Context, dir string) (preflightReport, error) {
	blocks := blocksDirectory(dir)
	if err := checkBlocksPresent(dir); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return preflightReport{}, nil
		}
		return preflightReport{}, err
	}
	unlock, err := lockDirectory(blocks, false)
	if err != nil {
		return preflightReport{}, lockError(dir, err)
	}
	defer unlock()
	if err := checkOpenSpace(dir); err != nil {
		return preflightReport{}, err
	}
	found, err := inspect(ctx, dir)
	if err != nil {
		return preflightReport{}, err
	}
	if err := found.mend(ctx); err != nil {
		return preflightReport{}, err
	}
	// From here on the files will change: what the closing record says ends now.
	if err := removeClosing(dir); err != nil {
		return preflightReport{}, err
	}
	return found.report, found.seal()
}

// preflightReader prepares dir for a read-only open. A database closed in order
// is only looked at. One that was not needs mending before Badger can open it for
// reading; that is done when the directory can be locked and written.
func preflightReader(ctx context.Context, dir string) (preflightReport, error) {
	blocks := blocksDirectory(dir)
	if err := checkBlocksPresent(dir); err != nil {
		return preflightReport{}, err
	}
	unlock, err := lockDirectory(blocks, true)
	if err != nil {
		return preflightReport{}, lockError(dir, err)
	}
	found, err := inspect(ctx, dir)
	unlock()
	if err != nil || found.report.Clean {
		return found.report, err
	}
	unlock, err = lockDirectory(blocks, false)
	if err != nil {
		// Other readers are in, so one of them has mended it already.
		return found.report, nil
	}
	defer unlock()
	if found, err = inspect(ctx, dir); err != nil || found.report.Clean {
		return found.report, err
	}
	if err := found.mend(ctx); err != nil {
		return preflightReport{}, fmt.Errorf("%s was not closed in order and must be mended first, by a command that may write there: %w", dir, err)
	}
	return found.report, nil
}

// afterOpen removes from lost+found what the pre-flight of this open kept there.
// It is called once the open proved complete: Badger opened, and holds what the
// outside record promises.
func afterOpen(dir string, report preflightReport) error {
	var first error
	for _, name := range report.Kept {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) && first == nil {
			first = err
		}
	}
	if report.MadeLost {
		os.Remove(filepath.Join(dir, lostName)) // fails, rightly, unless it is empty
	}
	return first
}

// checkBlocksPresent returns fs.ErrNotExist when dir holds no database yet, and
// ErrCorrupt when its blocks directory has been lost.
func checkBlocksPresent(dir string) error {
	info, err := os.Stat(blocksDirectory(dir))
	if err == nil {
		if !info.IsDir() {
			return corruptFile(blocksName, "is not a directory")
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if rec, readErr := readOutside(dir); readErr == nil && len(rec.Banks) > 0 {
		return corruptFile(blocksName, "is missing, and %d banks were committed to it", len(rec.Banks))
	}
	if _, statErr := os.Stat(filepath.Join(dir, closingName)); statErr == nil {
		return corruptFile(blocksName, "is missing")
	}
	return err
}

// inspection is what a directory holds, by kind.
type inspection struct {
	dir      string
	report   preflightReport
	sizes    map[string]int64 // of all plain files in blocks
	logs     []uint64         // numbers of the value logs, ascending
	newest   uint64           // highest value log number, of those present or recorded
	mems     []string         // memtable logs, ascending
	unlisted []string         // tables that MANIFEST does not list
}

func (in *inspection) path(name string) string {
	return filepath.Join(blocksDirectory(in.dir), name)
}

// inspect reads and checks; it changes nothing.
func inspect(ctx context.Context, dir string) (*inspection, error) {
	in := &inspection{dir: dir, sizes: map[string]int64{}}
	entries, err := os.ReadDir(blocksDirectory(dir))
	if err != nil {
		return in, err
	}
	for _, entry := range entries {
		name := entry.Name()
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // a LOCK that a closing process has just removed
		}
		if err != nil {
			return in, err
		}
		if !info.Mode().IsRegular() {
			continue
		}
		in.sizes[name] = info.Size()
		switch filepath.Ext(name) {
		case ".vlog":
			number, err := strconv.ParseUint(strings.TrimSuffix(name, ".vlog"), 10, 32)
			if err != nil {
				return in, corruptFile(filepath.Join(blocksName, name), "is not a name that a value log has")
			}
			in.logs = append(in.logs, number)
		case ".mem":
			if _, err := strconv.ParseUint(strings.TrimSuffix(name, ".mem"), 10, 32); err != nil {
				return in, corruptFile(filepath.Join(blocksName, name), "is not a name that a memtable log has")
			}
			in.mems = append(in.mems, name)
		}
	}
	slices.Sort(in.logs)
	slices.Sort(in.mems)
	if len(in.logs) > 0 {
		in.newest = in.logs[len(in.logs)-1]
	}
	if err := in.compareWithClosing(ctx); err != nil {
		return in, err
	}
	listed, err := in.readManifest()
	if err != nil {
		return in, err
	}
	for name := range in.sizes {
		if filepath.Ext(name) == ".sst" && !slices.Contains(listed, name) {
			in.unlisted = append(in.unlisted, name)
		}
	}
	slices.Sort(in.unlisted)
	for _, name := range listed {
		if err := ctx.Err(); err != nil {
			return in, err
		}
		switch size, ok := in.sizes[name]; {
		case !ok:
			return in, corruptFile(filepath.Join(blocksName, name), "is missing, and MANIFEST lists it")
		case size == 0:
			return in, corruptFile(filepath.Join(blocksName, name), "is empty, and MANIFEST lists it")
		}
		// The closing record's checksum of the whole file has been compared.
		if in.report.Clean {
			continue
		}
		if err := checkTable(in.path(name)); err != nil {
			return in, corruptFile(filepath.Join(blocksName, name), "%v", err)
		}
	}
	return in, in.checkLogHeaders()
}

// readManifest returns the names of the tables that MANIFEST lists.
func (in *inspection) readManifest() ([]string, error) {
	manifestName := filepath.Join(blocksName, badger.ManifestFilename)
	f, err := os.Open(in.path(badger.ManifestFilename))
	if errors.Is(err, fs.ErrNotExist) {
		// It is the first file that Badger creates, whole, by a rename.
		for name := range in.sizes {
			switch filepath.Ext(name) {
			case ".sst", ".mem", ".vlog":
				return nil, corruptFile(manifestName, "is missing, and %s is there", filepath.Join(blocksName, name))
			}
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	manifest, _, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions("").WithLogger(nil))
	if err != nil {
		return nil, corruptFile(manifestName, "%v", err)
	}
	listed := make([]string, 0, len(manifest.Tables))
	for number, t := range manifest.Tables {
		name := fmt.Sprintf("%06d.sst", number)
		if t.KeyID != 0 || t.Compression != 0 || t.Level >= 7 {
			return nil, corruptFile(manifestName, "table %s is at level %d, key %d, compression %d, which no membank writes",
				name, t.Level, t.KeyID, t.Compression)
		}
		listed = append(listed, name)
	}
	slices.Sort(listed)
	return listed, nil
}

// checkLogHeaders checks the first bytes of every log, which Badger takes for the
// number of an encryption key.
func (in *inspection) checkLogHeaders() error {
	names := slices.Clone(in.mems)
	for _, number := range in.logs {
		names = append(names, valueLogName(number))
	}
	for _, name := range names {
		full := filepath.Join(blocksName, name)
		if in.sizes[name] == 0 && !in.report.Clean {
			continue // just created or half deleted when the process died: mend removes it
		}
		f, err := os.Open(in.path(name))
		if err != nil {
			return err
		}
		var header [logHeaderSize]byte
		n, err := f.ReadAt(header[:], 0)
		f.Close()
		if n < len(header) {
			return corruptFile(full, "has %d bytes, too few for its header (%v)", in.sizes[name], err)
		}
		if [8]byte(header[:8]) != [8]byte{} {
			return corruptFile(full, "its header is damaged: key number %x", header[:8])
		}
	}
	return nil
}

// mend makes the directory one that Badger opens without throwing anything away
// that is not in lost+found. Only a database that was not closed in order has
// anything to mend, but for unlisted tables and DISCARD.
func (in *inspection) mend(ctx context.Context) error {
	if err := in.mendDiscard(); err != nil {
		return err
	}
	for _, name := range in.unlisted {
		if err := in.keep(name, os.Link); err != nil {
			return err
		}
	}
	if len(in.unlisted) > 0 {
		if err := in.keep(badger.ManifestFilename, copyFile); err != nil {
			return err
		}
	}
	if in.report.Clean {
		return nil
	}
	for _, name := range in.mems {
		if err := ctx.Err(); err != nil {
			return err
		}
		if in.sizes[name] == 0 {
			if err := in.remove(name); err != nil {
				return err
			}
			continue
		}
		if err := in.mendMemtable(name); err != nil {
			return err
		}
	}
	for _, number := range in.logs {
		if name := valueLogName(number); in.sizes[name] == 0 {
			if err := in.remove(name); err != nil {
				return err
			}
		}
	}
	name := valueLogName(in.newest)
	if in.sizes[name] == 0 {
		return nil
	}
	return cutZeros(in.path(name), in.sizes[name])
}

// mendMemtable cuts a memtable log where Badger's replay would stop, keeping a
// copy of it when something lies behind the cut: the torn entry of a killed
// writer, or, after damage, entries that were acknowledged. Which of the two it
// was is known when the outside record is compared.
func (in *inspection) mendMemtable(name string) error {
	f, err := os.OpenFile(in.path(name), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	end, err := logEnd(f, in.sizes[name])
	if err != nil {
		return err
	}
	last, err := lastByte(f, in.sizes[name])
	if err != nil {
		return err
	}
	if last >= end {
		if err := in.keep(name, copyFile); err != nil {
			return err
		}
	}
	if err := f.Truncate(end); err != nil {
		return err
	}
	return f.Sync()
}

// mendDiscard removes DISCARD unless it is what Badger leaves: ascending log
// numbers that exist or existed, each with fewer bytes than a log can have.
func (in *inspection) mendDiscard() error {
	size, ok := in.sizes["DISCARD"]
	if !ok {
		return nil
	}
	if size == 1<<20 {
		b, err := os.ReadFile(in.path("DISCARD"))
		if err != nil {
			return err
		}
		if discardMakesSense(b, in.newest) {
			return nil
		}
	}
	return in.remove("DISCARD")
}

// seal adds an empty value log after the newest, so that Badger leaves that alone.
func (in *inspection) seal() error {
	if in.newest == 0 {
		return nil // no log to protect; a seal without a MANIFEST would look like damage
	}
	return writeSeal(in.dir, in.newest+1)
}

func writeSeal(dir string, number uint64) error {
	path := filepath.Join(blocksDirectory(dir), valueLogName(number))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	var header [logHeaderSize]byte
	copy(header[8:], "membank seal")
	_, err = f.Write(header[:])
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		os.Remove(path)
		return err
	}
	return syncDirectory(blocksDirectory(dir))
}

func (in *inspection) remove(name string) error {
	if err := os.Remove(in.path(name)); err != nil {
		return err
	}
	delete(in.sizes, name)
	in.report.Removed = append(in.report.Removed, filepath.Join(blocksName, name))
	return nil
}

// keep puts a file into lost+found by put (link or copy), under a name that no
// other file has there. A link that an earlier open left is taken over.
func (in *inspection) keep(name string, put func(from, to string) error) error {
	lost := filepath.Join(in.dir, lostName)
	if err := os.Mkdir(lost, 0o755); err == nil {
		in.report.MadeLost = true
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	source, err := os.Stat(in.path(name))
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		kept := name
		if i > 0 {
			kept = fmt.Sprintf("%s.%d", name, i)
		}
		to := filepath.Join(lost, kept)
		info, err := os.Lstat(to)
		if err == nil && !os.SameFile(info, source) {
			continue
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = put(in.path(name), to)
		}
		if err != nil {
			return err
		}
		in.report.Kept = append(in.report.Kept, filepath.Join(lostName, kept))
		return syncDirectory(lost)
	}
}

// corruptFile is damage of a file rather than of a bank: name is relative to the
// database directory.
func corruptFile(name, format string, args ...any) error {
	return &CorruptError{Block: -1, Record: name, Reason: fmt.Sprintf(format, args...)}
}

func valueLogName(number uint64) string { return fmt.Sprintf("%06d.vlog", number) }
