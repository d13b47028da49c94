//go:build !linux

package memory

// slab is a large piece of zeroed memory.
type slab struct{ data []float32 }

func newSlab(floats int64) (slab, error) { return slab{data: make([]float32, floats)}, nil }

func (s *slab) free() { *s = slab{} }
