package memory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"membank/store"
	"membank/store/journal"
)

// Belonging says whose checkpoint a bank is.
type Belonging struct {
	Memory string // name of the memory bank; "": it is no checkpoint
	Step   int64
	Needed bool // the log applies to it: without it the memory bank is lost
}

// BelongsTo looks a bank up in the log of the memory bank by whose name its own
// begins. It reads that log once, and may be called while the memory bank is open.
// Errors: those of a log that cannot be read, and it is not known then.
func BelongsTo(ctx context.Context, db *store.DB, bank string) (Belonging, error) {
	at := strings.LastIndex(bank, "/step-")
	if at < 1 {
		return Belonging{}, nil
	}
	name := bank[:at]
	dir, err := db.MemoryDir(name)
	if err != nil {
		return Belonging{}, err
	}
	log, err := journal.Open(dir, journal.Options{ReadOnly: true})
	if errors.Is(err, journal.ErrNone) {
		return Belonging{}, nil
	}
	if err != nil {
		return Belonging{}, fmt.Errorf("memory bank %q: %w", name, err)
	}
	defer log.Close()
	h, err := decodeHead(log.Head())
	if err == nil {
		err = log.Replay(ctx, func(r journal.Record) error {
			if r.Kind == kindForget {
				h.forget(r.Step)
			}
			return nil
		})
	}
	if err != nil {
		return Belonging{}, fmt.Errorf("memory bank %q: %w", name, err)
	}
	for i, c := range h.Checkpoints {
		if slices.Contains(c.Banks, bank) {
			return Belonging{Memory: name, Step: c.Step, Needed: i == h.Base}, nil
		}
	}
	return Belonging{}, nil
}
