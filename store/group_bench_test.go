package store

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// How fast a bank is grouped, against how fast its rows were written, in the same
// run: 100,000 × 384, 1024 lists, memory for the whole bank and for a sixth of it.
func BenchmarkGroup(b *testing.B) {
	ctx := context.Background()
	const rows, dim, lists = 100_000, 384, 1024
	vectors := gaussian(rows, dim, 1)
	for b.Loop() {
		db := create(b)
		began := time.Now()
		write(b, db, "bank", Rows{Vectors: vectors, Keys: keysOf(rows)}, WriterOptions{})
		wrote := time.Since(began).Seconds()
		b.ReportMetric(rows*dim*4/wrote/1e6, "write-MB/s")
		for _, memory := range []int64{256 << 20, 25 << 20} {
			began = time.Now()
			if _, err := db.Group(ctx, "bank", []byte("x"), byFirst(lists), GroupOptions{Lists: lists, Threads: 2, Memory: memory}); err != nil {
				b.Fatal(err)
			}
			name := strconv.FormatInt(memory>>20, 10) + "MiB"
			b.ReportMetric(time.Since(began).Seconds()/wrote, name+"-times-writing")
		}
		began = time.Now()
		n := 0
		s := snapshot(b, db, "bank")
		if err := s.Batches(ctx, 4096, func(batch Batch) error { n += len(batch.Rows); return nil }); err != nil || n != rows {
			b.Fatal(n, err)
		}
		s.Close()
		b.ReportMetric(time.Since(began).Seconds()/wrote, "batches-times-writing")
		if status, err := os.ReadFile("/proc/self/status"); err == nil {
			for line := range strings.Lines(string(status)) {
				if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
					kb, _ := strconv.Atoi(strings.Fields(rest)[0])
					b.ReportMetric(float64(kb)/1024, "peak-MiB")
				}
			}
		}
	}
}
