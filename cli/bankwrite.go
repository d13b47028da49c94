package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"membank/index/memory"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

// writingFlags are those of update and push.
func writingFlags() []ucli.Flag {
	return []ucli.Flag{
		&ucli.StringSliceFlag{Name: "vectors", Usage: "the batch: `FILE`; again for each view"},
		&ucli.StringFlag{Name: "labels", Usage: "labels of the batch: `FILE` of integers, -1 for none"},
		&ucli.StringFlag{Name: "step", Usage: "step `N` of the training run", DefaultText: "one more than the newest"},
		&ucli.StringFlag{Name: "durability", Usage: "acknowledge when it survives `WHAT`: log (the process's end) or sync (a power cut)", Value: string(memory.Sync), DefaultText: "sync"},
	}
}

// durability of one command: an update in memory only would be gone at its end.
func durability(s *session, c *ucli.Context) (memory.Durability, error) {
	if s.served != nil { // its banks stay open
		return one(c, "durability", memory.Durabilities)
	}
	return one(c, "durability", []memory.Durability{memory.Log, memory.Sync})
}

func bankUpdateCommand() *ucli.Command {
	return &ucli.Command{
		Name: "update", Usage: "mix rows into slots", ArgsUsage: "NAME",
		Description: "slot = renorm(keep-old * old + (1 - keep-old) * new). An id that occurs twice is\n" +
			"mixed with the slot as it was before the batch, and the last one wins, unless\n" +
			"--compound.\n\n" +
			"  membank bank update npid --ids ids.npy --vectors batch.npy --keep-old 0.5 --step 100\n" +
			"  membank bank update cmc --ids 3,7 --vectors l.npy --vectors ab.npy --keep-old 0.5",
		Flags: append(writingFlags(),
			&ucli.StringFlag{Name: "ids", Usage: "the slots: 0,5,9, or a `FILE` of integers"},
			&ucli.StringFlag{Name: "keep-old", Usage: "weight `M` of the old row, 0 to 1 (InstDisc's momentum)", DefaultText: "0"},
			&ucli.StringFlag{Name: "keep-new", Usage: "weight `M` of the new row instead (mmselfsup's momentum)"},
			&ucli.StringFlag{Name: "renorm", Usage: "`HOW` rows are divided by their norms: " + names(memory.Renorms), DefaultText: "l2"},
			&ucli.BoolFlag{Name: "compound", Usage: "an id that occurs twice is mixed twice"},
			&ucli.StringFlag{Name: "gather", Usage: "write these slots, as they were before, to -o: 0,5,9, or a `FILE` of integers"},
			&ucli.StringFlag{Name: "negatives", Usage: "draw `N` slots as sample does and write them, as they were before, to -o"},
			outputFlag("of --gather and --negatives, `FILE`.npz"),
		),
		Action: action([]string{"NAME"}, runBankUpdate),
	}
}

func runBankUpdate(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	o := memory.UpdateOptions{Compound: c.Bool("compound")}
	var err error
	if o.Renorm, err = one(c, "renorm", memory.Renorms); err != nil {
		return err
	}
	if c.IsSet("keep-old") && c.IsSet("keep-new") {
		return usage("%s: --keep-old and --keep-new exclude each other (give one)", s.name)
	}
	if o.KeepOld, err = share(c, "keep-old", 0); err != nil {
		return err
	}
	if c.IsSet("keep-new") {
		fresh, err := share(c, "keep-new", 0)
		if err != nil {
			return err
		}
		o.KeepOld = memory.FromNew(fresh)
	}
	if o.Durability, err = durability(s, c); err != nil {
		return err
	}
	if o.Step, err = whole64(c, "step"); err != nil {
		return err
	}
	if c.String("ids") == "" || len(c.StringSlice("vectors")) == 0 {
		return usage("%s: give --ids and --vectors", s.name)
	}
	ids, err := s.readIDs(c.String("ids"))
	if err != nil {
		return err
	}
	rows, err := s.readMatrices(ctx, c.StringSlice("vectors"))
	if err != nil {
		return err
	}
	if path := c.String("labels"); path != "" {
		if o.Labels, err = s.readLabels(path, int64(len(ids))); err != nil {
			return err
		}
	}
	gather, negatives, err := s.gatherFlags(c)
	if err != nil {
		return err
	}
	return s.memoryBank(ctx, args[0], true, func(b *memory.Bank) error {
		slots, err := b.Slots()
		if err != nil {
			return err
		}
		if err := s.fits(b, int64(max(negatives, len(gather)))); err != nil {
			return err
		}
		if negatives > 0 {
			lines, err := b.Sample(ctx, memory.SampleOptions{N: negatives, Step: o.Step})
			if err != nil {
				return err
			}
			gather = lines[0]
		}
		into, done := s.gathered(b, len(gather))
		defer done()
		o.Into = into
		before, w, err := slots.GatherThenUpdate(ctx, gather, ids, rows, o)
		if err != nil {
			return err
		}
		if path := c.String("output"); path != "" {
			err := s.writeFile(path, func(out io.Writer) error {
				return writeBankNPZ(out, memory.Contents{Positions: gather, Views: before})
			})
			if err != nil {
				return err
			}
		}
		return s.emit(w, func(out io.Writer) {
			fmt.Fprintf(out, "%s: %s at step %d\n", args[0], plural(w.Rows, "slot"), w.Step)
			if w.Kept > 0 {
				fmt.Fprintf(out, "zero sums: %s kept the old value\n", plural(w.Kept, "row"))
			}
		})
	})
}

// gatherFlags says which slots an update writes to -o as they were before.
func (s *session) gatherFlags(c *ucli.Context) (gather []int64, negatives int, err error) {
	n, err := counts(c, "negatives")
	if err != nil {
		return nil, 0, err
	}
	wanted := 0
	for _, flag := range []string{"gather", "negatives"} {
		if c.IsSet(flag) {
			wanted++
		}
	}
	if path := c.String("output"); wanted > 1 || (wanted == 1) != (path != "") || path != "" && !strings.EqualFold(filepath.Ext(path), ".npz") {
		return nil, 0, usage("%s: give one of --gather and --negatives, and -o FILE.npz for what they read", s.name)
	}
	if text := c.String("gather"); text != "" {
		gather, err = s.readIDs(text)
	}
	return gather, int(n["negatives"]), err
}

// share reads a number from 0 to 1.
func share(c *ucli.Context, flag string, otherwise float32) (float32, error) {
	text := c.String(flag)
	if text == "" {
		return otherwise, nil
	}
	v, err := strconv.ParseFloat(text, 32)
	if err != nil || !(v >= 0 && v <= 1) {
		return 0, usage("%s %s: not a weight (0 to 1)", dashed(flag), text)
	}
	return float32(v), nil
}

func bankPushCommand() *ucli.Command {
	return &ucli.Command{
		Name: "push", Usage: "write a batch into a queue", ArgsUsage: "NAME",
		Description: "  membank bank push moco/queue --vectors keys.npy --step 100\n" +
			"  membank bank push nnclr --vectors z.npy --labels y.npy --keys paths.txt",
		Flags: append(writingFlags(), &ucli.StringFlag{Name: "keys", Usage: "keys of the batch: `FILE` with one a line"},
			scopeFlag(),
			outputFlag("write the queue as it was before to `FILE`.npz")),
		Action: action([]string{"NAME"}, runBankPush),
	}
}

func runBankPush(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	var o memory.PushOptions
	var err error
	if o.Durability, err = durability(s, c); err != nil {
		return err
	}
	if o.Step, err = whole64(c, "step"); err != nil {
		return err
	}
	scope, err := scopeOf(c)
	if err != nil {
		return err
	}
	if path := c.String("output"); path == "" && scope != "" || path != "" && !strings.EqualFold(filepath.Ext(path), ".npz") {
		return usage("%s: --scope says which rows go to -o FILE.npz", s.name)
	}
	if len(c.StringSlice("vectors")) == 0 {
		return usage("%s: give the batch with --vectors", s.name)
	}
	rows, err := s.readMatrices(ctx, c.StringSlice("vectors"))
	if err != nil {
		return err
	}
	if path := c.String("labels"); path != "" {
		if o.Labels, err = s.readLabels(path, int64(rows[0].Rows)); err != nil {
			return err
		}
	}
	if path := c.String("keys"); path != "" {
		if o.Keys, err = s.readKeys(path); err != nil {
			return err
		}
		if len(o.Keys) != rows[0].Rows {
			return badInput("%s: %s for a batch of %d (every row needs one)", path, plural(len(o.Keys), "key"), rows[0].Rows)
		}
	}
	return s.memoryBank(ctx, args[0], true, func(b *memory.Bank) error {
		queue, err := b.Queue()
		if err != nil {
			return err
		}
		var w memory.Written
		if path := c.String("output"); path == "" {
			w, err = queue.Push(ctx, rows, o)
		} else {
			var before memory.Contents
			if before, w, err = queue.ReadThenPush(ctx, scope, rows, o); err == nil {
				err = s.writeFile(path, func(out io.Writer) error { return writeBankNPZ(out, before) })
			}
		}
		if err != nil {
			return err
		}
		return s.emit(w, func(out io.Writer) {
			fmt.Fprintf(out, "%s: %s at step %d, cursor %s, %s filled\n", args[0], plural(w.Rows, "row"), w.Step, count(w.Cursor), count(w.Fill))
			if w.Dropped > 0 {
				fmt.Fprintf(out, "dropped: %s of the batch\n", plural(w.Dropped, "row"))
			}
		})
	})
}

func bankCheckpointCommand() *ucli.Command {
	return &ucli.Command{
		Name: "checkpoint", Usage: "name the state of a memory bank by a step", ArgsUsage: "NAME",
		Description: "Writes bank NAME/step-N, which every other command reads, and begins the log\n" +
			"anew.\n\n" +
			"  membank bank checkpoint npid --step 5000\n" +
			"  membank eval knn --train npid/step-5000 --leave-one-out",
		Flags: []ucli.Flag{&ucli.StringFlag{Name: "step", Usage: "step `N`", DefaultText: "the newest"}},
		Action: action([]string{"NAME"}, func(ctx context.Context, s *session, c *ucli.Context, args []string) error {
			step, err := whole64(c, "step")
			if err != nil {
				return err
			}
			return s.memoryBank(ctx, args[0], true, func(b *memory.Bank) error {
				p, err := b.Checkpoint(ctx, step)
				if err != nil {
					return err
				}
				return s.emit(p, func(w io.Writer) {
					fmt.Fprintf(w, "%s at step %d: bank %s, %s\n", args[0], p.Step, p.Bank, plural(p.Rows, "row"))
				})
			})
		}),
	}
}

// stepFlag is a step that has to be given; 0 is one.
func stepFlag(s *session, c *ucli.Context) (int64, error) {
	step, err := strconv.ParseInt(c.String("step"), 10, 64)
	if err != nil || step < 0 {
		return 0, usage("%s: --step %s is not a step (membank bank show lists the checkpoints)", s.name, c.String("step"))
	}
	return step, nil
}

func bankRestoreCommand() *ucli.Command {
	return &ucli.Command{
		Name: "restore", Usage: "bring a memory bank back to a checkpoint", ArgsUsage: "NAME",
		Description: "What was written since is gone. Later checkpoints stay until one of the same step\n" +
			"takes their place.\n\n" +
			"  membank bank restore npid --step 5000",
		Flags: []ucli.Flag{&ucli.StringFlag{Name: "step", Usage: "the checkpoint of step `N`"}},
		Action: action([]string{"NAME"}, func(ctx context.Context, s *session, c *ucli.Context, args []string) error {
			step, err := stepFlag(s, c)
			if err != nil {
				return err
			}
			return s.writing(ctx, false, func(db *store.DB) error {
				_, release, p, err := s.openMemoryAt(ctx, db, args[0], step)
				if err != nil {
					return memoryError(db, args[0], err)
				}
				return finishBank(release, func() error {
					return s.emit(p, func(w io.Writer) { fmt.Fprintf(w, "%s is at step %d again\n", args[0], p.Step) })
				})
			})
		}),
	}
}

func bankForgetCommand() *ucli.Command {
	return &ucli.Command{
		Name: "forget", Usage: "delete a checkpoint of a memory bank", ArgsUsage: "NAME",
		Description: "The one that the log applies to stays.\n\n  membank bank forget npid --step 5000",
		Flags:       []ucli.Flag{&ucli.StringFlag{Name: "step", Usage: "the checkpoint of step `N`"}},
		Action: action([]string{"NAME"}, func(ctx context.Context, s *session, c *ucli.Context, args []string) error {
			step, err := stepFlag(s, c)
			if err != nil {
				return err
			}
			return s.memoryBank(ctx, args[0], true, func(b *memory.Bank) error {
				if err := b.Forget(ctx, step); err != nil {
					return err
				}
				r := removal{Bank: fmt.Sprintf("%s/step-%d", args[0], step), Removed: true}
				return s.emit(r, func(w io.Writer) { fmt.Fprintf(w, "deleted checkpoint %s\n", r.Bank) })
			})
		}),
	}
}

// noLabel is −1 in files, as everywhere.
func noLabel(labels []int64) []int64 {
	out := make([]int64, len(labels))
	for i, l := range labels {
		if out[i] = l; l == store.NoLabel {
			out[i] = -1
		}
	}
	return out
}
