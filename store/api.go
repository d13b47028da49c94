package store

import (
	"context"
	"errors"
	"log/slog"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"membank/simd"
)

var errSoon = errors.New("not there yet")

type Options struct {
	ReadOnly bool
	Create   bool
	Memory   int64
	Logger   *slog.Logger
}
type DB struct{}

func Open(ctx context.Context, dir string, o Options) (*DB, error) { return nil, errSoon }
func (db *DB) Close() error                                        { return nil }
func (db *DB) Dir() string                                         { return "" }
func (db *DB) ReadOnly() bool                                      { return false }
func (db *DB) Banks(prefix string) ([]Info, error)                 { return nil, errSoon }
func (db *DB) Snapshot(bank string) (*Snapshot, error)             { return nil, errSoon }

type WriteMode uint8

const (
	Create WriteMode = iota
	Append
	Replace
)

type WriterOptions struct {
	Mode       WriteMode
	DType      DType
	SkipBad    bool
	Source     Provenance
	ClassNames []string
}
type Writer struct{}

func (db *DB) NewWriter(ctx context.Context, bank string, dim int, o WriterOptions) (*Writer, error) {
	return nil, errSoon
}

type Rows struct {
	Vectors    simd.Matrix
	Keys       []string
	Labels     []int64
	Attributes []Attribute
}
type Attribute struct {
	Name   string
	Values []Value
}

func (w *Writer) Append(ctx context.Context, r Rows) error { return errSoon }
func (w *Writer) Commit(ctx context.Context) (Info, error) { return Info{}, errSoon }
func (w *Writer) Abort()                                   {}
func (w *Writer) Skipped() int64                           { return 0 }
func (w *Writer) ZeroVectors() int64                       { return 0 }
func (w *Writer) Rows() int64                              { return 0 }

func (db *DB) RemoveBank(ctx context.Context, bank string) (Info, error) { return Info{}, errSoon }
func (db *DB) DeleteRows(ctx context.Context, bank string, rows []int64) (deleted int64, err error) {
	return 0, errSoon
}

type Snapshot struct{}

func (s *Snapshot) Info() Info              { return Info{} }
func (s *Snapshot) Bank() string            { return "" }
func (s *Snapshot) Blocks() int             { return 0 }
func (s *Snapshot) BlockRows(i int) int     { return 0 }
func (s *Snapshot) MaxNorm() float64        { return 0 }
func (s *Snapshot) Close()                  {}
func (s *Snapshot) Alive(row int64) bool    { return false }
func (s *Snapshot) Dead() *roaring64.Bitmap { return nil }
func (s *Snapshot) NewReader() *Reader      { return &Reader{} }

func (s *Snapshot) Lookup(ctx context.Context, keys []string) ([]int64, error) { return nil, errSoon }
func (s *Snapshot) Rows(ctx context.Context, rows []int64, w Want) ([]Row, error) {
	return nil, errSoon
}
func (s *Snapshot) Labels(ctx context.Context) ([]int64, error) { return nil, errSoon }
func (s *Snapshot) Batches(ctx context.Context, size int, fn func(Batch) error) error {
	return errSoon
}

type Want struct{ Vector, Attributes bool }
type Row struct {
	Row        int64
	Key        string
	Label      int64
	Vector     []float32
	Attributes map[string]Value
}
type Batch struct {
	Vectors    simd.Matrix
	Rows       []int64
	Keys       []string
	Labels     []int64
	Attributes []Attribute
}

type Reader struct{}

// Block: see the brief. Lanes = Rows rounded up to a multiple of simd.PanelRows.
type Block struct {
	Rows, Lanes, Dim int
	Panels           []float32 // Lanes*Dim
	Row              []int64   // [Lanes]; -1 in padding lanes
	Scale, Bias      []float32 // [Lanes]: 1/max(norm,1e-12), -norm*norm/2
	Dead             []bool    // [Lanes]: deleted rows and padding lanes
	AnyDead          bool      // a deleted row among the first Rows lanes
	MaxNorm          float64
}

func (r *Reader) View(block int, fn func(b *Block) error) error { return errSoon }

type Columns struct {
	Rows  int
	Row   []int64
	Label []int64
	Dead  []bool
}

func (c *Columns) Key(i int) string                   { return "" }
func (c *Columns) Attribute(name string, i int) Value { return Value{} }

// Columns loads the named attributes too.
func (r *Reader) Columns(block int, fn func(c *Columns) error, attributes ...string) error {
	return errSoon
}

type VerifyOptions struct{ Progress func(done, total int64) }
type Report struct {
	Banks, Blocks, Records, Orphans int
	Bytes                           int64
	Problems                        []Problem
}
type Problem struct {
	Bank  string
	Block int
	Err   error
}

func (db *DB) Verify(ctx context.Context, o VerifyOptions) (Report, error) { return Report{}, errSoon }
func (db *DB) Compact(ctx context.Context) (freed int64, err error)        { return 0, errSoon }
