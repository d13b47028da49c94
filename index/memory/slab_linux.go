package memory

import (
	"membank/simd"

	"golang.org/x/sys/unix"
)

// slab is a large piece of zeroed memory outside of the garbage collector's heap,
// whose goal would otherwise be twice the bank. Where the kernel has huge pages it
// is asked for them: rows are gathered at random, and with pages of 4 KiB every one
// of them is a miss of the TLB.
type slab struct {
	bytes []byte
	data  []float32
}

func newSlab(floats int64) (slab, error) {
	const page = 2 << 20
	if floats*4 < page {
		return slab{data: make([]float32, floats)}, nil
	}
	b, err := unix.Mmap(-1, 0, int((floats*4+page-1)/page*page), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return slab{}, err
	}
	// A kernel without huge pages refuses, and the memory is as good.
	unix.Madvise(b, unix.MADV_HUGEPAGE)
	return slab{bytes: b, data: simd.Floats(b)[:floats:floats]}, nil
}

// free gives the memory back; no slice of it may be used any more.
func (s *slab) free() {
	if s.bytes != nil {
		unix.Munmap(s.bytes)
	}
	*s = slab{}
}
