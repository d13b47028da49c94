package store

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"membank/simd"
)

// BenchmarkIngest reports the durable rate of a Writer (from rows in memory to
// the acknowledged commit) beside that of a copy of as many bytes with fsync on
// the same disk.
func BenchmarkIngest(b *testing.B) {
	const dim = 384
	rows := gaussian(8192, dim, 1)
	for _, total := range []int{400_000} {
		bytes := int64(total) * dim * 4
		b.Run("writer", func(b *testing.B) {
			b.SetBytes(bytes)
			for b.Loop() {
				b.StopTimer()
				db, err := Open(context.Background(), filepath.Join(b.TempDir(), "db"), Options{Create: true})
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				ingest(b, db, rows, total)
				b.StopTimer()
				db.Close()
				b.StartTimer()
			}
		})
		b.Run("copy", func(b *testing.B) {
			from := filepath.Join(b.TempDir(), "from")
			if err := os.WriteFile(from, make([]byte, bytes), 0o644); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(bytes)
			for b.Loop() {
				copyAndSync(b, from)
			}
		})
	}
}

func ingest(b *testing.B, db *DB, rows simd.Matrix, total int) {
	ctx := context.Background()
	w, err := db.NewWriter(ctx, "bank", rows.Dim, WriterOptions{})
	if err != nil {
		b.Fatal(err)
	}
	for n := 0; n < total; n += rows.Rows {
		if err := w.Append(ctx, Rows{Vectors: rows.Slice(0, min(rows.Rows, total-n))}); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := w.Commit(ctx); err != nil {
		b.Fatal(err)
	}
}

func copyAndSync(b *testing.B, from string) {
	in, err := os.Open(from)
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(from + ".copy")
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	// Through memory, as cp does between file systems that cannot share blocks.
	if _, err := io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{in}, make([]byte, 1<<20)); err != nil {
		b.Fatal(err)
	}
	if err := out.Sync(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkScan reports how fast View hands out blocks whose every cache line is
// then read, beside the same reading of plain memory.
func BenchmarkScan(b *testing.B) {
	const dim, total = 384, 100_000
	db, err := Open(context.Background(), filepath.Join(b.TempDir(), "db"), Options{Create: true})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	ingest(b, db, gaussian(8192, dim, 1), total)
	s, err := db.Snapshot("bank")
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	query := gaussian(1, dim, 2).Data
	b.Run("view", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(total * dim * 4)
		r := s.NewReader()
		scores := make([]float32, blockRows(dim, F32))
		for b.Loop() {
			for block := range s.Blocks() {
				err := r.View(block, func(v *Block) error {
					simd.Scan(scores[:v.Lanes], v.Panels, v.Scale, v.Bias, query)
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("memory", func(b *testing.B) {
		b.SetBytes(total * dim * 4)
		rows := blockRows(dim, F32)
		panels := make([]float32, total/32*32*dim)
		for i := range panels {
			panels[i] = 1
		}
		scale, bias, scores := make([]float32, rows), make([]float32, rows), make([]float32, rows)
		for b.Loop() {
			for from := 0; from < len(panels); from += rows * dim {
				p := panels[from:min(from+rows*dim, len(panels))]
				n := len(p) / dim
				simd.Scan(scores[:n], p, scale[:n], bias[:n], query)
			}
		}
	})
}
