package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"membank/store"
)

// damagesAtOnce is how many copies one iteration damages: the databases that it
// copies are made anew for each.
const damagesAtOnce = 50

// template is a database to damage copies of.
type template struct {
	dir, ledger string
	files       []string // relative to dir
}

// damages makes a database, keeps an older copy, closes it, and makes another
// that is killed; then it damages copies of both.
func (d *driver) damages(ctx context.Context, seed uint64, dir string) error {
	rng := newRand(seed)
	grow := func(name string, from string, ops int, more ...string) (template, error) {
		t := template{dir: filepath.Join(dir, name), ledger: filepath.Join(dir, name+".ledger")}
		if from != "" {
			if err := copyTree(filepath.Join(dir, from), t.dir); err != nil {
				return t, err
			}
			if err := copyFile(filepath.Join(dir, from+".ledger"), t.ledger); err != nil {
				return t, err
			}
		}
		args := append([]string{"workload", "-dir", t.dir, "-ledger", t.ledger, "-scratch", dir, "-bytes", "1500000",
			"-ops", fmt.Sprint(ops), "-seed", fmt.Sprint(seed + uint64(ops))}, more...)
		p, err := d.start(args...)
		if err != nil {
			return t, err
		}
		end := p.finish(hang, d.see)
		if end.fault != "" {
			d.fault("damages", seed, dir, "making a database: %s", end.fault)
			return t, errFault
		}
		t.files, err = filesBelow(t.dir)
		return t, err
	}
	older, err := grow("older", "", 6)
	if errors.Is(err, errFault) {
		return nil
	}
	if err != nil {
		return err
	}
	closed, err := grow("closed", "older", 10)
	if errors.Is(err, errFault) {
		return nil
	}
	if err != nil {
		return err
	}
	killed, err := grow("killed", "older", 8, "-die")
	if errors.Is(err, errFault) {
		return nil
	}
	if err != nil {
		return err
	}
	var p *process
	stop := func() {
		if p != nil {
			p.stdin.Close()
			p.finish(hang, nil)
			p = nil
		}
	}
	defer stop()
	for i := range damagesAtOnce {
		if err := ctx.Err(); err != nil {
			return err
		}
		if d.enough("damages") {
			return nil
		}
		from := closed
		if i%4 == 3 {
			from = killed
		}
		caseDir := filepath.Join(dir, fmt.Sprintf("case-%d", i))
		if err := copyTree(from.dir, caseDir); err != nil {
			return err
		}
		caseLedger := caseDir + ".ledger"
		if err := copyFile(from.ledger, caseLedger); err != nil {
			return err
		}
		what := "nothing"
		if i%50 != 25 { // a sound copy now and then, which must be found right
			kind, file, text, err := damage(rng, caseDir, from, older)
			if err != nil {
				return err
			}
			what = text
			d.report.Damages.Total++
			d.report.Damages.Kinds[kind]++
			d.report.Damages.Files[fileKind(file)]++
		}
		if p == nil {
			if p, err = d.start("examine"); err != nil {
				return err
			}
		}
		outcome, fault := p.ask(damagedCase{Dir: caseDir, Ledger: caseLedger, Seed: seed})
		if outcome == "" && fault == "" {
			end := p.finish(time.Second, nil)
			p = nil
			fault = end.fault
		}
		if what == "nothing" && outcome != outcomeRight && fault == "" {
			fault = "a sound copy is not found right"
		}
		switch outcome {
		case outcomeRight:
			d.report.Damages.Right++
		case outcomeReads:
			d.report.Damages.Reads++
		case outcomeRefused:
			d.report.Damages.Refused++
		}
		if fault != "" {
			d.fault("damages", seed, caseDir, "case %d, %s copy, %s: %s", i, filepath.Base(from.dir), what, fault)
			if len(d.report.Faults) >= d.Faults {
				return nil
			}
			continue
		}
		os.RemoveAll(caseDir)
		os.Remove(caseLedger)
	}
	return nil
}

var errFault = errors.New("a fault has been noted")

// ask sends a case and waits for the answer. Both results are empty when the
// child died.
func (p *process) ask(c damagedCase) (outcome, fault string) {
	b, err := json.Marshal(c)
	if err != nil {
		return "", err.Error()
	}
	if _, err := p.stdin.Write(append(b, '\n')); err != nil {
		return "", ""
	}
	timer := time.AfterFunc(hang, func() { p.cmd.Process.Kill() })
	e, ok := p.next()
	if !timer.Stop() {
		return "", fmt.Sprintf("hangs for %v", hang)
	}
	if !ok {
		return "", ""
	}
	return e.Outcome, e.Message
}

// damage does one random thing to the copy of a template in dir. It returns what
// kind it was, to which file, and the whole in words.
func damage(r *rand.Rand, dir string, t, older template) (kind, file, text string, err error) {
	file = t.files[r.IntN(len(t.files))]
	path := filepath.Join(dir, file)
	info, err := os.Stat(path)
	if err != nil {
		return "", "", "", err
	}
	b, err := readData(path)
	if err != nil {
		return "", "", "", err
	}
	// What lies behind the last byte of a sparse log is nothing.
	filled := len(bytes.TrimRight(b, "\x00"))
	at := func(n int) int {
		switch {
		case n <= 1:
			return 0
		case r.IntN(4) == 0:
			return min(n-1, []int{0, 7, 8, 11, 12, 19, 20, 28}[r.IntN(8)]) // edges of headers
		case r.IntN(8) == 0:
			return max(0, n-1-r.IntN(16))
		}
		return r.IntN(n)
	}
	kind = []string{"flip", "flip", "flip", "flip", "cut", "cut", "cut", "zero", "append", "missing", "older", "empty"}[r.IntN(12)]
	if filled == 0 && kind != "missing" {
		kind = "append"
	}
	switch kind {
	case "flip":
		i, bit := at(filled), r.IntN(8)
		b[i] ^= 1 << bit
		text = fmt.Sprintf("bit %d of byte %d of %s flipped", bit, i, file)
		err = writeAt(path, b[i:i+1], i)
	case "cut":
		n := at(filled)
		text = fmt.Sprintf("%s of %d bytes cut to %d", file, info.Size(), n)
		err = os.Truncate(path, int64(n))
	case "zero":
		from := at(filled) / 512 * 512
		n := min(512<<r.IntN(4), filled-from)
		text = fmt.Sprintf("%d bytes of %s zeroed from %d", n, file, from)
		err = writeAt(path, make([]byte, n), from)
	case "append":
		rubbish := make([]byte, 1+r.IntN(300))
		for i := range rubbish {
			rubbish[i] = byte(r.Uint32())
		}
		text = fmt.Sprintf("%d bytes appended to %s", len(rubbish), file)
		err = writeAt(path, rubbish, int(info.Size()))
	case "missing":
		text = file + " removed"
		err = os.Remove(path)
	case "empty":
		text = file + " emptied"
		err = os.Truncate(path, 0)
	case "older":
		text = file + " replaced by its older copy"
		err = copyOver(filepath.Join(older.dir, file), path)
		if errors.Is(err, fs.ErrNotExist) {
			// There was none: the older state of this file is that it is not there.
			text = file + " removed (it was not there in the older copy)"
			err = os.Remove(path)
		}
	}
	return kind, file, text, err
}

// fileKind groups files for the report.
func fileKind(file string) string {
	name := filepath.Base(file)
	if ext := filepath.Ext(name); ext == ".vlog" || ext == ".sst" || ext == ".mem" {
		return ext
	}
	return name
}

func writeAt(path string, b []byte, at int) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, int64(at))
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

func filesBelow(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		// LOCK holds nothing; the ballast is never read.
		if err != nil || e.IsDir() || e.Name() == "LOCK" || e.Name() == "ballast" {
			return err
		}
		relative, err := filepath.Rel(dir, path)
		files = append(files, relative)
		return err
	})
	return files, err
}

// copyTree copies a database. The ballast, which is only ever appended to or
// removed, becomes a link.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		switch {
		case e.IsDir():
			return os.MkdirAll(target, 0o755)
		case e.Name() == "ballast":
			return os.Link(path, target)
		}
		return copyFile(path, target)
	})
}

func copyOver(from, to string) error {
	if _, err := os.Stat(from); err != nil {
		return err
	}
	if err := os.Remove(to); err != nil {
		return err
	}
	return copyFile(from, to)
}

// readData reads a file up to the hole that it ends in, if it does.
func readData(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, store.DataEnd(f, info.Size()))
	_, err = io.ReadFull(f, b)
	return b, err
}

// copyFile copies a file but for the hole that it ends in: a live log is nearly
// 512 MiB of that.
func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, io.NewSectionReader(src, 0, store.DataEnd(src, info.Size())))
	if err == nil {
		err = dst.Truncate(info.Size())
	}
	if closeErr := dst.Close(); err == nil {
		err = closeErr
	}
	if err != nil && strings.Contains(err.Error(), "no space") {
		err = fmt.Errorf("no room for copies; give another directory: %w", err)
	}
	return err
}
