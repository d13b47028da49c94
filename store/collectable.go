package store

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/dgraph-io/badger/v4"
)

// collectable returns ErrCorrupt, naming a file, unless Badger's value log
// collection would find every value that is to be kept. Collection walks a log
// file from its start to the first entry that fails its checksum, moves what is
// alive up to there, and removes the file. So damage to an entry that nobody needs
// any more, which no check of banks sees, takes what lies behind it along.
//
// It reads all value logs. Where each is sound to its end, as ever, that is all;
// the torn entry that a killed writer leaves at the end of one is told from damage
// by looking for the values that should be there.
func (db *DB) collectable() error {
	db.handle.RLock()
	defer db.handle.RUnlock()
	if db.badger == nil {
		return ErrClosed
	}
	names, err := filepath.Glob(filepath.Join(blocksDirectory(db.dir), "*.vlog"))
	if err != nil {
		return err
	}
	unsound := ""
	for _, name := range names {
		sound, err := walkWhole(name, nil)
		if err != nil {
			return err
		}
		if !sound {
			unsound = name
		}
	}
	if unsound == "" {
		return nil
	}
	found := map[string]struct{}{}
	for _, name := range names {
		if _, err := walkWhole(name, func(key []byte) { found[string(key)] = struct{}{} }); err != nil {
			return err
		}
	}
	txn := db.badger.NewTransaction(false)
	defer txn.Discard()
	options := badger.DefaultIteratorOptions
	options.PrefetchValues = false
	it := txn.NewIterator(options)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		key := binary.BigEndian.AppendUint64(item.KeyCopy(nil), math.MaxUint64-item.Version())
		if _, ok := found[string(key)]; ok || item.EstimatedSize() < valueThreshold {
			continue
		}
		// A value a little shorter than the threshold is not in a log at all.
		long := false
		if err := item.Value(func(v []byte) error { long = len(v) == 0 || len(v) >= valueThreshold; return nil }); err != nil {
			return err
		}
		if long {
			return corruptFile(filepath.Join(blocksName, filepath.Base(unsound)),
				"an entry that no bank needs is damaged, and compaction would lose what lies behind it")
		}
	}
	return nil
}

// walkWhole calls fn with the keys of a log's sound entries, and tells whether
// nothing but zeros lies behind them.
func walkWhole(path string, fn func(key []byte)) (sound bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	last, err := lastByte(f, info.Size())
	if err != nil {
		return false, err
	}
	end, err := walkLog(f, info.Size(), fn)
	return last < end, err
}

// sealNewest adds an empty value log after the newest, if that holds anything, so
// that Badger's next writing open leaves it alone (see preflight.go). Badger must
// be closed. When another process has come in, that one has done it.
func sealNewest(dir string) error {
	blocks := blocksDirectory(dir)
	unlock, err := lockDirectory(blocks, false)
	if err != nil {
		if isLockFailure(err) {
			return nil
		}
		return err
	}
	defer unlock()
	names, err := filepath.Glob(filepath.Join(blocks, "*.vlog"))
	if err != nil || len(names) == 0 {
		return err
	}
	var numbers []uint64
	for _, name := range names {
		number, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(name), ".vlog"), 10, 32)
		if err != nil {
			return fmt.Errorf("value log %s: %w", name, err)
		}
		numbers = append(numbers, number)
	}
	newest := slices.Max(numbers)
	if info, err := os.Stat(filepath.Join(blocks, valueLogName(newest))); err != nil || info.Size() == logHeaderSize {
		return err
	}
	return writeSeal(dir, newest+1)
}
