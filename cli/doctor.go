package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"membank/simd"
	"membank/store"

	"github.com/klauspost/cpuid/v2"
	ucli "github.com/urfave/cli/v2"
)

// finding is one line of doctor's verdict.
type finding struct {
	Name    string `json:"name"`
	Verdict string `json:"verdict"` // "ok", "warn" or "fail"
	Value   string `json:"value"`
	Remedy  string `json:"remedy,omitempty"`
}

// diagnosis is what doctor saw of the machine and the database.
type diagnosis struct {
	Version  string    `json:"version"`
	DB       string    `json:"db"`
	CPU      string    `json:"cpu"`
	Features []string  `json:"features"`
	SIMD     string    `json:"simd"`
	Cores    int       `json:"cores"`
	Findings []finding `json:"findings"`
	Verdict  string    `json:"verdict"` // the worst
}

func (d *diagnosis) add(name, verdict, value, remedy string) {
	d.Findings = append(d.Findings, finding{name, verdict, value, remedy})
	if verdict == "fail" || verdict == "warn" && d.Verdict == "ok" {
		d.Verdict = verdict
	}
}

func doctorCommand() *ucli.Command {
	return &ucli.Command{
		Name: "doctor", Usage: "look at the machine and the database for trouble",
		Description: "Says what is well, what is doubtful and what is broken, and what to do about it.\n" +
			"Changes nothing. Exit code 1 if something fails, 5 if the database is damaged.\n\n  membank doctor",
		Action: action(nil, runDoctor),
	}
}

func runDoctor(ctx context.Context, s *session, _ *ucli.Context, _ []string) error {
	d := diagnosis{
		Version: version(), DB: s.dir, CPU: strings.TrimSpace(cpuid.CPU.BrandName), Features: cpuFeatures(),
		SIMD: string(simd.Active()), Cores: runtime.NumCPU(), Verdict: "ok",
	}
	d.checkKernels()
	d.checkCores(s)
	d.checkMemory(s)
	d.checkDisk(s.dir)
	d.checkLimits()
	err := d.checkDatabase(ctx, s)
	if e := s.emit(d, func(w io.Writer) { printDiagnosis(w, d) }); e != nil {
		return e
	}
	if d.Verdict != "fail" {
		return nil
	}
	if err != nil {
		return err
	}
	return &failure{exit: exitFailure, code: "failure", text: "doctor: something fails (the lines marked fail say what to do)"}
}

// cpuFeatures are those the kernels care about, of those the CPU has.
func cpuFeatures() []string {
	list := []string{}
	for _, f := range []cpuid.FeatureID{cpuid.SSE2, cpuid.AVX, cpuid.AVX2, cpuid.FMA3, cpuid.F16C, cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512DQ, cpuid.AVX512VL, cpuid.AVX512VNNI, cpuid.ASIMD} {
		if cpuid.CPU.Supports(f) {
			list = append(list, f.String())
		}
	}
	return list
}

func (d *diagnosis) checkKernels() {
	levels := simd.Levels()
	names := make([]string, len(levels))
	for i, l := range levels {
		names[i] = string(l)
	}
	value := fmt.Sprintf("%s (this CPU can: %s)", simd.Active(), strings.Join(names, ", "))
	forced := os.Getenv("MEMBANK_SIMD")
	switch {
	case forced != "" && forced != string(simd.Active()):
		d.add("simd", "warn", value, "MEMBANK_SIMD="+forced+" asks for a level that this CPU lacks; unset it")
	case forced != "":
		d.add("simd", "warn", value+", forced by MEMBANK_SIMD", "unset MEMBANK_SIMD for the fastest level")
	case simd.Active() == "generic":
		d.add("simd", "warn", value, "searches run without vector kernels; an x86-64 CPU with AVX2 is ten times as fast")
	default:
		d.add("simd", "ok", value, "")
	}
}

func (d *diagnosis) checkCores(s *session) {
	value := fmt.Sprintf("%d, %s", runtime.NumCPU(), orUnknown(d.CPU))
	if s.threads > runtime.NumCPU() {
		d.add("cores", "warn", value, fmt.Sprintf("--threads %d is more than there are; leave it out", s.threads))
		return
	}
	d.add("cores", "ok", value, "")
}

func orUnknown(text string) string {
	if text == "" {
		return "unknown"
	}
	return text
}

// existing is the nearest directory of the path that is there.
func existing(path string) string {
	for dir := filepath.Clean(path); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
		if parent := filepath.Dir(dir); parent == dir {
			return dir
		}
	}
}

// checkDatabase opens the database as a reading command would. The error is what
// the open said, nil when there is nothing wrong with it.
func (d *diagnosis) checkDatabase(ctx context.Context, s *session) error {
	if _, err := os.Stat(s.dir); errors.Is(err, fs.ErrNotExist) {
		d.add("database", "ok", s.dir+" does not exist yet", "")
		return nil
	}
	if holder, held := store.LockHolder(s.dir); held && !holder.Reading {
		d.add("lock", "warn", "held by "+holder.String(), "other commands wait for it to end, or stop it")
	}
	start := time.Now()
	err := s.reading(ctx, func(db *store.DB) error {
		infos, err := db.Banks("")
		if err != nil {
			return err
		}
		var bytes int64
		for _, i := range infos {
			bytes += i.Bytes
		}
		d.add("database", "ok", fmt.Sprintf("%s opens in %s: %s, %s", s.dir, seconds(time.Since(start).Seconds()), plural(len(infos), "bank"), size(bytes)), "")
		return nil
	})
	if err == nil {
		return nil
	}
	_, _, line := meaning(err)
	what, remedy := line, ""
	if i := strings.LastIndex(line, " ("); i > 0 && strings.HasSuffix(line, ")") {
		what, remedy = line[:i], line[i+2:len(line)-1]
	}
	d.add("database", "fail", what, remedy)
	return err
}

func printDiagnosis(w io.Writer, d diagnosis) {
	width := 0
	for _, f := range d.Findings {
		width = max(width, len(f.Name))
	}
	for _, f := range d.Findings {
		fmt.Fprintf(w, "%-4s  %-*s  %s\n", f.Verdict, width, f.Name, f.Value)
		if f.Remedy != "" {
			fmt.Fprintf(w, "      %-*s  -> %s\n", width, "", f.Remedy)
		}
	}
	if len(d.Features) > 0 {
		fmt.Fprintf(w, "membank %s; CPU features %s\n", d.Version, strings.Join(d.Features, " "))
	}
}
