package journal

import (
	"errors"
	"fmt"
)

var (
	// ErrNone: the directory holds no log.
	ErrNone = errors.New("no log")
	// ErrExists: Create found a log already.
	ErrExists = errors.New("the log exists already")
	// ErrBusy: this process has the log open for writing.
	ErrBusy = errors.New("the log is open already")
	// ErrDamaged: bytes that were durable are not what was written. The error is
	// a *DamageError.
	ErrDamaged = errors.New("the log is damaged")
	// ErrNewer: a newer membank wrote the log.
	ErrNewer = errors.New("the log was written by a newer membank")
	// ErrReadOnly: a write to a log that was opened for reading.
	ErrReadOnly = errors.New("the log is open for reading only")
	// ErrClosed: the log was closed before the call.
	ErrClosed = errors.New("the log is closed")
	// ErrTooLarge: a record beyond MaxRecord.
	ErrTooLarge = errors.New("record too large for a log")
)

// DamageError says where a log is damaged.
type DamageError struct {
	Path   string
	Offset int64
	Reason string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("%v: %s at byte %d: %s", ErrDamaged, e.Path, e.Offset, e.Reason)
}
func (e *DamageError) Unwrap() error { return ErrDamaged }
