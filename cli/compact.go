package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

// compacted is what compact gave back.
type compacted struct {
	Freed   int64   `json:"freed"`   // bytes of disk
	Encoded int     `json:"encoded"` // blocks that lacked codes
	Seconds float64 `json:"seconds"`
}

func compactCommand() *ucli.Command {
	return &ucli.Command{
		Name: "compact", Usage: "give the space of removed and replaced rows back to the disk",
		Description: "Needs nothing to be broken and may be interrupted. Banks, rows and answers stay\nas they are. Rows that were appended to a bank with codes get theirs, too.\n\n  membank compact",
		Action: action(nil, func(ctx context.Context, s *session, _ *ucli.Context, _ []string) error {
			return s.writing(ctx, false, func(db *store.DB) error {
				start := time.Now()
				freed, err := db.Compact(ctx)
				if err != nil {
					return err
				}
				encoded, err := s.encodeMissing(ctx, db)
				if err != nil {
					return err
				}
				r := compacted{freed, encoded, time.Since(start).Seconds()}
				return s.emit(r, func(w io.Writer) {
					fmt.Fprintf(w, "freed %s", size(r.Freed))
					if r.Encoded > 0 {
						fmt.Fprintf(w, ", made codes for %s", plural(r.Encoded, "block"))
					}
					fmt.Fprintf(w, " in %s\n", seconds(r.Seconds))
				})
			})
		}),
	}
}
