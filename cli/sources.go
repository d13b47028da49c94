package cli

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"membank/simd"
	"membank/store"
	"membank/store/dump"
)

// openFeatures opens a file of vectors.
func openFeatures(path, array string) (*dump.Reader, error) {
	return dump.Open(path, dump.Options{Array: array})
}

// sources are the files of an ingest as one stream of rows: the feature files
// end to end, and beside them labels, keys and attributes for all their rows.
// Everything that can be wrong with shapes and counts is found by openSources,
// before a bank is touched.
type sources struct {
	paths       []string
	array       string // of each .npz of features
	labels      string // file of labels
	labelsArray string // member of labels, else of each feature file
	keys        string
	attributes  string

	files      []sourceFile
	rows       int64
	dim        int
	classNames []string
}

// sourceFile is one feature file: rows first to first+rows of the stream.
type sourceFile struct {
	path       string
	first      int64
	rows       int64
	keyed      bool // it holds keys beside the vectors
	labelled   bool // it holds labels beside the vectors
	classNames []string
	sumsUp     bool              // what reads the rows tells the checksum
	origin     *store.SourceFile // what provenance says of it
}

// rowsIn is where the rows of an ingest come from: files, or the body of a request.
type rowsIn interface {
	// check reads as far as it can without giving a row; it comes first.
	check() error
	shape() (rows int64, dim int) // rows −1: not known before the end
	names() []string              // of the classes; nil: labels are numbers
	first() string                // file, for errors
	// provenance lists what the rows come from; wait before Commit.
	provenance(ctx context.Context) (files []store.SourceFile, wait func() error)
	// stream calls fn with all rows in order; what it lends is valid until fn returns.
	stream(ctx context.Context, fn func(store.Rows) error) error
	// rowError words an error about a row of the stream with its file and row.
	rowError(err error) error
}

func (in *sources) shape() (rows int64, dim int) { return in.rows, in.dim }
func (in *sources) names() []string              { return in.classNames }
func (in *sources) first() string                { return in.files[0].path }

// check opens every file once and compares what they promise.
func (in *sources) check() error {
	for _, path := range in.paths {
		r, err := in.open(path)
		if err != nil {
			return err
		}
		f := sourceFile{path: path, first: in.rows, rows: r.Rows(), keyed: r.HasKeys(), labelled: r.HasLabels(), classNames: r.ClassNames(), sumsUp: r.SumsUp()}
		dim := r.Dim()
		r.Close()
		if len(in.files) > 0 && dim != in.dim {
			return badInput("%s: %d dimensions, and %s has %d (ingest features of one model at a time)", path, dim, in.files[0].path, in.dim)
		}
		if first := in.files; len(first) > 0 && in.keys == "" && first[0].keyed != f.keyed {
			return badInput("%s: one of %s and this file holds keys and the other does not (give the keys of all rows with --keys)", path, first[0].path)
		}
		if first := in.files; len(first) > 0 && !in.separateLabels() && first[0].labelled != f.labelled {
			return badInput("%s: one of %s and this file holds labels and the other does not (give the labels of all rows with --labels)", path, first[0].path)
		}
		in.dim = dim
		in.rows += f.rows
		in.files = append(in.files, f)
	}
	if err := in.checkLabels(); err != nil {
		return err
	}
	if in.keys != "" {
		k, err := dump.OpenKeys(in.keys)
		if err != nil {
			return err
		}
		defer k.Close()
		if k.Rows() != in.rows {
			return in.countsDiffer(in.keys, k.Rows(), "key")
		}
	}
	if in.attributes != "" {
		t, err := dump.OpenTable(in.attributes)
		if err != nil {
			return err
		}
		defer t.Close()
		if t.Rows() != in.rows {
			return in.countsDiffer(in.attributes, t.Rows(), "row")
		}
	}
	return nil
}

// separateLabels reports whether labels come from elsewhere than beside the vectors.
func (in *sources) separateLabels() bool { return in.labels != "" || in.labelsArray != "" }

func (in *sources) checkLabels() error {
	switch {
	case in.labels != "":
		l, err := dump.OpenLabels(in.labels, dump.Options{Array: in.labelsArray})
		if err != nil {
			return err
		}
		defer l.Close()
		if l.Rows() != in.rows {
			return in.countsDiffer(in.labels, l.Rows(), "label")
		}
		in.classNames = l.Names()
		return nil
	case in.labelsArray != "":
		for i := range in.files {
			f := &in.files[i]
			l, err := dump.OpenLabels(f.path, dump.Options{Array: in.labelsArray})
			if err != nil {
				return err
			}
			labels, names := l.Rows(), l.Names()
			l.Close()
			if labels != f.rows {
				return badInput("%s: %s in array %s for %s (every row needs one label; -1 for none)", f.path, plural(labels, "label"), in.labelsArray, plural(f.rows, "row"))
			}
			f.classNames = names
		}
	}
	for _, f := range in.files {
		if (f.classNames == nil) != (in.files[0].classNames == nil) {
			return badInput("%s: one of %s and this file names its classes and the other numbers them (write both alike)", f.path, in.files[0].path)
		}
		in.classNames = append(in.classNames, f.classNames...)
	}
	slices.Sort(in.classNames)
	in.classNames = slices.Compact(in.classNames)
	return nil
}

func (in *sources) countsDiffer(path string, got int64, noun string) error {
	what := in.files[0].path
	if len(in.files) > 1 {
		what = fmt.Sprintf("the %d files of vectors", len(in.files))
	}
	return badInput("%s: %s for %s of %s (every row needs exactly one, in the same order)", path, plural(got, noun), plural(in.rows, "row"), what)
}

// provenance lists every file. Sizes and checksums are filled in while the rows
// stream by; wait, after that, returns when they are there. The store reads them at
// Commit.
func (in *sources) provenance(ctx context.Context) (files []store.SourceFile, wait func() error) {
	for _, path := range append(slices.Clone(in.paths), in.labels, in.keys, in.attributes) {
		if path != "" {
			files = append(files, store.SourceFile{Name: path})
		}
	}
	for i := range in.files {
		in.files[i].origin = &files[i]
	}
	done := make(chan error, 1)
	go func() {
		for i := range files {
			if i < len(in.files) && in.files[i].sumsUp {
				continue
			}
			var err error
			if files[i], err = checksum(ctx, files[i].Name); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	return files, sync.OnceValue(func() error { return <-done })
}

// open opens one of the feature files.
func (in *sources) open(path string) (*dump.Reader, error) {
	return dump.Open(path, dump.Options{Array: in.array, Checksum: true})
}

func sourceOf(path string, size int64, crc uint32) store.SourceFile {
	return store.SourceFile{Name: path, Bytes: size, Checksum: fmt.Sprintf("crc32c:%08x", crc)}
}

// checksum reads a file once.
func checksum(ctx context.Context, path string) (store.SourceFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return store.SourceFile{}, err
	}
	defer f.Close()
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	var total int64
	for buffer := make([]byte, 1<<20); ; {
		if err := ctx.Err(); err != nil {
			return store.SourceFile{}, err
		}
		n, err := f.Read(buffer)
		sum.Write(buffer[:n])
		total += int64(n)
		if err == io.EOF {
			return sourceOf(path, total, sum.Sum32()), nil
		}
		if err != nil {
			return store.SourceFile{}, fmt.Errorf("%s: %w", path, err)
		}
	}
}

// batchBytes of vectors at a time stay in the cache on their way from the file into
// a block: against 8 MiB that saves a fifth of an ingest's processor time.
const batchBytes = 256 << 10

// stream calls fn with the rows of all files in order, a batch at a time; no
// batch spans two files. What it holds is valid until fn returns.
func (in *sources) stream(ctx context.Context, fn func(store.Rows) error) error {
	size := int(max(1, min(8192, batchBytes/int64(4*in.dim), in.rows)))
	vectors := simd.NewMatrix(size, in.dim)
	beside, err := in.openBeside(size)
	if err != nil {
		return err
	}
	defer beside.close()
	for i := range in.files {
		if err := in.streamFile(ctx, &in.files[i], vectors, beside, fn); err != nil {
			return err
		}
	}
	return nil
}

func (in *sources) streamFile(ctx context.Context, f *sourceFile, vectors simd.Matrix, beside *beside, fn func(store.Rows) error) error {
	r, err := in.open(f.path)
	if err != nil {
		return err
	}
	defer r.Close()
	if r.Rows() != f.rows || r.Dim() != in.dim {
		return badInput("%s: it changed while it was read (wait until it is written, then ingest again)", f.path)
	}
	translate := in.translation(f)
	if in.labels == "" && in.labelsArray != "" {
		if err := beside.openLabels(f.path, in.labelsArray); err != nil {
			return err
		}
	}
	for {
		n, err := r.Next(ctx, vectors)
		if err == io.EOF {
			if r.SumsUp() {
				size, crc := r.Checksum()
				*f.origin = sourceOf(f.path, size, crc)
			}
			return nil
		}
		if err != nil {
			return err
		}
		rows := store.Rows{Vectors: vectors.Slice(0, n), Keys: r.Keys(), Labels: r.Labels()}
		if err := beside.next(n, &rows); err != nil {
			return err
		}
		for i, l := range rows.Labels {
			if translate != nil && l != store.NoLabel {
				rows.Labels[i] = translate[l]
			}
		}
		if err := fn(rows); err != nil {
			return err
		}
	}
}

// translation takes the class numbers of one file, which numbers its own names,
// to those of all files; nil: they agree.
func (in *sources) translation(f *sourceFile) []int64 {
	if in.labels != "" || f.classNames == nil || slices.Equal(f.classNames, in.classNames) {
		return nil
	}
	t := make([]int64, len(f.classNames))
	for i, name := range f.classNames {
		at, _ := slices.BinarySearch(in.classNames, name)
		t[i] = int64(at)
	}
	return t
}

// place names the file and its row for a position in the stream.
func (in *sources) place(position int64) (path string, row int64) {
	for _, f := range in.files {
		if position < f.first+f.rows {
			return f.path, position - f.first
		}
	}
	return in.files[len(in.files)-1].path, position
}

func (in *sources) rowError(err error) error {
	return wordRowError(err, in.place, in.keys, in.attributes)
}

// wordRowError words an error about a row of a stream with its file and the row in
// it. keys and attributes are the files of those, "" where they lie with the vectors.
func wordRowError(err error, place func(position int64) (string, int64), keys, attributes string) error {
	var duplicate *store.DuplicateKeyError
	if errors.As(err, &duplicate) {
		path, row := place(duplicate.New)
		file := path
		if keys != "" {
			file, row = keys, duplicate.New
		}
		other := fmt.Sprintf("row %d of the bank", duplicate.Old)
		if !duplicate.InBank {
			otherPath, otherRow := place(duplicate.Old)
			other = fmt.Sprintf("row %d", otherRow)
			if keys != "" {
				other = fmt.Sprintf("row %d", duplicate.Old)
			} else if otherPath != path {
				other += " of " + otherPath
			}
		}
		return &failure{exit: exitBadInput, code: "duplicate_key", err: err,
			text: fmt.Sprintf("%s: row %d: key %q is that of %s, too (every row needs a key of its own; give them with --keys)", file, row, duplicate.Key, other)}
	}
	var bad *store.RowError
	if errors.As(err, &bad) {
		file, row := place(bad.Row)
		what, remedy := strings.TrimPrefix(bad.Err.Error(), store.ErrBadRow.Error()+": "), "leave such rows out with --skip-bad"
		switch {
		case strings.HasPrefix(what, "key") || strings.HasPrefix(what, "its key"):
			remedy = "a key is up to 4096 bytes of UTF-8 on one line"
			if keys != "" {
				file, row = keys, bad.Row
			}
		case strings.Contains(what, "text") && attributes != "":
			file, row, remedy = attributes, bad.Row, "shorten it, or leave the column out"
		case strings.Contains(what, "f16"):
			remedy = "keep them as they are with --dtype f32, or leave such rows out with --skip-bad"
		}
		return &failure{exit: exitBadInput, code: "bad_row", err: err, text: fmt.Sprintf("%s: row %d: %s (%s)", file, row, what, remedy)}
	}
	return err
}
