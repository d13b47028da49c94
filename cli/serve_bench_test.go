package cli

import (
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"testing"
)

// One step of a training loop through HTTP: 256 slots are mixed, 4,096 others read
// as they were, with a log that survives the process.
func BenchmarkUpdateAndGatherOverHTTP(b *testing.B) {
	const rows, dim = 100_000, 128
	s := startServer(b, filepath.Join(b.TempDir(), "db"), "--quiet")
	must(b, "bank", "init", "m", "--rows", strconv.Itoa(rows), "--dim", strconv.Itoa(dim), "--db", s.url)
	vectors, ids := make([]float32, 256*dim), make([]int64, 256)
	for i := range vectors {
		vectors[i] = float32(rand.NormFloat64())
	}
	for i := range ids {
		ids[i] = rand.Int64N(rows)
	}
	body := namedOf(b, ids, vectors, dim)
	b.SetBytes(4 * dim * (256 + 4096))
	for b.Loop() {
		if a := s.ask(b, "POST", "/v1/memory/m/update?keep-old=0.5&durability=log&negatives=4096&output=x.npz", "application/x-npz", body); a.status != 200 {
			b.Fatalf("%d %s", a.status, a.text)
		}
	}
}
