package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"unsafe"

	"membank/simd"
	"pgregory.net/rapid"
)

// modelRow is a row as a map and a loop would keep it.
type modelRow struct {
	row    int64
	key    string
	label  int64
	vector []float32
	size   Value
}

type modelBank struct {
	dim   int
	dtype DType
	next  int64
	lists int // 0: flat
	rows  []modelRow
}

// Random writes, deletions and reopens, against slices.
func TestModel(t *testing.T) {
	dir := t.TempDir()
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		m := &model{t: t, dir: filepath.Join(dir, strconv.Itoa(run)), banks: map[string]*modelBank{}}
		m.open(Options{Create: true})
		defer func() { m.db.Close() }()
		steps := rapid.IntRange(1, 12).Draw(t, "steps")
		for range steps {
			bank := rapid.SampledFrom([]string{"a", "a/b", "c"}).Draw(t, "bank")
			switch rapid.SampledFrom([]string{"write", "write", "append", "append", "append", "delete", "delete", "remove", "reopen", "compact",
				"group", "group", "update", "update", "fold", "ungroup", "codes"}).Draw(t, "step") {
			case "write":
				m.write(bank, rapid.SampledFrom([]WriteMode{Create, Replace}).Draw(t, "mode"))
			case "append":
				m.write(bank, Append)
			case "delete":
				m.delete(bank)
			case "remove":
				_, err := m.db.RemoveBank(context.Background(), bank)
				if _, ok := m.banks[bank]; ok != (err == nil) {
					t.Fatalf("remove %s: %v", bank, err)
				}
				delete(m.banks, bank)
			case "group":
				m.group(bank)
			case "update":
				m.update(bank)
			case "fold", "ungroup":
				m.straighten(bank, rapid.Bool().Draw(t, "ungroup"))
			case "codes":
				if b := m.banks[bank]; b != nil {
					if _, err := m.db.WriteCodes(context.Background(), bank, []byte("x"), sign("x"), CodesOptions{}); err != nil {
						t.Fatal(err)
					}
				}
			case "compact":
				if _, err := m.db.Compact(context.Background()); err != nil {
					t.Fatal(err)
				}
			case "reopen":
				if err := m.db.Close(); err != nil {
					t.Fatal(err)
				}
				m.open(Options{ReadOnly: true})
				m.compare()
				m.db.Close()
				m.open(Options{})
			}
			m.compare()
		}
	})
}

type model struct {
	t     *rapid.T
	dir   string
	db    *DB
	banks map[string]*modelBank
}

func (m *model) open(o Options) {
	db, err := Open(context.Background(), m.dir, o)
	if err != nil {
		m.t.Fatal(err)
	}
	m.db = db
}

func (m *model) write(bank string, mode WriteMode) {
	t := m.t
	old := m.banks[bank]
	n := rapid.SampledFrom([]int{0, 1, 31, 32, 33, 100, 400}).Draw(t, "rows")
	b := &modelBank{dim: rapid.SampledFrom([]int{1, 3, 40}).Draw(t, "dim"), dtype: rapid.SampledFrom([]DType{F32, F16}).Draw(t, "dtype")}
	if mode == Append && old != nil {
		b = &modelBank{dim: old.dim, dtype: old.dtype, next: old.next, lists: old.lists, rows: slices.Clone(old.rows)}
	}
	keyed := rapid.Bool().Draw(t, "keyed")
	clash := rapid.IntRange(0, 5).Draw(t, "clash") == 0
	r := Rows{Vectors: simd.NewMatrix(n, b.dim), Labels: make([]int64, n), Attributes: []Attribute{{"size", make([]Value, n)}}}
	fresh := fmt.Sprintf("g%d-", rapid.Uint32().Draw(t, "names"))
	duplicate := false
	taken := map[string]bool{}
	for _, row := range b.rows {
		taken[row.key] = true
	}
	for i := range n {
		row := modelRow{row: b.next + int64(i), label: int64(i%5) - 1, size: Int(int64(i))}
		if i%6 == 0 {
			row.label = NoLabel
		}
		if i%3 == 0 {
			row.size = Value{}
		}
		for d := range b.dim {
			r.Vectors.Row(i)[d] = float32((i*7+d*3)%17) - 8 // exact in f16 too
		}
		row.vector = slices.Clone(r.Vectors.Row(i))
		row.key = strconv.FormatInt(row.row, 10)
		if keyed {
			row.key = fresh + strconv.Itoa(i)
			if clash && i == n/2 {
				if len(b.rows) > 0 {
					row.key = b.rows[len(b.rows)/2].key
				} else if i > 0 {
					row.key = fresh + "0"
				}
			}
			r.Keys = append(r.Keys, row.key)
		}
		duplicate = duplicate || taken[row.key]
		taken[row.key] = true
		r.Labels[i], r.Attributes[0].Values[i] = row.label, row.size
		b.rows = append(b.rows, row)
	}
	b.next += int64(n)
	o := WriterOptions{Mode: mode, DType: b.dtype}
	if b.lists > 0 {
		if _, err := tryWrite(m.db, bank, r, o); !errors.Is(err, ErrGrouped) {
			t.Fatalf("append without lists: %v", err)
		}
		o.Assign = byFirst(b.lists)
	}
	_, err := tryWrite(m.db, bank, r, o)
	switch {
	case mode == Create && old != nil:
		if !errors.Is(err, ErrBankExists) {
			t.Fatalf("create: %v", err)
		}
	case mode == Append && old == nil:
		if !errors.Is(err, ErrNoBank) {
			t.Fatalf("append: %v", err)
		}
	case duplicate:
		if !errors.Is(err, ErrDuplicateKey) {
			t.Fatalf("duplicate: %v", err)
		}
	case err != nil:
		t.Fatal(err)
	default:
		m.banks[bank] = b
	}
}

func (m *model) delete(bank string) {
	b := m.banks[bank]
	if b == nil {
		if _, err := m.db.DeleteRows(context.Background(), bank, []int64{0}); !errors.Is(err, ErrNoBank) {
			m.t.Fatal(err)
		}
		return
	}
	rows := rapid.SliceOfN(rapid.Int64Range(-1, b.next+1), 0, 30).Draw(m.t, "deleted")
	n, err := m.db.DeleteRows(context.Background(), bank, rows)
	if err != nil {
		m.t.Fatal(err)
	}
	before := len(b.rows)
	b.rows = slices.DeleteFunc(slices.Clone(b.rows), func(r modelRow) bool { return slices.Contains(rows, r.row) })
	if int(n) != before-len(b.rows) {
		m.t.Fatalf("%d rows deleted, want %d", n, before-len(b.rows))
	}
}

// compare reads everything in every way there is.
func (m *model) compare() {
	t, ctx := m.t, context.Background()
	infos, err := m.db.Banks("")
	if err != nil || len(infos) != len(m.banks) {
		t.Fatalf("%d banks, want %d: %v", len(infos), len(m.banks), err)
	}
	for name, b := range m.banks {
		s, err := m.db.Snapshot(name)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		labels := map[int64]bool{}
		var numbers []int64
		var keys []string
		for _, r := range b.rows {
			if r.label != NoLabel {
				labels[r.label] = true
			}
			numbers = append(numbers, r.row)
			keys = append(keys, r.key)
		}
		if i := s.Info(); i.Rows != int64(len(b.rows)) || i.Next != b.next || i.Dim != b.dim || i.DType != b.dtype || i.Classes != len(labels) {
			t.Fatalf("%+v, want %d of %d rows, %d classes", i, len(b.rows), b.next, len(labels))
		}
		m.wantLists(s, b)
		rows, err := s.Rows(ctx, numbers, Want{Vector: true, Attributes: true})
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range rows {
			w := b.rows[i]
			if r.Row != w.row || r.Key != w.key || r.Label != w.label || !slices.Equal(r.Vector, w.vector) || r.Attributes["size"] != w.size {
				t.Fatalf("%+v, want %+v", r, w)
			}
		}
		all, err := s.Labels(ctx)
		if err != nil || int64(len(all)) != b.next {
			t.Fatalf("%d labels: %v", len(all), err)
		}
		for _, r := range b.rows {
			if all[r.row] != r.label {
				t.Fatalf("row %d has label %d, want %d", r.row, all[r.row], r.label)
			}
			all[r.row] = NoLabel
		}
		if slices.ContainsFunc(all, func(l int64) bool { return l != NoLabel }) {
			t.Fatal("a deleted row has a label")
		}
		found, err := s.Lookup(ctx, append(keys, "nobody"))
		if err != nil || !slices.Equal(found, append(numbers, -1)) {
			t.Fatalf("lookup: %v", err)
		}
		n := 0
		err = s.Batches(ctx, 37, func(batch Batch) error {
			for i, row := range batch.Rows {
				if w := b.rows[n]; row != w.row || batch.Keys[i] != w.key || batch.Labels[i] != w.label || !slices.Equal(batch.Vectors.Row(i), w.vector) {
					t.Fatalf("batch row %d is not %d", row, w.row)
				}
				n++
			}
			return nil
		})
		if err != nil || n != len(b.rows) {
			t.Fatalf("%d rows in batches: %v", n, err)
		}
	}
	report, err := m.db.Verify(ctx, VerifyOptions{})
	if err != nil || len(report.Problems) > 0 {
		t.Fatalf("%+v %v", report, err)
	}
}

// A View's panels lie in Badger's map: their address is outside the Go heap's
// copy, the same at every touch, and a touch allocates next to nothing.
func TestViewReadsInPlace(t *testing.T) {
	db := create(t)
	write(t, db, "bank", Rows{Vectors: gaussian(3000, 384, 1)}, WriterOptions{})
	db = reopen(t, db, Options{ReadOnly: true})
	s := snapshot(t, db, "bank")
	r, other := s.NewReader(), s.NewReader()
	address := func(r *Reader) (p unsafe.Pointer) {
		if err := r.View(0, func(b *Block) error { p = unsafe.Pointer(unsafe.SliceData(b.Panels)); return nil }); err != nil {
			t.Fatal(err)
		}
		return p
	}
	if a, b := address(r), address(other); a != b {
		t.Errorf("two readers see the block at %p and %p: it is copied", a, b)
	}
	bytes := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r.View(0, func(*Block) error { return nil })
		}
	}).AllocedBytesPerOp()
	if bytes > 16<<10 {
		t.Errorf("a view of 4 MiB allocates %d bytes", bytes)
	}
}

// Readers, writers and closing snapshots at once; run with -race.
func TestConcurrency(t *testing.T) {
	db := create(t)
	ctx := context.Background()
	first := gaussian(600, 64, 1)
	write(t, db, "bank", Rows{Vectors: first}, WriterOptions{})
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				s, err := db.Snapshot("bank")
				if err != nil {
					t.Error(err)
					return
				}
				n := int64(0)
				row := make([]float32, 64)
				r := s.NewReader()
				for block := range s.Blocks() {
					err := r.View(block, func(b *Block) error {
						simd.UnpackRow(row, b.Panels, 0)
						if want := first.Row(int(b.Row[0] % 600)); !slices.Equal(row, want) {
							t.Errorf("row %d is another", b.Row[0])
						}
						n += int64(b.Rows)
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				}
				if n != s.Info().Next {
					t.Errorf("%d rows, want %d", n, s.Info().Next)
				}
				s.Close()
			}
		})
	}
	for i := range 12 {
		mode := Append
		if i%4 == 3 {
			mode = Replace
		}
		write(t, db, "bank", Rows{Vectors: first}, WriterOptions{Mode: mode})
		write(t, db, fmt.Sprint("other", i), Rows{Vectors: first}, WriterOptions{})
		if i%5 == 4 {
			if _, err := db.Compact(ctx); err != nil {
				t.Error(err)
			}
		}
	}
	close(stop)
	wg.Wait()
}

// What is not a database is told apart, and left as it is.
func TestNotADatabase(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	writeFile(t, file, "x")
	full := filepath.Join(dir, "full")
	writeFile(t, filepath.Join(full, "notes.txt"), "x")
	foreign := filepath.Join(dir, "foreign")
	withForeignBadger(t, foreign)
	newer := filepath.Join(dir, "newer")
	m := marker{Program: "membank", Format: 2}
	writeFile(t, filepath.Join(newer, markerName), fmt.Sprintf(`{"program":"membank","format":2,"crc32c":"%s"}`, m.sum()))
	for path, want := range map[string]error{
		filepath.Join(dir, "absent"): ErrNotMembank, file: ErrNotMembank, full: ErrNotMembank, foreign: ErrForeignBadger, newer: ErrNewerFormat,
	} {
		for _, o := range []Options{{}, {ReadOnly: true}, {Create: true}} {
			if o.Create && filepath.Base(path) == "absent" {
				continue
			}
			if _, err := Open(ctx, path, o); !errors.Is(err, want) || errors.Is(err, ErrCorrupt) || bytes.Contains([]byte(err.Error()), []byte("\n")) {
				t.Errorf("%s %+v: %v", path, o, err)
			}
		}
	}
}

// Several readers share a database; a writer is told who holds it.
func TestSharing(t *testing.T) {
	db := create(t)
	write(t, db, "bank", Rows{Vectors: gaussian(5, 3, 1)}, WriterOptions{})
	if _, err := Open(context.Background(), db.Dir(), Options{}); !errors.Is(err, ErrLocked) {
		t.Error(err)
	}
	if _, err := Open(context.Background(), db.Dir(), Options{ReadOnly: true}); !errors.Is(err, ErrLocked) {
		t.Error(err)
	}
	db = reopen(t, db, Options{ReadOnly: true})
	second := open(t, db.Dir(), Options{ReadOnly: true})
	if _, err := Open(context.Background(), db.Dir(), Options{}); !errors.Is(err, ErrLocked) {
		t.Error(err)
	}
	if _, err := second.NewWriter(context.Background(), "x", 3, WriterOptions{}); !errors.Is(err, ErrReadOnly) {
		t.Error(err)
	}
	if n := all(t, second, "bank").Vectors.Rows; n != 5 {
		t.Error(n)
	}
	s := snapshot(t, second, "bank")
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.NewReader().View(0, func(*Block) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}
