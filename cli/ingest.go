package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"membank/store"
	"membank/store/dump"

	ucli "github.com/urfave/cli/v2"
)

// ingested is what an ingest did.
type ingested struct {
	Bank        string  `json:"bank"`
	Rows        int64   `json:"rows"`  // of the bank now
	Added       int64   `json:"added"` // of them by this ingest
	Dim         int     `json:"dim"`
	DType       string  `json:"dtype"`
	Classes     int     `json:"classes"`
	Skipped     int64   `json:"skipped"`
	ZeroVectors int64   `json:"zero_vectors"` // among those added
	Bytes       int64   `json:"bytes"`        // of the bank
	Generation  uint64  `json:"generation"`
	Seconds     float64 `json:"seconds"`
}

func ingestCommand() *ucli.Command {
	return &ucli.Command{
		Name: "ingest", Usage: "put embeddings into a bank", ArgsUsage: "BANK FILE…",
		Description: "Reads .npy, .npz, .safetensors, .pt and .pth (of which nothing is run) and .csv;\n" +
			"several files are taken end to end. The bank changes in one step when everything\n" +
			"is on disk: an ingest that fails or is interrupted leaves it as it was. What it\n" +
			"prints says that the rows are there to stay. Large banks get codes after that,\n" +
			"which make searches faster; interrupting that leaves the bank without codes and is\n" +
			"no failure.\n\n" +
			"  membank ingest train train.npy --labels train_labels.npy --keys train_paths.txt\n" +
			"  membank ingest train more.npz --array feats --labels-array y --append\n" +
			"  membank ingest queue moco.pth --array state.queue\n" +
			"  membank ingest web shard-*.npy --dtype f16",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "labels", Usage: "class labels of all rows: .npy, .npz, .pt, .txt or .csv `FILE` of integers (-1: none) or names"},
			&ucli.StringFlag{Name: "keys", Usage: "keys of all rows: `FILE` with one a line, .csv, or .npy of strings"},
			&ucli.StringFlag{Name: "attributes", Usage: "named columns for all rows: `FILE.csv` with a header"},
			&ucli.StringFlag{Name: "class-names", Usage: "names of labels 0, 1, …: `FILE` with one a line"},
			&ucli.StringFlag{Name: "array", Usage: "`NAME` of the features in an .npz, .safetensors or .pt (there a path, as in a.b)"},
			&ucli.StringFlag{Name: "labels-array", Usage: "`NAME` of the labels in --labels, or in each FILE"},
			&ucli.StringFlag{Name: "dtype", Usage: "keep them as `TYPE` f32, or f16 in half the room", DefaultText: "f32, or the bank's own"},
			&ucli.BoolFlag{Name: "append", Usage: "add the rows to a bank that exists"},
			&ucli.BoolFlag{Name: "replace", Usage: "take the place of a bank that exists"},
			&ucli.BoolFlag{Name: "skip-bad", Usage: "leave out rows with NaN or Inf, and say how many"},
			&ucli.BoolFlag{Name: "no-codes", Usage: "build no codes, which make searches of many rows faster"},
		},
		Action: action([]string{"BANK", "[FILE…]"}, runIngest),
	}
}

func runIngest(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	o := store.WriterOptions{SkipBad: c.Bool("skip-bad")}
	switch {
	case c.Bool("append") && c.Bool("replace"):
		return usage("%s: --append and --replace exclude each other (give one)", s.name)
	case c.Bool("append"):
		o.Mode = store.Append
	case c.Bool("replace"):
		o.Mode = store.Replace
	}
	switch c.String("dtype") {
	case "", "f32":
	case "f16":
		o.DType = store.F16
	default:
		return usage("--dtype %s: unknown (f32 or f16)", c.String("dtype"))
	}
	if err := store.CheckName(args[0]); err != nil {
		return err
	}
	if len(args) == 1 && s.served == nil {
		return usage("%s: missing FILE… (membank %s --help shows an example)", s.name, s.name)
	}
	start := time.Now()
	in, err := s.rowsIn(c, args[1:])
	if err != nil {
		return err
	}
	o.ClassNames = in.names()
	return s.writing(ctx, true, func(db *store.DB) error {
		if err := checkDType(db, args[0], o, c.IsSet("dtype")); err != nil {
			return err
		}
		result, err := s.ingest(ctx, db, args[0], in, o, start)
		if err != nil {
			return err
		}
		if err := s.emit(result, func(w io.Writer) { printIngested(w, result) }); err != nil || c.Bool("no-codes") {
			return err
		}
		return s.encodeIngested(ctx, db, args[0])
	})
}

// rowsIn checks what the rows of an ingest come from.
func (s *session) rowsIn(c *ucli.Context, paths []string) (rowsIn, error) {
	if s.served != nil {
		u := &upload{s: s, array: c.String("array"), labels: c.String("labels-array")}
		if err := u.check(); err != nil {
			return nil, err
		}
		if u.from.Command != "" {
			s.line = u.from.Command
		}
		return u, nil
	}
	return fileSources(c, paths)
}

// fileSources checks the files of an ingest.
func fileSources(c *ucli.Context, paths []string) (*sources, error) {
	in := &sources{
		paths: paths, array: c.String("array"), labels: c.String("labels"), labelsArray: c.String("labels-array"),
		keys: c.String("keys"), attributes: c.String("attributes"),
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	if path := c.String("class-names"); path != "" {
		if in.classNames != nil {
			return nil, usage("--class-names %s: the labels are names already (leave the flag out)", path)
		}
		names, err := readLines(path)
		if err != nil {
			return nil, err
		}
		in.classNames = names
	}
	return in, nil
}

// checkDType refuses an append in another element type than the bank's own, which
// appended rows take anyway.
func checkDType(db *store.DB, bank string, o store.WriterOptions, given bool) error {
	if o.Mode != store.Append || !given {
		return nil
	}
	snap, err := db.Snapshot(bank)
	if err != nil {
		return nil // NewWriter says it better
	}
	defer snap.Close()
	if own := snap.Info().DType; own != o.DType {
		return usage("--dtype %v: bank %q keeps %v, and a bank has one type (leave the flag out)", o.DType, bank, own)
	}
	return nil
}

// ingest writes the sources into a bank and commits.
func (s *session) ingest(ctx context.Context, db *store.DB, bank string, in rowsIn, o store.WriterOptions, start time.Time) (ingested, error) {
	ctx, cancel := context.WithCancel(ctx)
	files, wait := in.provenance(ctx)
	defer func() { cancel(); wait() }()
	o.Source = store.Provenance{Command: s.line, Files: files, Time: start}
	total, dim := in.shape()
	if o.Mode == store.Append {
		var err error
		if o.Assign, err = s.assigner(db, bank); err != nil {
			return ingested{}, err
		}
	}
	w, err := db.NewWriter(ctx, bank, dim, o)
	if err != nil {
		switch {
		case errors.Is(err, store.ErrDim):
			err = fmt.Errorf("%s: %w", in.first(), err)
		case errors.Is(err, store.ErrBadRow):
			err = badInput("%v (write the labels as the bank has them, all as numbers or all as names)", err)
		}
		return ingested{}, bankError(db, bank, err)
	}
	defer w.Abort()
	progress := s.newBar("ingest "+bank, "rows", total)
	defer progress.close()
	var done int64
	err = in.stream(ctx, func(rows store.Rows) error {
		if err := w.Append(ctx, rows); err != nil {
			return err
		}
		done += int64(rows.Vectors.Rows)
		progress.set(done)
		return nil
	})
	if err == nil {
		err = wait()
	}
	var info store.Info
	if err == nil {
		info, err = w.Commit(ctx)
	}
	if err != nil {
		return ingested{}, in.rowError(err)
	}
	return ingested{
		Bank: info.Bank, Rows: info.Rows, Added: done - w.Skipped(), Dim: info.Dim, DType: info.DType.String(), Classes: info.Classes,
		Skipped: w.Skipped(), ZeroVectors: w.ZeroVectors(), Bytes: info.Bytes, Generation: info.Generation,
		Seconds: time.Since(start).Seconds(),
	}, nil
}

func printIngested(w io.Writer, r ingested) {
	rate := float64(r.Added) * float64(r.Dim) * 4 / max(r.Seconds, 1e-9)
	fmt.Fprintf(w, "%s: %s of %d dimensions in %s (%s/s)", r.Bank, plural(r.Added, "row"), r.Dim, seconds(r.Seconds), size(int64(rate)))
	if r.Rows != r.Added {
		fmt.Fprintf(w, ", %s now", count(r.Rows))
	}
	fmt.Fprintln(w)
	if r.Skipped > 0 {
		fmt.Fprintf(w, "left out: %s with NaN or Inf\n", plural(r.Skipped, "row"))
	}
	if r.ZeroVectors > 0 {
		fmt.Fprintf(w, "zero vectors: %s, whose cosine with everything is 0\n", count(r.ZeroVectors))
	}
}

// readKeys reads a file of keys; of a request the array that stands for it.
func (s *session) readKeys(path string) ([]string, error) {
	if s.served == nil {
		return readLines(path)
	}
	a, err := s.served.array(path, "keys")
	if err == nil && a.texts == nil {
		err = a.wrong("an array of strings")
	}
	if err != nil {
		return nil, err
	}
	return a.texts, nil
}

// readLines reads a file of one text a line.
func readLines(path string) ([]string, error) {
	k, err := dump.OpenKeys(path)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	lines := make([]string, k.Rows())
	got, err := k.Next(lines)
	return lines, whole(got, err, len(lines), path)
}
