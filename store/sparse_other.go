//go:build !linux

package store

import "os"

// DataEnd does not know here.
func DataEnd(f *os.File, size int64) int64 { return size }
