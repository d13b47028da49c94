package simd

// groupFrom pairs of a panel take as long one by one as sixteen together.
const groupFrom = 6

// pairs takes four pairs at a time.
func pairs(_ *PairScorer, chains, panels []float32, q *PairQueries, p []Pair) {
	clear(chains)
	for d := 0; d < q.dim; d += pairsPart {
		pairsByFour(chains, panels, q, p, d, min(d+pairsPart, q.dim))
	}
}

// pairsByFour goes on with the chains of some pairs by dims d..end.
func pairsByFour(chains, panels []float32, q *PairQueries, p []Pair, d, end int) {
	for i := 0; i < len(p); i += 4 {
		four := p[i:min(i+4, len(p))]
		var out [4]float32
		var lane, query [4]int32
		for j := range lane { // absent pairs are the last one, again
			v := four[min(j, len(four)-1)]
			lane[j] = v.Lane/PanelRows*int32(PanelRows*q.dim) + v.Lane%PanelRows
			query[j] = v.Query
		}
		copy(out[:], chains[i:])
		pairsFMA(&out[0], &panels[d*PanelRows], &lane[0], &q.data[d], &query[0], q.stride, end-d)
		copy(chains[i:i+len(four)], out[:])
	}
}

// pairsAVX512 takes sixteen pairs at a time where that pays.
func pairsAVX512(s *PairScorer, chains, panels []float32, q *PairQueries, p []Pair) {
	if len(p) < groupFrom {
		pairs(s, chains, panels, q, p)
		return
	}
	s.arrange(p)
	for d := 0; d < q.dim; d += pairsPart {
		end := min(d+pairsPart, q.dim)
		whole := d + (end-d)&^15
		for i := range s.groups {
			s.groups[i].advance(panels, q, d, whole, end)
		}
		pairsByFour(s.chains, panels, q, s.loose, d, end)
	}
	for i := range s.groups {
		g := &s.groups[i]
		for j, of := range g.pairs[:g.count] {
			chains[of] = g.chains[j]
		}
	}
	for j, of := range s.of {
		chains[of] = s.chains[j]
	}
}

// advance goes on with the chains of the group by dims d..end, of which whole
// begins the last ones, fewer than sixteen.
func (g *pairGroup) advance(panels []float32, q *PairQueries, d, whole, end int) {
	if whole > d {
		var rows [16]*float32
		for j, query := range g.queries {
			rows[j] = &q.data[int(query)*q.stride+d]
		}
		pairs16AVX512(&g.chains[0], &panels[(g.panel*q.dim+d)*PanelRows], &g.lanes[0], &rows[0], (whole-d)/16)
	}
	if whole < end {
		var p [16]Pair
		for j := range p {
			p[j] = Pair{Lane: int32(g.panel*PanelRows) + g.lanes[j], Query: g.queries[j]}
		}
		pairsByFour(g.chains[:g.count], panels, q, p[:g.count], whole, end)
	}
}

// arrange puts pairs that lie side by side in groups.
func (s *PairScorer) arrange(p []Pair) {
	s.groups, s.loose, s.of = s.groups[:0], s.loose[:0], s.of[:0]
	for i := 0; i < len(p); {
		panel, n := p[i].Lane/PanelRows, 1
		for i+n < len(p) && n < 16 && p[i+n].Lane/PanelRows == panel {
			n++
		}
		if n < groupFrom {
			for j := i; j < i+n; j++ {
				s.loose, s.of = append(s.loose, p[j]), append(s.of, int32(j))
			}
		} else {
			g := pairGroup{panel: int(panel), count: n}
			for j := range g.pairs { // absent pairs are the last one, again
				at := i + min(j, n-1)
				g.lanes[j], g.queries[j], g.pairs[j] = p[at].Lane%PanelRows, p[at].Query, int32(at)
			}
			s.groups = append(s.groups, g)
		}
		i += n
	}
	s.chains = append(s.chains[:0], make([]float32, len(s.loose))...)
}
