package store

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// Repair tells what is whole, changes nothing unasked, and with consent makes the
// database open again.
func TestRepair(t *testing.T) {
	ctx := context.Background()
	dir, want := closedDatabase(t)
	damage := map[string]func(dir string){
		"outside record": func(dir string) {
			os.Remove(filepath.Join(dir, outsideNameA))
			os.Remove(filepath.Join(dir, outsideNameB))
		},
		"marker":       func(dir string) { writeFile(t, filepath.Join(dir, markerName), "{}") },
		"key registry": func(dir string) { os.Remove(filepath.Join(dir, blocksName, "KEYREGISTRY")) },
		"value logs": func(dir string) {
			logs, _ := filepath.Glob(filepath.Join(dir, blocksName, "*.vlog"))
			for _, log := range logs {
				os.Remove(log)
			}
		},
		"block": func(dir string) {
			withBadger(t, dir, func(b *badger.DB) { set(t, b, string(manifestKey("plain")), []byte("nonsense")) })
		},
	}
	whole := map[string][2]bool{"outside record": {true, true}, "marker": {true, true}, "key registry": {true, true}, "value logs": {false, false}, "block": {true, false}}
	for name, do := range damage {
		t.Run(name, func(t *testing.T) {
			dir := copyTree(t, dir)
			do(dir)
			for range 2 { // looking changes nothing
				report, err := Repair(ctx, dir, RepairOptions{})
				if err != nil || report.Accepted || len(report.Banks) != 2 {
					t.Fatalf("%+v %v", report, err)
				}
				if (report.Mismatch == nil) != (name == "block" || name == "value logs") || report.Banks[0].Whole() != whole[name][0] || report.Banks[1].Whole() != whole[name][1] {
					t.Errorf("%+v", report)
				}
			}
			report, err := Repair(ctx, dir, RepairOptions{Accept: true, Drop: true})
			if err != nil || !report.Accepted {
				t.Fatalf("%+v %v", report, err)
			}
			db := open(t, dir, Options{})
			for i, bank := range []string{"full", "plain"} {
				if slices.Contains(report.Dropped, bank) == whole[name][i] {
					t.Errorf("dropped: %v", report.Dropped)
				}
				if whole[name][i] {
					equalRows(t, all(t, db, bank), want[bank])
				}
			}
			write(t, db, "next", Rows{Vectors: gaussian(5, 5, 5)}, WriterOptions{})
		})
	}
}
