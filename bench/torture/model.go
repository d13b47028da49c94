package torture

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

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
	return &c
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
	r := store.Rows{Vectors: simd.NewMatrix(n, dim)}
	for i := range n {
		s.vector(r.Vectors.Row(i), from+i)
	}
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

// nearest is the oracle of a search: one loop, float64, all rows sorted.
func (b *bank) nearest(query []float32, k int, squaredDistance bool) []scored {
	all := make([]scored, 0, b.next)
	x := make([]float32, b.dim)
	row := int64(0)
	for _, s := range b.segments {
		for i := range s.Rows {
			if !b.dead[row] {
				s.vector(x, i)
				sum := 0.0
				for d, q := range query {
					if squaredDistance {
						sum -= float64(q-x[d]) * float64(q-x[d])
					} else {
						sum += float64(q) * float64(x[d])
					}
				}
				all = append(all, scored{row, sum})
			}
			row++
		}
	}
	slices.SortFunc(all, func(a, b scored) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.row, b.row))
	})
	return all[:min(k, len(all))]
}
