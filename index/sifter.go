package index

import (
	"math"

	"membank/simd"
)

// sifter prepares some queries that share a step and a mean, and is the scratch
// for it.
type sifter struct {
	*cascade
	wideMean []float64

	q, coordinates      simd.Matrix // coordinates are ⟨P_j,q⟩, as computed
	number              int         // of the first query
	mean                float64     // ā
	widest              float64     // W' above
	step                float64     // t
	plain               bool
	norms, onMean       []float64
	sq, slack, rounding []float64
	largest             []float64 // coordinate in the first stage
	z                   []float64 // [queries][rank]
}

func newSifter(c *cascade, mean []float64, queries int) *sifter {
	each := func() []float64 { return make([]float64, queries) }
	return &sifter{cascade: c, wideMean: mean, norms: each(), onMean: each(), sq: each(), slack: each(),
		rounding: each(), largest: each(), z: make([]float64, queries*c.Basis.rows.Rows)}
}

// all prepares every query of a pass.
func (s *sifter) all(queries, coordinates simd.Matrix, threads int) {
	s.begin(queries, coordinates, 0)
	each := func(do func(i int)) {
		parallel(threads, queries.Rows, func() func(int) { return do })
	}
	each(s.measure)
	s.agree()
	each(s.turn)
	s.measureStep()
	each(s.quantise)
}

func (s *sifter) begin(q, coordinates simd.Matrix, number int) {
	s.q, s.coordinates, s.number = q, coordinates, number
}

func (s *sifter) measure(i int) {
	var norm, onMean float64
	for j, x := range s.q.Row(i) {
		v := float64(x)
		norm += v * v
		onMean += v * s.wideMean[j]
	}
	s.norms[i], s.onMean[i] = math.Sqrt(norm), onMean
}

// agree sets what the queries share.
func (s *sifter) agree() {
	mean, most, least := 0.0, 0.0, math.Inf(1)
	for _, n := range s.norms[:s.q.Rows] {
		mean += n / float64(s.q.Rows)
		most, least = max(most, n), min(least, n)
	}
	s.plain = s.metric != Cosine && !(least >= leastNorm && most <= mostNorm)
	s.mean = float64(float32(mean))
	s.widest = (most + s.mean*s.meanNorm) * (1 + float)
}

// turn expresses a query in the basis.
func (s *sifter) turn(i int) {
	rank := s.Basis.rows.Rows
	a, z := s.norms[i]*(1+float), s.z[i*rank:][:rank]
	for j, x := range s.coordinates.Row(i)[:rank] {
		z[j] = float64(x) - s.mean*s.offset[j]
	}
	s.largest[i] = 0
	for _, x := range z[:min(s.first, rank)] {
		s.largest[i] = max(s.largest[i], math.Abs(x))
	}
	volume := 1 + s.meanNorm
	weight := a + s.mean*s.meanNorm
	s.rounding[i] = s.cascade.rounding(a, s.mean)
	s.sq[i] = a*a - 2*s.mean*s.onMean[i] + s.mean*s.mean*s.meanSq[1] + float*weight*weight
	s.slack[i] = 1.01*((gamma(s.dim)+4*unit)*a+s.delta*(1+s.delta)*(1+s.delta)*weight*volume+64*unit*s.widest*volume) +
		float*weight + underflow*(1+a)
}

// measureStep sets the step of the first stage.
func (s *sifter) measureStep() {
	s.step = 1e-30 // all coordinates are as good as zero
	for _, x := range s.largest[:s.q.Rows] {
		s.step = max(s.step, float64(float32(x/float64(simd.MaxQueryCode()))))
	}
	s.step = float64(float32(s.step))
}

func (s *sifter) quantise(i int) {
	codeMax := float64(simd.MaxQueryCode())
	rank, number := s.Basis.rows.Rows, s.number+i
	z := s.z[i*rank:][:rank]
	f := &s.firsts[number]
	f.plain, f.step, f.mean = s.plain, float32(s.step), float32(s.mean)
	if s.plain {
		return
	}
	p := quantise(s.codes[number*s.first:][:s.first], z[:min(s.first, rank)], s.step, codeMax, s.rounding[i])
	f.off, f.norm, f.start = p.off, p.norm, p.start
	f.fixed = s.onMean[i] + s.slack[i]
	f.tail = s.tail(s.sq[i], p.kept)

	n := &s.next[number]
	at, rest := min(headDims, rank), s.dims-headDims
	head, headFine := s.head[number*headDims:][:headDims], s.headFine[number*headDims:][:headDims]
	n.head = quantise(head, z[:at], 0, codeMax, s.rounding[i])
	n.head.refine(headFine, head, z[:at], codeMax, s.rounding[i])
	next, nextFine := s.cascade.rest[number*rest:][:rest], s.restFine[number*rest:][:rest]
	n.rest = quantise(next, z[at:], 0, codeMax, s.rounding[i])
	n.rest.refine(nextFine, next, z[at:], codeMax, s.rounding[i])
	n.fixed = s.onMean[i] + s.slack[i]
	n.tail = s.tail(s.sq[i], math.Sqrt(n.head.kept*n.head.kept+n.rest.kept*n.rest.kept)*(1-float))
	n.mean = s.mean
}

// quantise sets d to z in steps, or if that is 0 in the best ones, and what is
// behind z to 0. Each z has an error of rounding at most.
func quantise(d []int8, z []float64, step, codeMax, rounding float64) part {
	if step == 0 {
		most := 0.0
		for _, x := range z {
			if x < 0 {
				x = -x
			}
			if x > most {
				most = x
			}
		}
		step = max(1e-30, most/codeMax)
	}
	var norm, off, kept [2]float64
	inverse := 1 / step
	d = d[:max(len(d), len(z))]
	for j, x := range z {
		c := math.RoundToEven(x * inverse)
		if c > codeMax {
			c = codeMax
		} else if c < -codeMax {
			c = -codeMax
		}
		d[j] = int8(c)
		e := x - step*c
		norm[j&1] += c * c
		off[j&1] += e * e
		kept[j&1] += x * x
	}
	clear(d[len(z):])
	err := rounding * math.Sqrt(float64(len(z)))
	return part{
		start: simd.CodeStart(d),
		step:  step,
		norm:  step * math.Sqrt(norm[0]+norm[1]) * (1 + float),
		off:   (math.Sqrt(off[0]+off[1]) + err) * (1 + float),
		kept:  max(0, math.Sqrt(kept[0]+kept[1])*(1-float)-err),
	}
}

// refine sets f to what the codes d miss of z, in steps as fine as the largest that
// may be.
func (p *part) refine(f, d []int8, z []float64, codeMax, rounding float64) {
	step := p.step / (2 * codeMax)
	inverse := 1 / step
	var norm, off [2]float64
	f, d = f[:len(d)], d[:max(len(d), len(z))]
	for j, x := range z {
		known := p.step * float64(d[j])
		c := math.RoundToEven((x - known) * inverse)
		if c > codeMax {
			c = codeMax
		} else if c < -codeMax {
			c = -codeMax
		}
		f[j] = int8(c)
		known += step * c
		e := x - known
		norm[j&1] += known * known
		off[j&1] += e * e
	}
	clear(f[len(z):])
	p.fine = fine{
		start: simd.CodeStart(f),
		step:  step,
		norm:  math.Sqrt(norm[0]+norm[1]) * (1 + float),
		off:   (math.Sqrt(off[0]+off[1]) + rounding*math.Sqrt(float64(len(z)))) * (1 + float),
	}
}
