package torture

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// mountMemory mounts a file system in memory of so many MB.
func mountMemory(dir string, megabytes int) (unmount func() error, err error) {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
		return nil, err
	}
	return func() error { return unmountNow(dir) }, nil
}

func unmountNow(dir string) error {
	if err := unix.Unmount(dir, 0); err != nil {
		return unix.Unmount(dir, unix.MNT_DETACH)
	}
	return nil
}

// makeImage makes an ext4 file system in a file.
func makeImage(path string, megabytes int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = f.Truncate(megabytes << 20)
	f.Close()
	if err != nil {
		return err
	}
	return command("mkfs.ext4", "-q", "-F", "-m", "0", path)
}

func mountImage(image, dir string) (unmount func() error, err error) {
	if err := command("mount", "-o", "loop", image, dir); err != nil {
		return nil, err
	}
	return func() error { return command("umount", dir) }, nil
}

func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// stop freezes a process where it is.
func stop(pid int) error { return unix.Kill(pid, unix.SIGSTOP) }
