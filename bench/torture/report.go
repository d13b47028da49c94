package torture

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Report says what a run did and found.
type Report struct {
	Seed      uint64         `json:"seed"`
	Seconds   float64        `json:"seconds"`
	Kills     KillReport     `json:"kills"`
	Damages   DamageReport   `json:"damages"`
	Full      FullReport     `json:"full"`
	PowerCuts int            `json:"power_cuts"`
	Changes   map[string]int `json:"changes"` // operations begun, by name
	Skipped   []string       `json:"skipped"` // what could not be tried here, and why
	Faults    []Fault        `json:"faults"`
}

// KillReport counts processes killed. InFlight were killed between the beginning
// and the acknowledgement of a change.
type KillReport struct {
	Total    int            `json:"total"`
	InFlight int            `json:"in_flight"`
	Opening  int            `json:"opening"`
	Steps    map[string]int `json:"steps"`
}

// DamageReport counts damaged copies, and what became of them.
type DamageReport struct {
	Total   int            `json:"total"`
	Kinds   map[string]int `json:"kinds"`
	Files   map[string]int `json:"files"`
	Right   int            `json:"right"`   // every answer was right
	Reads   int            `json:"reads"`   // some reads failed by bank
	Refused int            `json:"refused"` // the database did not open
}

// FullReport counts file systems filled.
type FullReport struct {
	Disks   int `json:"disks"`
	Refused int `json:"refused"` // writes refused with ErrNoSpace
	Died    int `json:"died"`    // processes that a disk filled by another program killed; allowed
}

// Fault is one broken rule.
type Fault struct {
	Scenario string `json:"scenario"`
	Seed     uint64 `json:"seed"`
	Message  string `json:"message"`
	Repeat   string `json:"repeat"` // arguments that repeat it
	Kept     string `json:"kept"`   // directory with the evidence
}

func newReport(seed uint64) Report {
	return Report{
		Seed:    seed,
		Kills:   KillReport{Steps: map[string]int{}},
		Damages: DamageReport{Kinds: map[string]int{}, Files: map[string]int{}},
		Changes: map[string]int{},
		Skipped: []string{}, Faults: []Fault{},
	}
}

// Write prints the report as tables for people.
func (r Report) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "seed\t%d\n", r.Seed)
	fmt.Fprintf(t, "seconds\t%.1f\n", r.Seconds)
	fmt.Fprintf(t, "kills\t%d\t%d within a change, %d while opening, at steps: %s\n", r.Kills.Total, r.Kills.InFlight, r.Kills.Opening, counts(r.Kills.Steps))
	fmt.Fprintf(t, "damages\t%d\t%s\n", r.Damages.Total, counts(r.Damages.Kinds))
	fmt.Fprintf(t, "\t\tof %s\n", counts(r.Damages.Files))
	fmt.Fprintf(t, "\t\tall answers right %d, reads failed by bank %d, open refused %d\n", r.Damages.Right, r.Damages.Reads, r.Damages.Refused)
	fmt.Fprintf(t, "full disks\t%d\t%d writes refused, %d processes killed by a disk filled by others\n", r.Full.Disks, r.Full.Refused, r.Full.Died)
	fmt.Fprintf(t, "power cuts\t%d\n", r.PowerCuts)
	fmt.Fprintf(t, "changes\t\t%s\n", counts(r.Changes))
	for _, s := range r.Skipped {
		fmt.Fprintf(t, "skipped\t\t%s\n", s)
	}
	fmt.Fprintf(t, "faults\t%d\n", len(r.Faults))
	for _, f := range r.Faults {
		fmt.Fprintf(t, "FAULT\t%s\t%s\n\t\trepeat with: %s\n\t\tevidence: %s\n", f.Scenario, f.Message, f.Repeat, f.Kept)
	}
	return t.Flush()
}

func counts(m map[string]int) string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	var parts []string
	for _, name := range names {
		parts = append(parts, fmt.Sprintf("%s %d", name, m[name]))
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, ", ")
}
