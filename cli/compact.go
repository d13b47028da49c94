package cli

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"membank/index"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

// compacted is what compact gave back.
type compacted struct {
	Freed   int64   `json:"freed"`   // bytes of disk
	Encoded int     `json:"encoded"` // blocks that lacked codes
	Folded  int     `json:"folded"`  // banks whose later rows were merged with the rest
	Dropped int64   `json:"dropped"` // deleted and overwritten rows that folding left out
	Seconds float64 `json:"seconds"`
}

// foldLeast is the share of a bank that must be deleted, overwritten or appended
// to its lists before compact rewrites it: a bank of 200 GB is not copied for one
// row.
const foldLeast = 0.01

func compactCommand() *ucli.Command {
	return &ucli.Command{
		Name: "compact", Usage: "give the space of removed and replaced rows back to the disk",
		Description: "Needs nothing to be broken and may be interrupted. Banks, row numbers and answers\n" +
			"stay as they are. A bank of which a hundredth or more was deleted, overwritten or\n" +
			"appended to its lists is written anew without what is gone, each list in one\n" +
			"piece; that takes its size on disk meanwhile. Rows that were appended to a bank\n" +
			"with codes get theirs, too.\n\n  membank compact",
		Action: action(nil, func(ctx context.Context, s *session, _ *ucli.Context, _ []string) error {
			return s.writing(ctx, false, func(db *store.DB) error {
				r, err := s.compact(ctx, db)
				if err != nil {
					return err
				}
				return s.emit(r, func(w io.Writer) { printCompacted(w, r) })
			})
		}),
	}
}

func (s *session) compact(ctx context.Context, db *store.DB) (r compacted, err error) {
	start := time.Now()
	if r.Freed, err = db.Compact(ctx); err != nil {
		return r, err
	}
	// Folding needs room, so what is free to give comes first.
	if err := s.foldAll(ctx, db, &r); err != nil {
		return r, err
	}
	if r.Folded > 0 {
		freed, err := db.Compact(ctx)
		if err != nil {
			return r, err
		}
		r.Freed += freed
	}
	r.Encoded, err = s.encodeMissing(ctx, db)
	r.Seconds = time.Since(start).Seconds()
	return r, err
}

// foldAll folds the banks that are worth it, and counts them in r.
func (s *session) foldAll(ctx context.Context, db *store.DB, r *compacted) error {
	infos, err := db.Banks("")
	if err != nil {
		return err
	}
	threads := s.threads
	if threads == 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	for _, before := range infos {
		encode, err := encoderOf(db, before.Bank)
		if err != nil {
			return bankError(db, before.Bank, err)
		}
		var progress bar
		after, folded, err := db.Fold(ctx, before.Bank, foldLeast, store.GroupOptions{
			Threads: threads, Memory: s.memory / 2, Encode: encode, Progress: func(done, total int64) {
				if done == 1 {
					progress = s.newBar("folding "+before.Bank, "blocks", total)
				}
				progress.set(done)
			},
		})
		progress.close()
		if err != nil {
			return bankError(db, before.Bank, err)
		}
		if folded {
			r.Folded++
			r.Dropped += before.Lanes - after.Lanes
		}
	}
	return nil
}

// encoderOf returns what makes codes as a bank has them, nil if it has none.
func encoderOf(db *store.DB, bank string) (encode store.Encoder, err error) {
	err = snapshot(db, bank, func(snap *store.Snapshot) error {
		record, err := snap.Basis()
		if err != nil || record == nil {
			return err
		}
		basis, err := index.DecodeBasis(record)
		if err == nil {
			encode = basis.EncodeBlock
		}
		return err
	})
	return encode, err
}

func printCompacted(w io.Writer, r compacted) {
	parts := []string{"freed " + size(r.Freed)}
	if r.Folded > 0 {
		parts = append(parts, "folded "+plural(r.Folded, "bank"))
	}
	if r.Dropped > 0 {
		parts = append(parts, "dropped "+plural(r.Dropped, "deleted or overwritten row"))
	}
	if r.Encoded > 0 {
		parts = append(parts, "made codes for "+plural(r.Encoded, "block"))
	}
	fmt.Fprintf(w, "%s in %s\n", strings.Join(parts, ", "), seconds(r.Seconds))
}
