package cli

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"membank/simd"
	"membank/store"
	"membank/store/dump"

	ucli "github.com/urfave/cli/v2"
)

// exported is what an export wrote.
type exported struct {
	Bank    string  `json:"bank"`
	Rows    int64   `json:"rows"`
	Dim     int     `json:"dim"`
	DType   string  `json:"dtype"`
	File    string  `json:"file"`
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
}

func exportCommand() *ucli.Command {
	return &ucli.Command{
		Name: "export", Usage: "write a bank to a file", ArgsUsage: "BANK",
		Description: "Rows come out in row order, bit for bit as they went in. An .npz holds the\n" +
			"arrays features, labels (-1: none), keys and class_names; a .csv key, label and\n" +
			"f0, f1, …; an .npy the vectors alone. Each can be ingested again.\n\n" +
			"  membank export train -o train.npz",
		Flags:  []ucli.Flag{outputFlag("write to `FILE`: .npz, .npy or .csv")},
		Action: action([]string{"BANK"}, runExport),
	}
}

func runExport(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	path := c.String("output")
	if path == "" {
		return usage("%s: where to? (give -o FILE.npz, .npy or .csv)", s.name)
	}
	return s.reading(ctx, func(db *store.DB) error {
		return snapshot(db, args[0], func(snap *store.Snapshot) error {
			return export(ctx, s, snap, path, wholeBank{snap})
		})
	})
}

// exportRows writes some rows of a bank, in the order given.
func exportRows(ctx context.Context, s *session, snap *store.Snapshot, path string, rows []int64) error {
	return export(ctx, s, snap, path, someRows{snap, rows})
}

// exporting is an ordered choice of rows, read as often as a format needs it.
type exporting interface {
	rows() int64
	// batches gives vectors, keys and labels, a batch at a time.
	batches(ctx context.Context, fn func(store.Batch) error) error
	// names gives keys and labels without touching a vector.
	names(ctx context.Context, fn func([]store.Row) error) error
}

const exportBatch = 4096 // rows

// wholeBank is every live row, in row order.
type wholeBank struct{ snap *store.Snapshot }

func (b wholeBank) rows() int64 { return b.snap.Info().Rows }

func (b wholeBank) batches(ctx context.Context, fn func(store.Batch) error) error {
	return b.snap.Batches(ctx, exportBatch, fn)
}

func (b wholeBank) names(ctx context.Context, fn func([]store.Row) error) error {
	var live []int64
	give := func() error {
		rows, err := b.snap.Rows(ctx, live, store.Want{})
		live = live[:0]
		if err != nil {
			return err
		}
		return fn(rows)
	}
	for row := range b.snap.Info().Next {
		if b.snap.Alive(row) {
			live = append(live, row)
		}
		if len(live) == exportBatch {
			if err := give(); err != nil {
				return err
			}
		}
	}
	return give()
}

// someRows is a list of rows, in its own order.
type someRows struct {
	snap *store.Snapshot
	list []int64
}

func (l someRows) rows() int64 { return int64(len(l.list)) }

func (l someRows) batches(ctx context.Context, fn func(store.Batch) error) error {
	for part := range slices.Chunk(l.list, exportBatch) {
		rows, err := l.snap.Rows(ctx, part, store.Want{Vector: true})
		if err != nil {
			return err
		}
		b := store.Batch{Vectors: simd.NewMatrix(len(rows), l.snap.Info().Dim)}
		for i, r := range rows {
			copy(b.Vectors.Row(i), r.Vector)
			b.Rows, b.Keys, b.Labels = append(b.Rows, r.Row), append(b.Keys, r.Key), append(b.Labels, r.Label)
		}
		if err := fn(b); err != nil {
			return err
		}
	}
	return nil
}

func (l someRows) names(ctx context.Context, fn func([]store.Row) error) error {
	for part := range slices.Chunk(l.list, exportBatch) {
		rows, err := l.snap.Rows(ctx, part, store.Want{})
		if err != nil {
			return err
		}
		if err := fn(rows); err != nil {
			return err
		}
	}
	return nil
}

func export(ctx context.Context, s *session, snap *store.Snapshot, path string, rows exporting) error {
	start := time.Now()
	var write func(context.Context, *session, *newFile, *store.Snapshot, exporting) error
	switch strings.ToLower(filepath.Ext(path)) {
	case ".npz":
		write = writeNPZ
	case ".npy":
		write = writeNPY
	case ".csv":
		write = writeCSV
	default:
		return usage("-o %s: unknown kind of file (.npz, .npy or .csv)", path)
	}
	file, err := s.createFile(path)
	if err != nil {
		return err
	}
	defer file.discard()
	if err := write(ctx, s, file, snap, rows); err != nil {
		return err
	}
	if err := file.keep(); err != nil {
		return err
	}
	info := snap.Info()
	e := exported{info.Bank, rows.rows(), info.Dim, info.DType.String(), path, file.size(), time.Since(start).Seconds()}
	return s.emit(e, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %s of %d dimensions from %s, %s in %s\n", e.File, plural(e.Rows, "row"), e.Dim, e.Bank, size(e.Bytes), seconds(e.Seconds))
	})
}

// writeVectors writes the features as the bank keeps them, f32 or f16.
func writeVectors(ctx context.Context, s *session, a *dump.NPYWriter, snap *store.Snapshot, rows exporting) error {
	progress := s.newBar("export "+snap.Bank(), "rows", rows.rows())
	defer progress.close()
	var half []uint16
	var done int64
	err := rows.batches(ctx, func(b store.Batch) error {
		done += int64(b.Vectors.Rows)
		progress.set(done)
		if snap.Info().DType == store.F32 {
			return a.Float32(b.Vectors.Data)
		}
		half = slices.Grow(half[:0], len(b.Vectors.Data))[:len(b.Vectors.Data)]
		simd.NarrowHalf(half, b.Vectors.Data)
		return a.Half(half)
	})
	if err != nil {
		return err
	}
	return a.Close()
}

func elementType(t store.DType) string {
	if t == store.F16 {
		return "<f2"
	}
	return "<f4"
}

func writeNPY(ctx context.Context, s *session, w *newFile, snap *store.Snapshot, rows exporting) error {
	a, err := dump.NewNPYWriter(w, elementType(snap.Info().DType), rows.rows(), int64(snap.Info().Dim))
	if err != nil {
		return err
	}
	return writeVectors(ctx, s, a, snap, rows)
}

func writeNPZ(ctx context.Context, s *session, w *newFile, snap *store.Snapshot, rows exporting) error {
	z := dump.NewNPZWriter(w)
	info := snap.Info()
	features, err := z.Array("features", elementType(info.DType), rows.rows(), int64(info.Dim))
	if err != nil {
		return err
	}
	if err := writeVectors(ctx, s, features, snap, rows); err != nil {
		return err
	}
	width, labelled := 1, false
	err = rows.names(ctx, func(part []store.Row) error {
		for _, r := range part {
			width = max(width, utf8.RuneCountInString(r.Key))
			labelled = labelled || r.Label != store.NoLabel
		}
		return nil
	})
	if err != nil {
		return err
	}
	if labelled {
		labels, err := z.Array("labels", "<i8", rows.rows())
		if err != nil {
			return err
		}
		err = rows.names(ctx, func(part []store.Row) error {
			list := make([]int64, len(part))
			for i, r := range part {
				if list[i] = r.Label; r.Label == store.NoLabel {
					list[i] = -1
				}
			}
			return labels.Int64(list)
		})
		if err != nil {
			return err
		}
		if err := labels.Close(); err != nil {
			return err
		}
	}
	keys, err := z.Array("keys", "<U"+strconv.Itoa(width), rows.rows())
	if err != nil {
		return err
	}
	err = rows.names(ctx, func(part []store.Row) error {
		list := make([]string, len(part))
		for i, r := range part {
			list[i] = r.Key
		}
		return keys.Strings(list)
	})
	if err != nil {
		return err
	}
	if err := keys.Close(); err != nil {
		return err
	}
	if len(info.ClassNames) > 0 {
		if err := z.Write("class_names", info.ClassNames); err != nil {
			return err
		}
	}
	return z.Close()
}

// writeCSV writes key, label and the vector of each row; a label is written as
// its class name where every label has one.
func writeCSV(ctx context.Context, s *session, w *newFile, snap *store.Snapshot, rows exporting) error {
	info := snap.Info()
	out := csv.NewWriter(w)
	header := []string{"key", "label"}
	for d := range info.Dim {
		header = append(header, "f"+strconv.Itoa(d))
	}
	out.Write(header)
	named := len(info.ClassNames) > 0
	err := rows.names(ctx, func(part []store.Row) error {
		for _, r := range part {
			named = named && (r.Label == store.NoLabel || className(info.ClassNames, r.Label) != "")
		}
		return nil
	})
	if err != nil {
		return err
	}
	progress := s.newBar("export "+snap.Bank(), "rows", rows.rows())
	defer progress.close()
	var done int64
	err = rows.batches(ctx, func(b store.Batch) error {
		for i := range b.Vectors.Rows {
			record := []string{b.Keys[i], ""}
			switch l := b.Labels[i]; {
			case l == store.NoLabel:
			case named:
				record[1] = className(info.ClassNames, l)
			default:
				record[1] = strconv.FormatInt(l, 10)
			}
			for _, x := range b.Vectors.Row(i) {
				record = append(record, strconv.FormatFloat(float64(x), 'g', -1, 32))
			}
			out.Write(record)
		}
		done += int64(b.Vectors.Rows)
		progress.set(done)
		out.Flush()
		return out.Error()
	})
	out.Flush()
	if err != nil {
		return err
	}
	return out.Error()
}
