package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Holder is a process that has a database open.
type Holder struct {
	PID     int       // 0 when it is outside our process namespace
	Command string    // its command line, empty when it may not be read
	Since   time.Time // when it opened the database, or when it started; zero if unknown
	Reading bool      // holds the shared lock of a reader
	Others  int       // how many more processes hold the (shared) lock
}

// String names the holder in one phrase: `process 4711 (membank serve), writing
// since 14:02:11`.
func (h Holder) String() string {
	var s strings.Builder
	if h.PID > 0 {
		fmt.Fprintf(&s, "process %d", h.PID)
	} else {
		s.WriteString("a process that this one cannot see")
	}
	if h.Command != "" {
		fmt.Fprintf(&s, " (%s)", h.Command)
	}
	if h.Reading {
		s.WriteString(", reading")
	} else {
		s.WriteString(", writing")
	}
	if !h.Since.IsZero() {
		layout := "15:04:05"
		if time.Since(h.Since) > 20*time.Hour {
			layout = "2006-01-02 15:04:05"
		}
		fmt.Fprintf(&s, " since %s", h.Since.Local().Format(layout))
	}
	if h.Others > 0 {
		fmt.Fprintf(&s, ", and %d more", h.Others)
	}
	return s.String()
}

// LockHolder tells which process has the database in dir open, and whether any
// does. A writer comes before readers; our own process counts. A LOCK file left
// behind by a crash is not a holder.
func LockHolder(dir string) (Holder, bool) {
	holders := lockHolders(blocksDirectory(dir))
	if len(holders) == 0 {
		return Holder{}, false
	}
	first := holders[0]
	for _, h := range holders {
		if !h.Reading {
			first = h
			break
		}
	}
	first.Others = len(holders) - 1
	return first, true
}

// isLockFailure tells whether err is Badger's (or our own) failure to lock the
// directory.
func isLockFailure(err error) bool {
	return errors.Is(err, syscall.EWOULDBLOCK) ||
		strings.Contains(err.Error(), "Cannot acquire directory lock")
}

// lockError turns a failure to lock the database in dir into ErrLocked, which
// says who holds it and what to do. Any other error is returned as it is.
func lockError(dir string, err error) error {
	if err == nil || !isLockFailure(err) {
		return err
	}
	who := "another process"
	if h, ok := LockHolder(dir); ok {
		who = h.String()
	}
	return fmt.Errorf("%s: %w by %s (wait for it or stop it)",
		dir, ErrLocked, who)
}

// writtenPID returns the process that the LOCK file in blocks names, and when it
// was written.
func writtenPID(blocks string) (pid int, since time.Time) {
	path := filepath.Join(blocks, "LOCK")
	b, err := os.ReadFile(path)
	if err != nil || len(b) > 32 {
		return 0, time.Time{}
	}
	pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 0 {
		return 0, time.Time{}
	}
	if info, err := os.Stat(path); err == nil {
		since = info.ModTime()
	}
	return pid, since
}
