//go:build !linux && !darwin

package store

import "math"

// freeBytes does not know here, so a full disk is noticed by the write that
// fails.
func freeBytes(dir string) (int64, error) { return math.MaxInt64, nil }
