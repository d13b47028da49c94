package dump_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"membank/simd"
	"membank/store/dump"
)

// BenchmarkNext reads 20,000 × 384 from the page cache.
func BenchmarkNext(b *testing.B) {
	const rows, dim = 20_000, 384
	for _, c := range []struct {
		descr   string
		size    int
		fortran string
	}{{"<f4", 4, "False"}, {">f4", 4, "False"}, {"<f2", 2, "False"}, {"<f8", 8, "False"}, {"<f4", 4, "True"}, {"<f2", 2, "True"}} {
		b.Run(c.descr+"/fortran="+c.fortran, func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "x.npy")
			header := fmt.Sprintf("{'descr': '%s', 'fortran_order': %s, 'shape': (%d, %d), }", c.descr, c.fortran, rows, dim)
			if err := os.WriteFile(path, npy(1, header, make([]byte, rows*dim*c.size)), 0o600); err != nil {
				b.Fatal(err)
			}
			m := simd.NewMatrix(2048, dim)
			b.SetBytes(int64(rows * dim * c.size))
			for b.Loop() {
				r, err := dump.Open(path, dump.Options{})
				if err != nil {
					b.Fatal(err)
				}
				for err == nil {
					_, err = r.Next(context.Background(), m)
				}
				if err != io.EOF {
					b.Fatal(err)
				}
				r.Close()
			}
		})
	}
}
