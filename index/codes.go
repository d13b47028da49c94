package index

import (
	"encoding/binary"
	"fmt"
	"math"

	"membank/simd"
	"membank/store"
)

// The codes of a block, all little endian. L is the number of lanes, rows rounded
// up to panels; p₁ and p₂ are the dims of the stages, h = 16.
//
//	 0  magic "mbcodes1"
//	 8  uint32 id of the basis, rows, p₁, p₂
//	24  float32 reach[3], maxNorm
//	40  columns of the first stage   float32 [L/32][4][32]: step, m, error, tail
//	 .  codes of the first stage     uint8 [L/32][p₁/4][32][4]
//	 .  columns of the second stage  float32 [L][6]: step, error of the head,
//	                                 step, error of the rest, m, tail
//	 .  norms                        float32 [L]
//	 .  codes of the second stage    uint8 [L][h], uint8 [L][p₂−h]
//
// That is 44 + p₁ + p₂ bytes a row. For a row x let N = max(‖x‖, 1e-12), u = x/N,
// v = u−μ and y = Pv, of which a part is the first p₁ coordinates, the first h (the
// head, where most of the variance is) or those from h to p₂ (the rest). Then
//
//	codes  c+128, |c| ≤ 127, and y ≈ step·c
//	m      ≥ ⟨μ,v⟩
//	error  ≥ ‖y − step·c‖ of the part
//	tail   ≥ √(‖v‖² − (1−δ)‖y‖²), what the stage's directions do not hold
//	reach  ≥ ‖y‖ of the part (first stage, head, rest), for all rows of the block
//	norm   N, off by less than 2⁻²²
//
// with y exact, though it is computed in float32: the bounds contain all rounding.
// A coordinate errs as a score does (see bound.go): its chain by γ‖P_j‖ ≤ γ(1+δ),
// and scale, offset and their sums by a few units u = 2⁻²⁴ of at most 1+‖μ‖, where
// it suffices to count eight. The norm of p such errors is √p times that.
//
// A lane behind the last row has m = −Inf, and is in no answer.

const (
	codesMagic   = "mbcodes1"
	codesHeader  = 40
	firstColumns = 4
	nextColumns  = 6
	headDims     = dimStep
)

// codes is the decoded record: views of its bytes.
type codes struct {
	rows, lanes, first, dims int
	reach                    [3]float64
	maxNorm                  float64
	columns                  []float32 // [lanes/32][firstColumns][32]
	panels                   []uint8   // [lanes/32][first/4][32][4]
	next                     []float32 // [lanes][nextColumns]
	norms                    []float32 // [lanes]
	head                     []uint8   // [lanes][headDims]
	rest                     []uint8   // [lanes][dims-headDims]
}

// Parts of the coordinates, as reach has them.
const (
	partFirst = iota
	partHead
	partRest
)

// codesBytes is the size of the record of so many rows.
func (b *Basis) codesBytes(rows int) int {
	return codesHeader + simd.Panels(rows)*simd.PanelRows*(4*(firstColumns+nextColumns+1)+b.first+b.dims)
}

// split cuts a record of the right length.
func (b *Basis) split(v []byte, rows int) codes {
	c := codes{rows: rows, lanes: simd.Panels(rows) * simd.PanelRows, first: b.first, dims: b.dims}
	for i := range c.reach {
		c.reach[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(v[24+4*i:])))
	}
	c.maxNorm = float64(math.Float32frombits(binary.LittleEndian.Uint32(v[36:])))
	rest := v[codesHeader:]
	take := func(n int) []byte {
		part := rest[:n:n]
		rest = rest[n:]
		return part
	}
	c.columns = simd.Floats(take(4 * firstColumns * c.lanes))
	c.panels = take(c.first * c.lanes)
	c.next = simd.Floats(take(4 * nextColumns * c.lanes))
	c.norms = simd.Floats(take(4 * c.lanes))
	c.head = take(headDims * c.lanes)
	c.rest = take((c.dims - headDims) * c.lanes)
	return c
}

// decodeCodes views v as the codes of a block.
func (b *Basis) decodeCodes(v []byte) (codes, error) {
	if len(v) < codesHeader || string(v[:8]) != codesMagic {
		return codes{}, fmt.Errorf("%w: no codes in %d bytes", ErrCodes, len(v))
	}
	id, rows := binary.LittleEndian.Uint32(v[8:]), binary.LittleEndian.Uint32(v[12:])
	first, dims := binary.LittleEndian.Uint32(v[16:]), binary.LittleEndian.Uint32(v[20:])
	switch {
	case id != b.id || int64(first) != int64(b.first) || int64(dims) != int64(b.dims):
		return codes{}, fmt.Errorf("%w: they belong to another basis", ErrCodes)
	case rows == 0 || int64(rows) > int64(len(v)) || len(v) != b.codesBytes(int(rows)):
		return codes{}, fmt.Errorf("%w: %d rows in %d bytes", ErrCodes, rows, len(v))
	}
	c := b.split(v, int(rows))
	if !(min(c.reach[0], c.reach[1], c.reach[2]) >= 0 && max(c.reach[0], c.reach[1], c.reach[2]) < 8) || !(c.maxNorm >= 0 && c.maxNorm <= math.MaxFloat32) {
		return codes{}, fmt.Errorf("%w: reach %v, norm %v", ErrCodes, c.reach, c.maxNorm)
	}
	return c, nil
}

// EncodeBlock appends the codes of a block to value, as a store.Encoder does. It is
// safe for concurrent use, reads the panels once, and costs 2·p₂·dim operations a row and a little.
func (b *Basis) EncodeBlock(value []byte, k *store.Block) ([]byte, error) {
	if k.Dim != b.dim || k.Rows == 0 {
		return nil, fmt.Errorf("%w: a basis of %d dimensions cannot encode %d rows of %d", ErrCodes, b.dim, k.Rows, k.Dim)
	}
	before := len(value)
	value = append(value, make([]byte, b.codesBytes(k.Rows))...)
	v := value[before:]
	copy(v, codesMagic)
	for i, x := range []int{int(b.id), k.Rows, b.first, b.dims} {
		binary.LittleEndian.PutUint32(v[8+4*i:], uint32(x))
	}
	c := b.split(v, k.Rows)
	e := newEncoder(b)
	for lane := 0; lane < c.lanes; lane += simd.PanelRows {
		e.panel(&c, k, lane)
	}
	for i, x := range e.reach {
		binary.LittleEndian.PutUint32(v[24+4*i:], math.Float32bits(roundUp(x)))
	}
	binary.LittleEndian.PutUint32(v[36:], math.Float32bits(roundUp(k.MaxNorm)))
	return value, nil
}

// encoder is the scratch of one block.
type encoder struct {
	*Basis
	coordinate, product float64   // error bounds of y_j and of ⟨μ,u⟩
	aligned             []float32 // a panel
	y                   []float32 // [32][rank+1]
	first               []uint8   // [32][p₁]
	scratch             simd.TileScores
	reach               [3]float64
}

func newEncoder(b *Basis) *encoder {
	n := simd.PanelRows
	return &encoder{
		Basis:      b,
		coordinate: b.rounding(1, 1),
		product:    (gamma(b.dim)+8*unit)*b.meanNorm + underflow,
		aligned:    make([]float32, n*b.dim),
		y:          make([]float32, n*(b.rows.Rows+1)),
		first:      make([]uint8, n*b.first),
	}
}

// gamma bounds the relative error of a chain of n FMAs.
func gamma(n int) float64 { return float64(n) * unit / (1 - float64(n)*unit) }

const (
	float     = 0x1p-30 // above any relative error of a norm computed in float64
	underflow = 1e-25   // above any error from underflow, of numbers that are about 1
)

// rounding bounds the error of a coordinate ⟨P_j, a·û − b·μ⟩ computed as scale,
// offset and chain in float32, for a unit vector û.
func (b *Basis) rounding(a, mean float64) float64 {
	return (1+b.delta)*(gamma(b.dim)*a+8*unit*(a+mean*b.meanNorm)) + underflow
}

// tail returns what the directions do not hold of a vector of squared norm sq, at
// most, if the coordinates kept have at least norm kept.
func (b *Basis) tail(sq, kept float64) float64 {
	kept = max(0, kept)
	return math.Sqrt(max(0, sq-(1-b.delta)*kept*kept)+underflow) * (1 + float)
}

// panel encodes the 32 lanes from lane on.
func (e *encoder) panel(c *codes, k *store.Block, lane int) {
	const n = simd.PanelRows
	rank := e.Basis.rows.Rows
	copy(e.aligned, k.Panels[lane*k.Dim:][:n*k.Dim])
	e.onto.panel(e.y, rank+1, e.aligned, k.Scale[lane:][:n], &e.scratch)
	rows := min(n, c.rows-lane)
	columns := c.columns[lane*firstColumns:][:n*firstColumns]
	for i := range rows {
		y, product := e.y[i*(rank+1):][:rank], e.y[i*(rank+1)+rank]
		for j, o := range e.rounded {
			y[j] -= o
		}
		sq := squaredUnit(k, lane+i) - 2*float64(product) + e.meanSq[1] + 2*e.product
		m := roundUp(float64(product) - e.meanSq[0] + e.product)

		first := e.encode(e.first[i*c.first:][:c.first], y[:min(c.first, rank)], partFirst)
		columns[i], columns[n+i], columns[2*n+i] = first.step, m, first.error
		columns[3*n+i] = roundUp(e.tail(sq, first.kept))

		head := e.encode(c.head[(lane+i)*headDims:][:headDims], y[:min(headDims, rank)], partHead)
		rest := e.encode(c.rest[(lane+i)*(c.dims-headDims):][:c.dims-headDims], y[min(headDims, rank):], partRest)
		copy(c.next[(lane+i)*nextColumns:], []float32{head.step, head.error, rest.step, rest.error, m,
			roundUp(e.tail(sq, math.Sqrt(head.kept*head.kept+rest.kept*rest.kept)*(1-float)))})
		c.norms[lane+i] = 1 / k.Scale[lane+i]
	}
	for i := rows; i < n; i++ {
		none := float32(math.Inf(-1))
		for k := range firstColumns {
			columns[k*n+i] = 0
		}
		columns[n+i] = none
		copy(c.next[(lane+i)*nextColumns:], []float32{0, 0, 0, 0, none, 0})
	}
	simd.PackCodes(c.panels[lane*c.first:][:n*c.first], e.first[:rows*c.first], c.first)
}

// encoded says how a part of a row was encoded: its step, the norm of what the
// codes miss, at most, and of the part itself, at least.
type encoded struct {
	step, error float32
	kept        float64
}

// encode encodes a part of a row's coordinates, as computed.
func (e *encoder) encode(codes []uint8, y []float32, part int) (p encoded) {
	var inverse float32
	if most := simd.MaxAbs(y); most > 1e-20 {
		p.step, inverse = most/127, 127/most
	}
	simd.QuantizeRow(codes[:len(y)], y, inverse)
	for j := len(y); j < len(codes); j++ {
		codes[j] = 128
	}
	var kept, off float64
	step := float64(p.step)
	for j, v := range y {
		x := float64(v)
		d := x - step*float64(int(codes[j])-128)
		kept += x * x
		off += d * d
	}
	slack := e.coordinate * math.Sqrt(float64(len(y)))
	p.error = roundUp(math.Sqrt(off)*(1+float) + slack)
	p.kept = max(0, math.Sqrt(kept)*(1-float)-slack)
	e.reach[part] = max(e.reach[part], math.Sqrt(kept)*(1+float)+slack)
	return p
}

// squaredUnit returns ‖u‖² of a lane, rounded up: 1 but for vectors near zero.
func squaredUnit(k *store.Block, lane int) float64 {
	if k.Scale[lane] < 0.99e12 {
		return 1
	}
	return min(1, -2e24*float64(k.Bias[lane])*(1+1e-5)+1e-12)
}

// roundUp returns a float32 that is no less than x.
func roundUp(x float64) float32 {
	f := float32(x)
	if float64(f) < x {
		f = math.Nextafter32(f, float32(math.Inf(1)))
	}
	return f
}
