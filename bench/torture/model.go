package torture

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"membank/simd"
	"membank/store"
)

// segment is a run of rows that one ingest brought. Everything about them follows
// from the seed.
type segment struct {
	Seed       uint64 `json:"seed"`
	Rows       int    `json:"rows"`
	Keys       bool   `json:"keys,omitempty"`
	Labels     bool   `json:"labels,omitempty"`
	Attributes bool   `json:"attributes,omitempty"`
}

// bank is what a bank must hold.
type bank struct {
	dim      int
	dtype    store.DType
	segments []segment
	next     int64
	dead     map[int64]bool
	lists    int              // that rows are grouped by; 0: the bank is flat
	over     map[int64]uint64 // overwritten rows: the seed of the segment whose row of that number they have become
}

// model is what a database must hold: the ledger, replayed.
type model map[string]*bank

func (b *bank) clone() *bank {
	if b == nil {
		return nil
	}
	c := *b
	c.segments = slices.Clone(b.segments)
	c.dead = make(map[int64]bool, len(b.dead))
	for row := range b.dead {
		c.dead[row] = true
	}
	c.over = maps.Clone(b.over)
	return &c
}

// vector returns the vector that a row has; at is where it came from. dst is
// written to if the row was overwritten.
func (b *bank) vector(dst []float32, row int64, s segment, at int) []float32 {
	if seed, ok := b.over[row]; ok {
		segment{Seed: seed}.vector(dst, int(row))
		return dst
	}
	return s.vectors(b.dim).Row(at)
}

func (b *bank) live() int64 { return b.next - int64(len(b.dead)) }

// at returns the segment of a row and its position there.
func (b *bank) at(row int64) (segment, int) {
	for _, s := range b.segments {
		if row < int64(s.Rows) {
			return s, int(row)
		}
		row -= int64(s.Rows)
	}
	panic(fmt.Sprintf("torture: row %d of %d", row, b.next))
}

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// vector fills dst with integers in -8..8, which f16 holds exactly and of which
// sums of products are exact in float32.
func (s segment) vector(dst []float32, i int) {
	base := mix(s.Seed ^ mix(uint64(i)))
	var bits uint64
	for d := range dst {
		if d%8 == 0 {
			bits = mix(base + uint64(d))
		}
		dst[d] = float32(int(bits&0xff)%17 - 8)
		bits >>= 8
	}
}

func (s segment) key(i int, row int64) string {
	if !s.Keys {
		return strconv.FormatInt(row, 10)
	}
	return fmt.Sprintf("%x/%d.jpg", s.Seed, i)
}

func (s segment) label(i int) int64 {
	h := mix(s.Seed + uint64(i)*3 + 1)
	if !s.Labels || h%13 == 0 {
		return store.NoLabel
	}
	return int64(h % 10)
}

// attributes are a number and a text, each absent from some rows.
func (s segment) attributes(i int) (size, note store.Value) {
	h := mix(s.Seed + uint64(i)*5 + 2)
	if s.Attributes && h%7 != 0 {
		size = store.Int(int64(h % 100000))
	}
	if s.Attributes && h%5 != 0 {
		note = store.Text(fmt.Sprintf("n%x", h%4096))
	}
	return size, note
}

// rows builds rows from..to of a segment as a Writer takes them.
func (s segment) rows(dim, from, to int) store.Rows {
	n := to - from
	r := store.Rows{Vectors: s.vectors(dim).Slice(from, to)}
	if s.Keys {
		r.Keys = make([]string, n)
		for i := range n {
			r.Keys[i] = s.key(from+i, 0)
		}
	}
	if s.Labels {
		r.Labels = make([]int64, n)
		for i := range n {
			r.Labels[i] = s.label(from + i)
		}
	}
	if s.Attributes {
		sizes, notes := make([]store.Value, n), make([]store.Value, n)
		for i := range n {
			sizes[i], notes[i] = s.attributes(from + i)
		}
		r.Attributes = []store.Attribute{{Name: "size", Values: sizes}, {Name: "note", Values: notes}}
	}
	return r
}

// scored is a row with its score, larger nearer.
type scored struct {
	row   int64
	score float64
}

// vectors returns all vectors of a segment. It keeps some, since a process looks
// at the same rows many times.
func (s segment) vectors(dim int) simd.Matrix {
	kept.Lock()
	defer kept.Unlock()
	id := segmentID{s.Seed, s.Rows, dim}
	if m, ok := kept.of[id]; ok {
		return m
	}
	m := simd.NewMatrix(s.Rows, dim)
	for i := range s.Rows {
		s.vector(m.Row(i), i)
	}
	if kept.elements += len(m.Data); kept.of == nil || kept.elements > keptElements {
		kept.of, kept.elements = map[segmentID]simd.Matrix{}, len(m.Data)
	}
	kept.of[id] = m
	return m
}

type segmentID struct {
	seed      uint64
	rows, dim int
}

const keptElements = 32 << 20

var kept struct {
	sync.Mutex
	of       map[segmentID]simd.Matrix
	elements int
}

// nearest is the oracle of a search: one loop over all rows, in float64, that
// keeps the k best so far in order.
func (b *bank) nearest(query []float32, k int, squaredDistance bool) []scored {
	best := make([]scored, 0, k+1)
	scratch := make([]float32, b.dim)
	row := int64(-1)
	for _, s := range b.segments {
		for i := range s.Rows {
			row++
			if b.dead[row] {
				continue
			}
			sum := 0.0
			for d, x := range b.vector(scratch, row, s, i) {
				if squaredDistance {
					sum -= float64(query[d]-x) * float64(query[d]-x)
				} else {
					sum += float64(query[d]) * float64(x)
				}
			}
			// Rows come in ascending order, so the later of two equals is behind.
			if len(best) == k && best[k-1].score >= sum {
				continue
			}
			at := len(best)
			for at > 0 && best[at-1].score < sum {
				at--
			}
			best = slices.Insert(best, at, scored{row, sum})
			best = best[:min(k, len(best))]
		}
	}
	return best
}
