package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"membank/index"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

// bankCodes is what show says of the codes of a bank.
type bankCodes struct {
	Blocks     int   `json:"blocks"`     // that have codes
	OfBlocks   int   `json:"of_blocks"`  // of the bank
	First      int   `json:"first"`      // dims that every row is compared by
	Second     int   `json:"second"`     // dims for the rows that remain
	Directions int   `json:"directions"` // that the basis holds
	Bytes      int64 `json:"bytes"`
}

func codesOf(c index.CodesInfo) *bankCodes {
	if c.Bytes == 0 {
		return nil
	}
	return &bankCodes{c.Coded, c.Blocks, c.First, c.Second, c.Directions, c.Bytes}
}

// codesText is "8.2 MiB, 64 and then 240 of 384 dimensions".
func codesText(c *bankCodes, dim int) string {
	text := fmt.Sprintf("%s, %d and then %d of %s", size(c.Bytes), c.First, c.Second, plural(dim, "dimension"))
	if c.Blocks < c.OfBlocks {
		text += fmt.Sprintf(", in %d of %s", c.Blocks, plural(c.OfBlocks, "block"))
	}
	return text
}

// coded is what index codes did.
type coded struct {
	Bank    string     `json:"bank"`
	Rows    int64      `json:"rows"`
	Dim     int        `json:"dim"`
	Codes   *bankCodes `json:"codes"`   // null: it has none
	Encoded int        `json:"encoded"` // blocks that got codes now
	Learnt  bool       `json:"learnt"`  // a basis was learnt now
	Skipped string     `json:"skipped"` // why it has none
	Seconds float64    `json:"seconds"`
}

func indexCommand() *ucli.Command {
	return &ucli.Command{
		Name: "index", Usage: "build what makes searches of a bank faster",
		Subcommands: append(listCommands(), &ucli.Command{
			Name: "codes", Usage: "build the codes that exact searches read first", ArgsUsage: "BANK",
			Description: "Codes are a few bytes a dimension that tell most rows are too far away; the\n" +
				"others are compared as they would be without. So answers stay the same, to the\n" +
				"bit. ingest builds them by itself; this builds what is missing. Readers go on\n" +
				"meanwhile, and an interruption leaves the bank as it was.\n\n" +
				"  membank index codes train\n" +
				"  membank index codes train --relearn",
			Flags: []ucli.Flag{
				&ucli.BoolFlag{Name: "relearn", Usage: "make all codes anew, for a bank that has changed since they were made"},
			},
			Action: action([]string{"BANK"}, func(ctx context.Context, s *session, c *ucli.Context, args []string) error {
				return s.writing(ctx, false, func(db *store.DB) error {
					r, err := s.buildCodes(ctx, db, args[0], c.Bool("relearn"))
					if err != nil {
						return bankError(db, args[0], err)
					}
					return s.emit(r, func(w io.Writer) { printCoded(w, r) })
				})
			}),
		}),
	}
}

func (s *session) buildCodes(ctx context.Context, db *store.DB, bank string, relearn bool) (coded, error) {
	start := time.Now()
	var progress bar
	defer func() { progress.close() }()
	info, stats, err := index.BuildCodes(ctx, db, bank, index.BuildOptions{
		Threads: s.threads, Relearn: relearn, Progress: func(done, total int64) {
			if done == 1 {
				progress = s.newBar("codes of "+bank, "blocks", total)
			}
			progress.set(done)
		},
	})
	return coded{bank, info.Rows, info.Dim, codesOf(stats.Codes), stats.Encoded, stats.Learnt, stats.Skipped, time.Since(start).Seconds()}, err
}

func printCoded(w io.Writer, r coded) {
	switch {
	case r.Codes == nil:
		fmt.Fprintf(w, "%s: no codes: %s\n", r.Bank, r.Skipped)
	case r.Encoded == 0:
		fmt.Fprintf(w, "%s: nothing to do: it has codes (%s)\n", r.Bank, codesText(r.Codes, r.Dim))
	default:
		fmt.Fprintf(w, "%s: codes for %s in %s (%s)\n", r.Bank, plural(r.Encoded, "block"), seconds(r.Seconds), codesText(r.Codes, r.Dim))
	}
}

// encodeIngested builds the codes of a bank whose new rows are durable and were
// acknowledged. From then on ingest has done what was asked, so neither an
// interruption nor a full disk makes it fail: the bank is whole without codes, and
// a remark says how to get them. Damage is an error all the same.
func (s *session) encodeIngested(ctx context.Context, db *store.DB, bank string) error {
	r, err := s.buildCodes(ctx, db, bank, false)
	switch {
	case err == nil:
		if r.Codes != nil && !s.json {
			printCoded(s.stdout, r)
		}
		return nil
	case errors.Is(err, store.ErrCorrupt), errors.Is(err, index.ErrCodes):
		return err
	}
	why := err.Error()
	if ctx.Err() != nil {
		why = "interrupted"
	}
	s.remark("membank: codes of %s: %s: the rows are in the bank, but without codes (membank index codes %s makes them)", bank, why, bank)
	return nil
}

// encodeMissing completes the codes of all banks that have a basis for them.
func (s *session) encodeMissing(ctx context.Context, db *store.DB) (blocks int, err error) {
	infos, err := db.Banks("")
	if err != nil {
		return 0, err
	}
	for _, info := range infos {
		missing := false
		if err := snapshot(db, info.Bank, func(snap *store.Snapshot) error {
			basis, err := snap.Basis()
			missing = basis != nil && snap.CodedBlocks() < snap.Blocks()
			return err
		}); err != nil {
			return blocks, err
		}
		if !missing {
			continue
		}
		r, err := s.buildCodes(ctx, db, info.Bank, false)
		if blocks += r.Encoded; err != nil {
			return blocks, err
		}
	}
	return blocks, nil
}
