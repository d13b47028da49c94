package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"membank/index/memory"
	"membank/simd"
	"membank/store"
	"membank/store/dump"

	ucli "github.com/urfave/cli/v2"
)

func bankCommand() *ucli.Command {
	return &ucli.Command{
		Name: "bank", Usage: "the memory bank or queue of a training run",
		Description: "Slots are written by id (InstDisc, NPID, PIRL, CMC), a queue in turn (MoCo,\n" +
			"NNCLR, SwAV, XBM). What each implementation does differently is a flag with a\n" +
			"name. A checkpoint is an ordinary bank, NAME/step-N: query, eval and export\n" +
			"read it.",
		Subcommands: []*ucli.Command{
			bankInitCommand(),
			bankUpdateCommand(),
			bankPushCommand(),
			bankGetCommand(),
			bankSampleCommand(),
			bankNearestCommand(),
			bankLossCommand(),
			bankCheckpointCommand(),
			bankRestoreCommand(),
			bankForgetCommand(),
			bankShowCommand(),
			bankDropCommand(),
		},
	}
}

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

// names lists the values of a flag.
func names[T ~string](all []T) string {
	list := make([]string, len(all))
	for i, n := range all {
		list[i] = string(n)
	}
	return strings.Join(list, ", ")
}

// one is a value of a flag that has to be one of a list; "" stays what it is.
func one[T ~string](c *ucli.Context, flag string, all []T) (T, error) {
	v := T(c.String(flag))
	if v != "" && !slices.Contains(all, v) {
		return v, usage("%s %s: unknown (%s)", dashed(flag), v, names(all))
	}
	return v, nil
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

// finishBank does what is left and lets go of the bank.
func finishBank(release func() error, work func() error) error {
	err := work()
	if e := release(); err == nil {
		err = e
	}
	return err
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

// memoryBank opens a memory bank for the time of the work.
func (s *session) memoryBank(ctx context.Context, name string, write bool, work func(b *memory.Bank) error) error {
	open := s.reading
	if write {
		open = func(ctx context.Context, work func(*store.DB) error) error { return s.writing(ctx, false, work) }
	}
	return open(ctx, func(db *store.DB) error {
		b, release, err := s.openMemory(ctx, db, name)
		if err != nil {
			return memoryError(db, name, err)
		}
		if torn := b.Torn(); torn > 0 {
			s.remark("memory bank %s: %s behind the last acknowledged update were cut off (a process was killed while it wrote)", name, size(torn))
		}
		err = finishBank(release, func() error { return work(b) })
		if s.served != nil && errors.Is(err, memory.ErrBroken) { // the next request opens it again
			s.served.banks.drop(name, b)
		}
		return err
	})
}

// memoryError words what is wrong with the name of a memory bank.
func memoryError(db *store.DB, name string, err error) error {
	if !errors.Is(err, memory.ErrNone) {
		return err
	}
	all, listErr := memory.List(db, "")
	if listErr != nil {
		return err
	}
	remedy := "membank bank init makes one"
	if near := nearest(name, all); near != "" {
		remedy = fmt.Sprintf("did you mean %s?", near)
	} else if len(all) > 0 {
		remedy = "there are " + strings.Join(all[:min(len(all), 5)], ", ")
	}
	return &failure{exit: exitNotFound, code: "no_such_bank", text: fmt.Sprintf("memory bank %q: not in %s (%s)", name, db.Dir(), remedy), err: err}
}

func bankShowCommand() *ucli.Command {
	return &ucli.Command{
		Name: "show", Usage: "describe a memory bank, or list all", ArgsUsage: "[NAME]",
		Description: "How old its rows are, what it takes on disk, which checkpoints there are.\n\n" +
			"  membank bank show\n  membank bank show npid",
		Action: action([]string{"[NAME]"}, func(ctx context.Context, s *session, _ *ucli.Context, args []string) error {
			if len(args) == 0 {
				return s.listMemory(ctx)
			}
			return s.memoryBank(ctx, args[0], false, s.showBank)
		}),
	}
}

func (s *session) listMemory(ctx context.Context) error {
	return s.reading(ctx, func(db *store.DB) error {
		list, err := memory.List(db, "")
		if err != nil {
			return err
		}
		if list == nil {
			list = []string{}
		}
		return s.emit(list, func(w io.Writer) {
			for _, name := range list {
				fmt.Fprintln(w, name)
			}
		})
	})
}

// shownBank is a memory bank with the ages of its rows.
type shownBank struct {
	memory.Info
	Ages    []memory.Age `json:"ages"` // steps since the last write
	MeanAge float64      `json:"mean_age"`
}

func (s *session) showBank(b *memory.Bank) error {
	info, err := b.Info()
	if err != nil {
		return err
	}
	shown := shownBank{Info: info, Ages: []memory.Age{}}
	ages, _, mean, err := b.Staleness(0)
	if err != nil {
		return err
	}
	shown.Ages, shown.MeanAge = append(shown.Ages, ages...), mean
	return s.emit(shown, func(w io.Writer) { printBank(w, shown) })
}

func printBank(w io.Writer, b shownBank) {
	dims := make([]string, len(b.Config.Views))
	for i, v := range b.Config.Views {
		dims[i] = fmt.Sprintf("%d (%s)", v.Dim, v.Init)
	}
	fields := [][2]string{
		{"memory bank", b.Name},
		{"kind", string(b.Config.Kind)},
		{"rows", count(b.Config.Rows)},
		{"dimensions", strings.Join(dims, ", ")},
		{"written", fmt.Sprintf("%s of %s", count(b.Written), count(b.Config.Rows))},
		{"step", fmt.Sprintf("%s after %s", count(b.Step), plural(b.Updates, "update"))},
	}
	if b.Config.Kind == memory.KindQueue {
		fields = append(fields, [2]string{"cursor", fmt.Sprintf("%s, %s pushed (%s, %s)", count(b.Cursor), plural(b.Pushed, "row"), b.Config.Wrap, b.Config.Order)})
	}
	if b.Config.Prototypes > 0 {
		fields = append(fields, [2]string{"prototypes", count(b.Config.Prototypes)})
	}
	if b.Z > 0 {
		fields = append(fields, [2]string{"Z of NCE", strconv.FormatFloat(b.Z, 'g', 8, 64)})
	}
	for _, a := range b.Ages {
		fields = append(fields, [2]string{"age", fmt.Sprintf("%s to %s: %s", count(a.Min), plural(a.Max, "step"), plural(a.Rows, "row"))})
	}
	if b.Written > 0 {
		fields = append(fields, [2]string{"mean age", fmt.Sprintf("%.1f steps", b.MeanAge)})
	}
	fields = append(fields, [2]string{"log", size(b.LogBytes)})
	for _, c := range b.Checkpoints {
		mark := ""
		if c.Step == b.Base {
			mark = ", to which the log applies"
		}
		fields = append(fields, [2]string{"checkpoint", fmt.Sprintf("step %d: bank %s, %s%s", c.Step, c.Bank, plural(c.Rows, "row"), mark)})
	}
	printFields(w, fields)
}

func bankDropCommand() *ucli.Command {
	return &ucli.Command{
		Name: "drop", Usage: "delete a memory bank and its checkpoints", ArgsUsage: "NAME",
		Description: "  membank bank drop npid --yes",
		Flags:       []ucli.Flag{&ucli.BoolFlag{Name: "yes", Usage: "do not ask"}},
		Action: action([]string{"NAME"}, func(ctx context.Context, s *session, c *ucli.Context, args []string) error {
			return s.writing(ctx, false, func(db *store.DB) error {
				r := removal{Bank: args[0], Removed: true}
				if err := s.confirm(c.Bool("yes"), r); err != nil {
					return err
				}
				if err := s.removeMemory(ctx, db, args[0]); err != nil {
					return memoryError(db, args[0], err)
				}
				return s.emit(r, func(w io.Writer) { fmt.Fprintf(w, "deleted memory bank %s and its checkpoints\n", r.Bank) })
			})
		}),
	}
}

// readMatrix reads a whole file of vectors: a batch, not a bank.
func (s *session) readMatrix(ctx context.Context, path string) (simd.Matrix, error) {
	if s.served != nil {
		a, err := s.served.array(path, "vectors")
		if err == nil && a.matrix.Dim == 0 {
			err = a.wrong("an array of floats in two dimensions")
		}
		if err != nil {
			return simd.Matrix{}, err
		}
		return a.matrix, nil
	}
	r, err := openFeatures(path, "")
	if err != nil {
		return simd.Matrix{}, err
	}
	defer r.Close()
	limit := s.memory / 4
	if limit == 0 {
		limit = 1 << 30
	}
	if r.Rows() > limit/int64(4*r.Dim()) {
		return simd.Matrix{}, badInput("%s: %s of %d dimensions are more than %s (give them in several batches, or raise --memory)", path, plural(r.Rows(), "row"), r.Dim(), size(limit))
	}
	m := simd.NewMatrix(int(r.Rows()), r.Dim())
	for at := 0; at < m.Rows; {
		n, err := r.Next(ctx, m.Slice(at, m.Rows))
		if err != nil {
			if err == io.EOF {
				err = badInput("%s: it ended after row %d of %d (wait until it is written)", path, at, m.Rows)
			}
			return simd.Matrix{}, err
		}
		at += n
	}
	return m, nil
}

// readMatrices reads a file for each view.
func (s *session) readMatrices(ctx context.Context, paths []string) ([]simd.Matrix, error) {
	list := make([]simd.Matrix, len(paths))
	for i, path := range paths {
		m, err := s.readMatrix(ctx, path)
		if err != nil {
			return nil, err
		}
		list[i] = m
	}
	return list, nil
}

// readIDs reads "0,5,9", or a file of integers.
func (s *session) readIDs(text string) ([]int64, error) {
	if strings.Trim(text, "0123456789, ") == "" {
		return parseRows(text)
	}
	if s.served != nil {
		a, err := s.served.array(text, "ids")
		if err == nil && a.ints == nil {
			err = a.wrong("an array of integers")
		}
		if err != nil {
			return nil, err
		}
		return a.ints, nil
	}
	own := int64(dump.NoLabel)
	l, err := dump.OpenLabels(text, dump.Options{NoLabel: &own})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if l.Names() != nil {
		return nil, badInput("%s: ids are numbers, and it holds %q (write one number a line, or an .npy of integers)", text, l.Names()[0])
	}
	ids := make([]int64, l.Rows())
	n, err := l.Next(ids)
	return ids, whole(n, err, len(ids), text)
}

// readLabels reads n labels; -1: however many there are.
func (s *session) readLabels(path string, n int64) ([]int64, error) {
	if s.served != nil {
		a, err := s.served.array(path, "labels")
		if err != nil {
			return nil, err
		}
		if n >= 0 && int64(len(a.ints)) != n {
			return nil, badInput("%s: %s for %s (every row needs exactly one, -1 for none)", a.name, plural(len(a.ints), "label"), plural(n, "row"))
		}
		return a.labels()
	}
	l, err := dump.OpenLabels(path, dump.Options{})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if l.Names() != nil {
		return nil, badInput("%s: labels of a memory bank are numbers, and it holds names (number them)", path)
	}
	if n < 0 {
		n = l.Rows()
	}
	if l.Rows() != n {
		return nil, badInput("%s: %s for %s (every row needs exactly one, -1 for none)", path, plural(l.Rows(), "label"), plural(n, "row"))
	}
	labels := make([]int64, n)
	got, err := l.Next(labels)
	return labels, whole(got, err, len(labels), path)
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
