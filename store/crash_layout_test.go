package store

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A process killed at any step of a change to a grouped bank leaves the old
// generation or the new one, each with all rows.
func TestCrashGrouped(t *testing.T) {
	ctx := context.Background()
	start := filepath.Join(t.TempDir(), "db")
	db, err := Open(ctx, start, Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	// Row 0 is deleted and purged, 2 overwritten, 300 to 399 are a delta.
	assign := byFirst(5)
	vectors := gaussian(400, 16, 1)
	write(t, db, "base", Rows{Vectors: vectors.Slice(0, 300)}, WriterOptions{})
	_, deleteErr := db.DeleteRows(ctx, "base", []int64{0})
	_, groupErr := db.Group(ctx, "base", []byte("lists"), assign, GroupOptions{Lists: 5})
	write(t, db, "base", Rows{Vectors: vectors.Slice(300, 400)}, WriterOptions{Mode: Append, Assign: assign})
	copy(vectors.Row(2), gaussian(1, 16, 9).Row(0))
	_, updateErr := db.UpdateRows(ctx, "base", []int64{2}, vectors.Slice(2, 3), assign)
	verify(t, db)
	if err := errors.Join(deleteErr, groupErr, updateErr, db.Close()); err != nil {
		t.Fatal(err)
	}
	before := Rows{Vectors: vectors.Slice(1, 400), Keys: decimals(400)[1:], Labels: unlabelled(399)}
	cases := []string{}
	for _, step := range Steps {
		if step != "check" { // of keys, which do not change
			cases = append(cases, "group/"+step+"/1")
		}
	}
	for _, work := range []string{"ungroup", "fold", "lists", "update", "append-grouped"} {
		for _, step := range []string{"blocks", "flip", "outside", "collect"} {
			cases = append(cases, work+"/"+step+"/1")
		}
	}
	for _, at := range cases {
		if testing.Short() && !strings.HasPrefix(at, "update") {
			continue
		}
		t.Run(at, func(t *testing.T) {
			work, _, _ := strings.Cut(at, "/")
			crashGroupedAt(t, start, work, at, before)
		})
	}
}

func crashGroupedAt(t *testing.T, start, work, at string, before Rows) {
	dir := copyTree(t, start)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "STORE_CRASH_DIR="+dir, "STORE_CRASH_AT="+at)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("child: %v %s", err, out)
	}
	db := open(t, dir, Options{})
	report, err := db.Verify(context.Background(), VerifyOptions{})
	if err != nil || len(report.Problems) > 0 || report.Orphans > 0 {
		t.Errorf("%+v %v", report, err)
	}
	s := snapshot(t, db, "base")
	done := s.Info().Generation > 5
	if late := strings.Contains(at, "/outside/") || strings.Contains(at, "/acknowledged/") || strings.Contains(at, "/collect/"); done != late && !strings.Contains(at, "/flip-sync/") {
		t.Errorf("done is %v", done)
	}
	want, lists, description := before, 5, "lists"
	if done {
		switch work {
		case "group":
			lists, description = 7, "other lists"
		case "lists":
			description = "other lists"
		case "ungroup":
			lists, description = 0, ""
		case "update":
			want.Vectors.Data = slices.Clone(before.Vectors.Data)
			for i, row := range []int{1, 5, 399} {
				copy(want.Vectors.Row(row-1), gaussian(3, 16, 6).Row(i))
			}
		case "append-grouped":
			want.Vectors.Data = append(slices.Clone(before.Vectors.Data), gaussian(500, 16, 6).Data...)
			want.Vectors.Rows, want.Keys, want.Labels = 899, decimals(900)[1:], unlabelled(899)
		}
		if i := s.Info(); (work == "group" || work == "fold" || work == "ungroup") && i.Lanes != i.Rows {
			t.Errorf("%d lanes for %d rows", i.Lanes, i.Rows)
		}
	}
	equalRows(t, all(t, db, "base"), want)
	if lists > 0 {
		wantGrouped(t, db, "base", lists)
	}
	if got, err := s.Lists(); err != nil || string(got) != description || s.Info().Lists != lists {
		t.Errorf("%d lists described by %q: %v", s.Info().Lists, got, err)
	}
	s.Close()
	// Life goes on.
	if _, err := db.UpdateRows(context.Background(), "base", []int64{10}, gaussian(1, 16, 3), byFirst(max(1, lists))); err != nil {
		t.Errorf("the next write: %v", err)
	}
}
