package cli

import (
	"fmt"
	"path/filepath"
	"syscall"
)

// nobody runs a process without root's rights.
func nobody() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, NoSetGroups: false}}
}

func mountMemory(dir string, bytes int) error {
	return syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes))
}

func unmount(dir string) error { return syscall.Unmount(dir, 0) }

// usedBytes is the size of the value logs on disk.
func usedBytes(db string) (n int64) {
	logs, _ := filepath.Glob(filepath.Join(db, "blocks", "*.vlog"))
	for _, l := range logs {
		var stat syscall.Stat_t
		if syscall.Stat(l, &stat) == nil {
			n += stat.Blocks * 512
		}
	}
	return n
}
