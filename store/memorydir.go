package store

import "path/filepath"

// memoryName is the directory of the logs of memory banks, in the database
// directory: memory/BANK/. Small values that are overwritten often have no place
// among the blocks.
const memoryName = "memory"

// MemoryRoot is the directory below which memory banks keep their logs. It need
// not exist. The database's lock covers it: who holds the database holds them.
func (db *DB) MemoryRoot() string { return filepath.Join(db.dir, memoryName) }

// MemoryDir is the directory of one memory bank's log. It need not exist. A
// bank's name has parts that begin with a letter or digit, so files beside them
// begin with something else. Errors: ErrBadName.
func (db *DB) MemoryDir(bank string) (string, error) {
	if err := CheckName(bank); err != nil {
		return "", err
	}
	return filepath.Join(db.MemoryRoot(), filepath.FromSlash(bank)), nil
}

// CheckSpace returns ErrNoSpace unless need bytes can be written in the database
// directory with the reserve left over that Badger needs (see space.go).
func (db *DB) CheckSpace(need int64) error { return checkSpace(db.dir, need) }
