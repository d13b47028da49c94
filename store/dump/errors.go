package dump

import (
	"errors"
	"fmt"
	"strings"
)

// ErrFormat is wrapped by every error about what a file holds: not a format this
// package reads, damaged, or a shape or type that embeddings do not have. Errors
// of the operating system (no such file, permission, a failing disk) wrap theirs
// instead, so fs.ErrNotExist and the like are found with errors.Is.
var ErrFormat = errors.New("bad file format")

// Error says which file, which row, what is wrong and what to do. It reads as
// one line:
//
//	train.npy: the header promises 1000 rows of 1024 bytes, 412 are there (the file is cut short: copy it again)
type Error struct {
	Path   string // the file; a member of an .npz is written file.npz[member]
	Row    int64  // row the error is about, counted from 0; −1 when it is about the file
	What   string // what is wrong
	Remedy string // what to do; may be empty
	Err    error  // ErrFormat, or the error of the operating system or context
}

// Error is the line described at the type, without a newline.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	if e.Row >= 0 {
		fmt.Fprintf(&b, "row %d: ", e.Row)
	}
	b.WriteString(e.What)
	if e.Remedy != "" {
		b.WriteString(" (" + e.Remedy + ")")
	}
	return b.String()
}

// Unwrap gives ErrFormat or the underlying cause to errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Err }

// bad starts an error about a whole file; whoever knows the path adds it with at.
func bad(format string, args ...any) *Error {
	return &Error{Row: -1, What: fmt.Sprintf(format, args...), Err: ErrFormat}
}

// fix adds the remedy.
func (e *Error) fix(format string, args ...any) *Error {
	e.Remedy = fmt.Sprintf(format, args...)
	return e
}

// row says which row the error is about.
func (e *Error) row(i int64) *Error {
	e.Row = i
	return e
}

// in names the file the error is about.
func (e *Error) in(path string) *Error {
	e.Path = path
	return e
}

// at names the file in err. An error that is not yet an *Error is one of reading.
func at(path string, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		if e.Path == "" {
			e.Path = path
		}
		return e
	}
	return &Error{Path: path, Row: -1, What: "cannot be read: " + cause(err), Err: err}
}

// cause is the part of an operating system error behind the operation and path,
// which our own line already says.
func cause(err error) string {
	for inner := err; ; {
		next := errors.Unwrap(inner)
		if next == nil {
			return inner.Error()
		}
		inner = next
	}
}

// quote shows bytes of a file in an error without letting them fill the screen.
func quote(s string) string {
	if len(s) > 40 {
		return fmt.Sprintf("%q…", s[:40])
	}
	return fmt.Sprintf("%q", s)
}
