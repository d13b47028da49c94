package cli

import (
	"sync"

	"membank/index/memory"
	"membank/simd"
)

// fits refuses to read more rows of a memory bank at once than a request may hold,
// or than the bank has: the ids are the caller's, and may name a row again and again.
func (s *session) fits(b *memory.Bank, rows int64) error {
	var each int64
	for _, v := range b.Config().Views {
		each += 4 * int64(v.Dim)
	}
	if most := max(s.atOnce(), each*b.Config().Rows); rows > most/each {
		return badInput("memory bank %q: %s at once are more than %s (read them in several batches)", b.Name(), plural(rows, "row"), size(most))
	}
	return nil
}

// fitsSample refuses to draw more ids at once than a request may hold: as numbers
// and as the text of an answer.
func (s *session) fitsSample(o memory.SampleOptions) error {
	const each = 32
	lines, most := int64(max(1, o.Anchors, len(o.Positives))), s.atOnce()
	if int64(o.N) > most/each/lines-1 {
		return badInput("%s for each of %s are more than %s at once (draw them in several batches)", plural(o.N, "negative"), plural(lines, "anchor"), size(most))
	}
	return nil
}

// atOnce is about how many bytes one command may hold.
func (s *session) atOnce() int64 {
	if s.served != nil {
		return s.served.memory
	}
	return max(s.memory, 4<<30)
}

// keptFloats is the most of a matrix that waits for the next request.
const keptFloats = 4 << 20

// matrices are those of requests that were answered. To make new ones, all zeros,
// takes a third as long as to read 4,096 rows into them, and the garbage collector
// comes at every second request.
var matrices = sync.Pool{New: func() any { return new([]float32) }}

// gathered is room for rows of each view of a memory bank. done takes it back; what
// was read must not be used after that.
func (s *session) gathered(b *memory.Bank, rows int) (into []simd.Matrix, done func()) {
	if s.served == nil || rows == 0 {
		return nil, func() {}
	}
	var lent []*[]float32
	for _, v := range b.Config().Views {
		data := matrices.Get().(*[]float32)
		if n := rows * v.Dim; cap(*data) < n {
			*data = make([]float32, n)
		}
		lent = append(lent, data)
		into = append(into, simd.Matrix{Data: (*data)[:rows*v.Dim], Rows: rows, Dim: v.Dim})
	}
	return into, func() {
		for _, data := range lent {
			if cap(*data) <= keptFloats {
				matrices.Put(data)
			}
		}
	}
}
