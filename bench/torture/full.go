package torture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"membank/store"
)

// full fills small file systems: with a workload until the store refuses, then to
// the last byte by another program's file, and last by another program while a
// workload runs.
func (d *driver) full(ctx context.Context, seed uint64, dir string) error {
	for _, megabytes := range []int{32, 64, 128, 256} {
		mount := filepath.Join(dir, fmt.Sprintf("disk-%d", megabytes))
		if err := os.Mkdir(mount, 0o755); err != nil {
			return err
		}
		unmount, err := mountMemory(mount, megabytes)
		if err != nil {
			d.skip(fmt.Sprintf("full disks: a file system of %d MB cannot be mounted: %v", megabytes, err))
			return nil
		}
		d.report.Full.Disks++
		err = d.fill(seed, uint64(megabytes), dir, mount)
		if unmountErr := unmount(); err == nil {
			err = unmountErr
		}
		if err != nil && !errors.Is(err, errFault) {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (d *driver) fill(seed, megabytes uint64, dir, mount string) error {
	database, ledgerPath := filepath.Join(mount, "db"), filepath.Join(dir, filepath.Base(mount)+".ledger")
	hog := filepath.Join(mount, "hog")
	child := func(command string, more ...string) (ending, error) {
		args := append([]string{command, "-dir", database, "-ledger", ledgerPath, "-scratch", dir, "-seed", fmt.Sprint(seed + megabytes)}, more...)
		p, err := d.start(args...)
		if err != nil {
			return ending{}, err
		}
		return p.finish(hang, d.see), nil
	}
	step := func(what, command string, allowNoSpace bool, more ...string) (ending, error) {
		end, err := child(command, more...)
		if err == nil && end.noSpace {
			d.report.Full.Refused++
			if !allowNoSpace {
				end.fault = "refused for want of room"
			}
		}
		if err == nil && end.fault != "" {
			d.fault("full", seed, dir, "disk %s, %s: %s", filepath.Base(mount), what, end.fault)
			return end, errFault
		}
		return end, err
	}
	// Fill it until the store refuses.
	if _, err := step("filling", "workload", true, "-fills-up", "-ops", "600", "-bytes", "8000000"); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(database, "membank.json")); err != nil {
		return nil // too small for a database at all
	}
	if _, err := step("reading when it is filled", "check", false, "-read-only"); err != nil {
		return err
	}
	// Another program takes the rest.
	if err := fillUp(hog); err != nil {
		return err
	}
	if _, err := step("reading when others have filled it", "check", false, "-read-only"); err != nil {
		return err
	}
	if _, err := step("writing when others have filled it", "check", true); err != nil {
		return err
	}
	freed, err := store.ReleaseBallast(database)
	if err != nil {
		return err
	}
	if _, err := step("opening without the ballast", "check", freed == 0, "-no-ingest"); err != nil {
		return err
	}
	if err := os.Remove(hog); err != nil {
		return err
	}
	if _, err := step("with room again", "check", true); err != nil {
		return err
	}
	// Another program fills the disk between the store's look at it and its write.
	// No protection is possible there: the process may die, but lose nothing.
	for round := range 3 {
		p, err := d.start("workload", "-dir", database, "-ledger", ledgerPath, "-scratch", dir,
			"-seed", fmt.Sprint(seed+megabytes+uint64(round)), "-fills-up", "-ops", "60", "-bytes", "4000000")
		if err != nil {
			return err
		}
		filled := make(chan error, 1)
		go func() {
			time.Sleep(time.Duration(50+100*round) * time.Millisecond)
			filled <- fillUp(hog)
		}()
		end := p.finish(hang, d.see)
		if err := <-filled; err != nil {
			return err
		}
		if end.fault != "" && end.code != exitFault {
			d.report.Full.Died++
		}
		if err := os.Remove(hog); err != nil {
			return err
		}
		if _, err := step("after others filled it during a write", "check", true); err != nil {
			return err
		}
	}
	return nil
}

// fillUp writes a file until there is no room.
func fillUp(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 1<<20)
	for i := range b {
		b[i] = byte(i*7 + 1)
	}
	for len(b) > 0 {
		if _, err := f.Write(b); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				return err
			}
			b = b[:len(b)/2]
		}
	}
	return nil
}
