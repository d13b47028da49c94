package store

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockHolders lists the processes with an flock on the directory blocks, from
// /proc/locks by inode:
//
//	12: FLOCK  ADVISORY  WRITE 4711 fe:00:131074 0 EOF
//
// Some file systems (btrfs, overlayfs) show another device there than stat does,
// so the inode decides and the device only where it matches for some line.
func lockHolders(blocks string) []Holder {
	var st unix.Stat_t
	if err := unix.Stat(blocks, &st); err != nil {
		return nil
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return heldByWriter(blocks)
	}
	inode := strconv.FormatUint(st.Ino, 10)
	device := fmt.Sprintf("%02x:%02x", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)))
	var exact, sameInode []Holder
	for line := range bytes.Lines(locks) {
		fields := strings.Fields(string(line))
		// A waiter is "12: -> FLOCK ...", one field longer; it holds nothing.
		if len(fields) < 6 || fields[1] != "FLOCK" {
			continue
		}
		colon := strings.LastIndexByte(fields[5], ':')
		if colon < 0 || fields[5][colon+1:] != inode {
			continue
		}
		pid, err := strconv.Atoi(fields[4])
		if err != nil {
			continue
		}
		h := describe(pid, blocks)
		h.Reading = fields[3] == "READ"
		if fields[5][:colon] == device {
			exact = append(exact, h)
		} else {
			sameInode = append(sameInode, h)
		}
	}
	if len(exact) > 0 {
		return exact
	}
	return sameInode
}

// heldByWriter serves where /proc/locks cannot be read: the LOCK file's process,
// if it lives.
func heldByWriter(blocks string) []Holder {
	pid, _ := writtenPID(blocks)
	if pid == 0 || unix.Kill(pid, 0) == unix.ESRCH {
		return nil
	}
	return []Holder{describe(pid, blocks)}
}

func describe(pid int, blocks string) Holder {
	if pid < 0 {
		pid = 0
	}
	h := Holder{PID: pid}
	if pid == 0 {
		return h
	}
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil {
		line := strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))
		if len(line) > 120 {
			line = line[:117] + "..."
		}
		h.Command = line
	}
	if writer, since := writtenPID(blocks); writer == pid {
		h.Since = since
	} else if info, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
		h.Since = info.ModTime()
	}
	return h
}

// lockDirectory takes Badger's own lock on dir without waiting, so that the
// pre-flight never looks at (or mends) a database that a process has open. The
// returned function releases it.
func lockDirectory(dir string, shared bool) (func(), error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	how := unix.LOCK_EX
	if shared {
		how = unix.LOCK_SH
	}
	if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("directory lock on %q: %w", dir, err)
	}
	return func() { f.Close() }, nil
}
