package cli

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"

	"membank/index/memory"
	"membank/simd"
	"membank/store"
	"membank/store/dump"

	ucli "github.com/urfave/cli/v2"
)

func bankInitCommand() *ucli.Command {
	return &ucli.Command{
		Name: "init", Usage: "make a memory bank", ArgsUsage: "NAME",
		Description: "  membank bank init npid --rows 1281167 --dim 128 --init uniform --seed 1\n" +
			"  membank bank init cmc --rows 50000 --dim 128,128\n" +
			"  membank bank init moco/queue --kind queue --rows 65536 --dim 128 --wrap assert\n" +
			"  membank bank init odc --from train --prototypes 10000\n" +
			"  membank bank init npid --rows 10000 --dim 64 --replace",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "kind", Usage: "`KIND`: slots, written by id, or queue, written in turn", Value: "slots", DefaultText: "slots"},
			&ucli.StringFlag{Name: "rows", Usage: "`N` slots, or the queue's capacity"},
			&ucli.StringFlag{Name: "dim", Usage: "dimensions, `D`, or one number for each view: D,D,…"},
			&ucli.StringFlag{Name: "init", Usage: "first rows: `INIT` is " + names(memory.Inits[:4]), DefaultText: "unit"},
			&ucli.StringFlag{Name: "ranks", Usage: "first rows are means of those of `N` ranks (VISSL)"},
			&ucli.StringFlag{Name: "from", Usage: "first rows, labels and keys are those of `BANK`"},
			&ucli.StringSliceFlag{Name: "vectors", Usage: "first rows are those of `FILE`; again for each view"},
			&ucli.StringFlag{Name: "labels", Usage: "labels of the first rows: `FILE`"},
			&ucli.StringFlag{Name: "wrap", Usage: "of a queue, `WRAP`: " + names(memory.Wraps), DefaultText: "modulo"},
			&ucli.StringFlag{Name: "order", Usage: "of a queue, `ORDER`: " + names(memory.Orders), DefaultText: "ring"},
			&ucli.StringFlag{Name: "prototypes", Usage: "keep `N` centroids with the slots (ODC)"},
			&ucli.StringFlag{Name: "seed", Usage: "`N` makes the first rows and the samples", DefaultText: "0"},
			&ucli.BoolFlag{Name: "replace", Usage: "take the place of a memory bank that exists"},
		},
		Action: action([]string{"NAME"}, runBankInit),
	}
}

func runBankInit(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	config, err := bankConfig(c)
	if err != nil {
		return err
	}
	from, vectors := c.String("from"), c.StringSlice("vectors")
	if from != "" && len(vectors) > 0 {
		return usage("%s: --from and --vectors exclude each other (give one)", s.name)
	}
	given := from != "" || len(vectors) > 0
	switch {
	case given && (c.IsSet("init") || c.IsSet("ranks") || c.IsSet("dim") || config.Kind == memory.KindQueue):
		return usage("%s: rows that are given leave nothing to --init, --ranks and --dim, and a queue starts without any (push them)", s.name)
	case !given && (!c.IsSet("rows") || !c.IsSet("dim")):
		return usage("%s: give --rows and --dim, or first rows with --from BANK or --vectors FILE", s.name)
	case c.IsSet("labels") && !given:
		return usage("%s: --labels are those of rows given with --vectors", s.name)
	}
	// Nothing may be wrong any more when --replace removes a bank.
	if err := s.checkBank(ctx, config, vectors, given); err != nil {
		return err
	}
	return s.writing(ctx, true, func(db *store.DB) error {
		var o memory.CreateOptions
		var done func()
		switch {
		case from != "":
			done, err = initFromBank(ctx, db, from, &config, &o)
		case len(vectors) > 0:
			done, err = s.initFromFiles(vectors, c.String("labels"), &config, &o)
		default:
			done = func() {}
		}
		if err != nil {
			return err
		}
		defer done()
		if c.Bool("replace") {
			if err := s.removeMemory(ctx, db, args[0]); err != nil && !errors.Is(err, memory.ErrNone) {
				return err
			}
		}
		b, release, err := s.createMemory(ctx, db, args[0], config, o)
		if err != nil {
			return memoryError(db, args[0], err)
		}
		return finishBank(release, func() error { return s.showBank(b) })
	})
}

// bankConfig reads the flags that say what a bank is.
func bankConfig(c *ucli.Context) (config memory.Config, err error) {
	if config.Kind, err = one(c, "kind", []memory.Kind{memory.KindSlots, memory.KindQueue}); err != nil {
		return config, err
	}
	init, err := one(c, "init", memory.Inits[:4])
	if err != nil {
		return config, err
	}
	if config.Wrap, err = one(c, "wrap", memory.Wraps); err != nil {
		return config, err
	}
	if config.Order, err = one(c, "order", memory.Orders); err != nil {
		return config, err
	}
	if config.Kind != memory.KindQueue && (config.Wrap != "" || config.Order != "") {
		return config, usage("--wrap and --order are a queue's (add --kind queue)")
	}
	n, err := counts(c, "rows", "prototypes", "ranks")
	if err != nil {
		return config, err
	}
	config.Rows, config.Prototypes = n["rows"], n["prototypes"]
	if text := c.String("seed"); text != "" {
		if config.Seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			return config, usage("--seed %s: not a seed (write 0 or more)", text)
		}
	}
	if text := c.String("dim"); text != "" {
		for field := range strings.SplitSeq(text, ",") {
			dim, err := strconv.Atoi(strings.TrimSpace(field))
			if err != nil || dim < 1 || dim > store.MaxDim {
				return config, usage("--dim %s: %q is not a dimension (1 to %d; several are one a view: 128,128)", text, field, store.MaxDim)
			}
			config.Views = append(config.Views, memory.View{Dim: dim, Init: init, Ranks: int(n["ranks"])})
		}
	}
	return config, nil
}

// initFromBank makes slots of the rows of a bank.
func initFromBank(ctx context.Context, db *store.DB, bank string, config *memory.Config, o *memory.CreateOptions) (done func(), err error) {
	snap, err := db.Snapshot(bank)
	if err != nil {
		return nil, bankError(db, bank, err)
	}
	rows, labels, keys, err := memory.FromSnapshot(ctx, snap)
	if err != nil {
		snap.Close()
		return nil, err
	}
	info := snap.Info()
	if config.Rows != 0 && config.Rows != info.Rows {
		snap.Close()
		return nil, usage("--rows %d: bank %q has %s (leave the flag out)", config.Rows, bank, plural(info.Rows, "row"))
	}
	config.Rows = info.Rows
	config.Views = []memory.View{{Dim: info.Dim, Init: memory.InitRows}}
	o.Views, o.Labels, o.Keys = []memory.Rows{rows}, labels, keys
	return snap.Close, nil
}

// initFromFiles makes slots of the rows of files, one a view.
func (s *session) initFromFiles(paths []string, labels string, config *memory.Config, o *memory.CreateOptions) (done func(), err error) {
	var open []*dump.Reader
	done = func() {
		for _, r := range open {
			r.Close()
		}
	}
	for _, path := range paths {
		var rows int64
		var dim int
		var view memory.Rows
		if s.served != nil {
			a, err := s.served.array(path, "vectors")
			if err != nil {
				return nil, err
			}
			if a.matrix.Rows == 0 {
				return nil, a.wrong("an array of floats in two dimensions")
			}
			rows, dim, view = int64(a.matrix.Rows), a.matrix.Dim, &matrixRows{m: a.matrix}
		} else {
			r, err := openFeatures(path, "")
			if err != nil {
				done()
				return nil, err
			}
			open = append(open, r)
			rows, dim, view = r.Rows(), r.Dim(), r
		}
		if config.Rows == 0 {
			config.Rows = rows
		}
		if rows != config.Rows {
			done()
			return nil, badInput("%s: %s, and the bank has %s (a row for each slot)", path, plural(rows, "row"), plural(config.Rows, "slot"))
		}
		config.Views = append(config.Views, memory.View{Dim: dim, Init: memory.InitRows})
		o.Views = append(o.Views, view)
	}
	if labels != "" {
		if o.Labels, err = s.readLabels(labels, config.Rows); err != nil {
			done()
			return nil, err
		}
	}
	return done, nil
}

// matrixRows gives the rows of a matrix as a file would.
type matrixRows struct {
	m  simd.Matrix
	at int
}

func (r *matrixRows) Next(_ context.Context, m simd.Matrix) (int, error) {
	n := min(m.Rows, r.m.Rows-r.at)
	if n == 0 {
		return 0, io.EOF
	}
	copy(m.Data, r.m.Data[r.at*r.m.Dim:(r.at+n)*r.m.Dim])
	r.at += n
	return n, nil
}
