package cli

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What doctor asks the kernel of Linux about.

// fileSystems names the magic numbers of statfs that people have disks of.
var fileSystems = map[int64]string{
	unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.NFS_SUPER_MAGIC: "nfs", unix.SMB2_SUPER_MAGIC: "smb", unix.CIFS_SUPER_MAGIC: "cifs",
	unix.FUSE_SUPER_MAGIC: "fuse", unix.F2FS_SUPER_MAGIC: "f2fs", unix.SQUASHFS_MAGIC: "squashfs", 0x2fc12fc1: "zfs", 0xbd00bd0: "lustre",
	unix.V9FS_MAGIC: "9p",
}

// remote file systems lock and map files in ways of their own.
var remote = map[string]bool{"nfs": true, "smb": true, "cifs": true, "fuse": true, "lustre": true, "9p": true}

func (d *diagnosis) checkDisk(db string) {
	dir := existing(db)
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		d.add("disk", "warn", dir+": "+err.Error(), "see that the directory can be read")
		return
	}
	name := fileSystems[int64(fs.Type)]
	if name == "" {
		name = fmt.Sprintf("file system %#x", fs.Type)
	}
	free := int64(fs.Bavail) * int64(fs.Bsize)
	value := fmt.Sprintf("%s free of %s on %s at %s", size(free), size(int64(fs.Blocks)*int64(fs.Bsize)), name, dir)
	switch {
	case fs.Flags&unix.ST_RDONLY != 0:
		d.add("disk", "warn", value+", read-only", "banks can be read there, not written")
	case free < 256<<20:
		d.add("disk", "fail", value, "an ingest needs the size of its features and a reserve of 64 MiB and more; free some space")
	case free < 2<<30:
		d.add("disk", "warn", value, "an ingest needs the size of its features and a reserve of 64 MiB and more")
	default:
		d.add("disk", "ok", value, "")
	}
	switch {
	case remote[name]:
		d.add("file system", "warn", name+" is reached over a network or another program", "locks and crash safety are the server's; prefer a local disk")
	case name == "tmpfs":
		d.add("file system", "warn", "tmpfs lives in memory", "what is there is gone after a restart")
	}
}

func (d *diagnosis) checkMemory(s *session) {
	total, available := memoryInfo()
	if limit := cgroupLimit(); limit > 0 && limit < total {
		total, available = limit, min(available, limit)
	}
	value := fmt.Sprintf("%s available of %s", size(available), size(total))
	switch {
	case total == 0:
		d.add("memory", "ok", "unknown", "")
	case s.memory > available:
		d.add("memory", "warn", value, "--memory "+size(s.memory)+" is more than is available")
	case available < 1<<30:
		d.add("memory", "warn", value, "give --memory a size below it, e.g. --memory 256MiB")
	default:
		d.add("memory", "ok", value, "")
	}
}

// memoryInfo reads /proc/meminfo, in bytes.
func memoryInfo() (total, available int64) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.ParseInt(fields[1], 10, 64)
		switch fields[0] {
		case "MemTotal:":
			total = kib << 10
		case "MemAvailable:":
			available = kib << 10
		}
	}
	return total, available
}

// cgroupLimit is the memory limit of a container, 0 without one.
func cgroupLimit() int64 {
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if data, err := os.ReadFile(path); err == nil {
			n, _ := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
			return n
		}
	}
	return 0
}

func (d *diagnosis) checkLimits() {
	var files, space unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil {
		value := limitText(files.Cur)
		if files.Cur < 1024 {
			d.add("open files", "warn", value, "a big database has many files; ulimit -n 4096")
		} else {
			d.add("open files", "ok", value, "")
		}
	}
	if unix.Getrlimit(unix.RLIMIT_AS, &space) == nil {
		if space.Cur != unix.RLIM_INFINITY {
			d.add("address space", "warn", size(int64(space.Cur)), "banks are mapped, not read: the limit must exceed the database; ulimit -v unlimited")
		} else {
			d.add("address space", "ok", "unlimited", "")
		}
	}
}

func limitText(n uint64) string {
	if n == unix.RLIM_INFINITY {
		return "unlimited"
	}
	return count(n)
}
