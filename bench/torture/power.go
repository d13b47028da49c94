package torture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// powerCuts is how many times one iteration cuts the power.
const powerCuts = 3

// power runs a workload on a file system in an image file, stops the process at a
// random moment, and copies the image: what had not been synced is missing from
// the copy, as after a power cut. Then it mounts the copy and looks.
//
// The copy takes a moment, in which the kernel may write back more, so this is
// kinder than a real cut; a database that does not sync fails it all the same.
func (d *driver) power(ctx context.Context, seed uint64, dir string) error {
	rng := newRand(seed)
	for round := range powerCuts {
		if err := ctx.Err(); err != nil {
			return err
		}
		image, cut := filepath.Join(dir, "image"), filepath.Join(dir, "cut")
		mount := filepath.Join(dir, "disk")
		ledgerPath := filepath.Join(dir, fmt.Sprintf("ledger-%d", round))
		if err := os.MkdirAll(mount, 0o755); err != nil {
			return err
		}
		if err := makeImage(image, 512); err != nil {
			d.skip(fmt.Sprintf("power cuts: %v", err))
			return nil
		}
		unmount, err := mountImage(image, mount)
		if err != nil {
			d.skip(fmt.Sprintf("power cuts: an image cannot be mounted: %v", err))
			return nil
		}
		database := filepath.Join(mount, "db")
		p, err := d.start("workload", "-dir", database, "-ledger", ledgerPath, "-scratch", dir, "-bytes", "2000000",
			"-seed", fmt.Sprint(seed+uint64(round)))
		if err == nil {
			ended := make(chan ending, 1)
			go func() { ended <- p.finish(hang, d.see) }()
			time.Sleep(time.Duration(150+rng.IntN(1200)) * time.Millisecond)
			err = stop(p.cmd.Process.Pid)
			if err == nil {
				err = copyFile(image, cut)
			}
			p.cmd.Process.Kill()
			if end := <-ended; end.fault != "" && err == nil {
				d.fault("power", seed, dir, "round %d, before the cut: %s", round, end.fault)
				err = errFault
			}
		}
		if unmountErr := unmount(); err == nil {
			err = unmountErr
		}
		if err == nil {
			err = d.afterCut(seed, round, dir, cut, mount, ledgerPath)
		}
		os.Remove(image)
		if errors.Is(err, errFault) {
			return nil
		}
		os.Remove(cut)
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *driver) afterCut(seed uint64, round int, dir, cut, mount, ledgerPath string) error {
	unmount, err := mountImage(cut, mount)
	if err != nil {
		return err
	}
	d.report.PowerCuts++
	fault := ""
	p, err := d.start("workload", "-dir", filepath.Join(mount, "db"), "-ledger", ledgerPath, "-scratch", dir, "-bytes", "1000000", "-ops", "2")
	if err == nil {
		fault = p.finish(hang, d.see).fault
	}
	if unmountErr := unmount(); err == nil {
		err = unmountErr
	}
	if err == nil && fault != "" {
		d.fault("power", seed, dir, "round %d: %s", round, fault)
		return errFault
	}
	return err
}
