package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const (
	codeRun   = 64                      // simd.CodeRun
	hitsBytes = codeRun * panelRows / 8 // of one query in simd.CodeHits

	scoresBytes = codeRun * panelRows * 4 // of one query in simd.CodeEstimates
)

// codeScanAVX512 keeps all 12 queries × 32 lanes in 24 accumulators. As soon as
// those of a query are scored they start on the next panel, so that its VPDPBUSD
// fill the time the scores take. On Zen 4, with five columns, a panel then costs
// 60 cycles beside its VPDPBUSD, and 69 with the scores after all groups. FMA and
// compares share the pipes of VPDPBUSD: 24 of each, and 10 for the columns, are 58.
// Packing signs to have fewer compares measured slower each way it was tried.
//
// codeScoresAVX512 is the same, but for what becomes of the scores.
func codeScanAVX512(keep bool) {
	w := avx512
	codeFunction(w, keep, "VPDPBUSD, 12 queries × 32 rows at a time.")
	panels, columns := pointer("panels"), pointer("columns")
	queries, start := pointer("queries"), pointer("start")
	count := pointer("count")
	out := newCodeOut(keep)

	Comment("the first group of the first panel: sum[q] = start[q] + panel[0] · broadcast queries[0][q], 4 bytes each")
	var sum [tileQueries][2]reg.VecVirtual
	low, high := w.vector(), w.vector()
	rows := func() {
		VMOVDQU64(at(panels, 0), low)
		VMOVDQU64(at(panels, 64), high)
	}
	product := func(q int, from reg.Register) {
		x := w.vector()
		VPBROADCASTD(at(from, 4*q), x)
		VPDPBUSD(x, low, sum[q][0])
		VPDPBUSD(x, high, sum[q][1])
	}
	first := func(q int) {
		VPBROADCASTD(at(start, 4*q), sum[q][0])
		VMOVDQA64(sum[q][0], sum[q][1])
		product(q, queries)
	}
	rows()
	for q := range sum {
		sum[q] = [2]reg.VecVirtual{w.vector(), w.vector()}
		first(q)
	}

	Label("panel")
	element, left := GP64(), pointer("groups")
	LEAQ(at(queries, 4*tileQueries), element)
	DECQ(left)
	JZ(LabelRef("score"))
	Label("group")
	Comment("for each other group: sum[q] += panel[group] · broadcast queries[group][q]")
	ADDQ(U32(4*panelRows), panels)
	rows()
	for q := range sum {
		product(q, element)
	}
	ADDQ(U32(4*tileQueries), element)
	DECQ(left)
	JNZ(LabelRef("group"))

	Label("score")
	scale, slack := columnsOf(w, columns)
	Comment("on to the next panel; behind the last one, to the same group again, in vain")
	next := GP64()
	LEAQ(at(panels, 4*panelRows), next)
	CMPQ(count, Imm(1))
	CMOVQNE(next, panels)
	rows()
	Comment("score[q] = float(sum[q])*scale + slack, kept or compared with floor[q], a bit a row; then the next first group")
	for q := range sum {
		var bits [2]reg.GPVirtual
		for r, s := range sum[q] {
			VCVTDQ2PS(s, s)
			VFMADD213PS(slack[r], scale[r], s)
			if keep {
				VMOVUPS(s, at(out.to, q*scoresBytes+r*w.bytes()))
				continue
			}
			k := K()
			VCMPPS_BCST(Imm(0x1d), at(out.floor, 4*q), s, k)
			bits[r] = GP32()
			KMOVW(k, bits[r])
		}
		first(q)
		if keep {
			continue
		}
		SHLL(Imm(16), bits[1])
		ORL(bits[0], bits[1])
		MOVL(bits[1], at(out.to, q*hitsBytes))
		POPCNTL(bits[1], bits[1])
		ADDQ(bits[1].As64(), out.total)
	}
	out.next()
	DECQ(count)
	JNZ(LabelRef("panel"))
	VZEROUPPER()
	out.done()
	RET()
}

// codeFunction opens codeScan, or codeScores, which keeps the scores.
func codeFunction(w width, keep bool, how string) {
	if keep {
		name := "codeScores" + w.suffix
		function(name,
			"func(scores *float32, panels *uint8, columns *float32, queries *int8, start *int32, weights *float32, count, groups, terms int)",
			name+" scores count > 0 panels with "+how)
		return
	}
	name := "codeScan" + w.suffix
	function(name,
		"func(hits *uint64, panels *uint8, columns *float32, queries *int8, start *int32, weights, floor *float32, count, groups, terms int) (total int)",
		name+" scans count > 0 panels with "+how)
}

// codeOut is where the scores go: all of them, or a bit for those that reach the
// floors.
type codeOut struct {
	keep             bool
	to, floor, total reg.GPVirtual
}

func newCodeOut(keep bool) codeOut {
	if keep {
		return codeOut{keep: true, to: pointer("scores")}
	}
	o := codeOut{to: pointer("hits"), floor: pointer("floor"), total: GP64()}
	XORQ(o.total, o.total)
	return o
}

// next moves on to the next panel.
func (o codeOut) next() {
	if o.keep {
		ADDQ(U32(4*panelRows), o.to)
	} else {
		ADDQ(Imm(4), o.to)
	}
}

func (o codeOut) done() {
	if !o.keep {
		Store(o.total, ReturnIndex(0))
	}
}

// columnsOf combines the columns of a panel into the scale and slack of its
// lanes, and moves on to the next panel's.
func columnsOf(w width, columns reg.Register) (scale, slack []reg.VecVirtual) {
	Comment("scale = weights[0]*columns[0]", "slack = fma(columns[k], weights[k], slack) for k = 1...")
	n := panelRows / w.floats
	weight, left := pointer("weights"), pointer("terms")
	x := w.vector()
	VBROADCASTSS(at(weight, 0), x)
	for i := range n {
		s := w.vector()
		VMULPS(at(columns, i*w.bytes()), x, s)
		scale, slack = append(scale, s), append(slack, w.zero())
	}
	JMP(LabelRef("next"))
	Label("column")
	VBROADCASTSS(at(weight, 0), x)
	for i := range n {
		VFMADD231PS(at(columns, i*w.bytes()), x, slack[i])
	}
	Label("next")
	ADDQ(U32(4*panelRows), columns)
	ADDQ(Imm(4), weight)
	DECQ(left)
	JNZ(LabelRef("column"))
	return scale, slack
}

// codeScanAVX2 takes 4 queries × 16 lanes at a time, six times a panel. Products
// of two neighbours meet in 16 bits, which queries within ±63 cannot overflow.
func codeScanAVX2(keep bool) {
	w := avx2
	codeFunction(w, keep, "VPMADDUBSW, 4 queries × 16 rows at a time.")
	panels, columns := pointer("panels"), pointer("columns")
	queries, start := pointer("queries"), pointer("start")
	count := pointer("count")
	local := AllocLocal(2 * 4 * panelRows)
	out := newCodeOut(keep)

	Label("panel")
	scale, slack := columnsOf(w, columns)
	for i := range scale {
		VMOVUPS(scale[i], local.Offset(i*w.bytes()))
		VMOVUPS(slack[i], local.Offset(4*panelRows+i*w.bytes()))
	}
	for row := 0; row < panelRows; row += 16 {
		for query := 0; query < tileQueries; query += 4 {
			codeRectangle(row, query, out, panels, queries, start, local)
		}
	}
	left := pointer("groups")
	SHLQ(Imm(7), left)
	ADDQ(left, panels)
	out.next()
	DECQ(count)
	JNZ(LabelRef("panel"))
	VZEROUPPER()
	out.done()
	RET()
}

func codeRectangle(row, query int, out codeOut, panels, queries, start reg.Register, local Mem) {
	Comment(fmt.Sprintf("Queries %d to %d, rows %d to %d.", query, query+3, row, row+15))
	ones := pairSum()
	var sum [4][2]reg.VecVirtual
	for q := range sum {
		sum[q] = [2]reg.VecVirtual{YMM(), YMM()}
		VPBROADCASTD(at(start, 4*(query+q)), sum[q][0])
		VMOVDQA(sum[q][0], sum[q][1])
	}
	codes, element, left := GP64(), GP64(), pointer("groups")
	LEAQ(at(panels, 4*row), codes)
	LEAQ(at(queries, 4*query), element)
	group := fmt.Sprintf("group_%d_%d", query, row)
	Label(group)
	low, high := YMM(), YMM()
	VMOVDQU(at(codes, 0), low)
	VMOVDQU(at(codes, 32), high)
	for q := range sum {
		x, y := YMM(), YMM()
		VPBROADCASTD(at(element, 4*q), x)
		VPMADDUBSW(x, low, y)
		VPMADDUBSW(x, high, x)
		VPMADDWD(ones, y, y)
		VPMADDWD(ones, x, x)
		VPADDD(y, sum[q][0], sum[q][0])
		VPADDD(x, sum[q][1], sum[q][1])
	}
	ADDQ(U32(4*panelRows), codes)
	ADDQ(U32(4*tileQueries), element)
	DECQ(left)
	JNZ(LabelRef(group))

	scale := [2]reg.VecVirtual{YMM(), YMM()}
	for r := range scale {
		VMOVUPS(local.Offset(4*row+32*r), scale[r])
	}
	score := func(r int, s reg.VecVirtual) {
		VCVTDQ2PS(s, s)
		VFMADD213PS(local.Offset(4*panelRows+4*row+32*r), scale[r], s)
	}
	for q := range sum {
		if out.keep {
			for r, s := range sum[q] {
				score(r, s)
				VMOVUPS(s, at(out.to, (query+q)*scoresBytes+4*row+32*r))
			}
			continue
		}
		least := YMM()
		VBROADCASTSS(at(out.floor, 4*(query+q)), least)
		var bits [2]reg.GPVirtual
		for r, s := range sum[q] {
			score(r, s)
			bits[r] = atLeast(avx2, s, least)
		}
		SHLL(Imm(8), bits[1])
		ORL(bits[0], bits[1])
		MOVW(bits[1].As16(), at(out.to, (query+q)*hitsBytes+row/8))
		POPCNTL(bits[1], bits[1])
		ADDQ(bits[1].As64(), out.total)
	}
}

// pairSum returns 16 words of 1: VPMADDWD by it adds neighbours.
func pairSum() reg.VecVirtual {
	ones := YMM()
	VPCMPEQW(ones, ones, ones)
	VPSRLW(Imm(15), ones, ones)
	return ones
}

// codeDots takes four rows at a time, so that they share the query's loads and
// one transposing reduction. Survivors lie scattered, so it asks for rows 16 ahead.
// On Zen 4, time with against without, best of 6 interleaved rounds at 64, 128 and
// 256 dims, rows all over 64 MB: AVX-512 0.62, 0.58, 0.65, but AVX2 1.16, 0.98,
// 0.81; with all rows in L2 1.12 to 1.16, and 1.03 to 1.10.
func codeDots(w width) {
	name := "codeDots" + w.suffix
	function(name, "func(out *int32, codes *uint8, rows *int32, fours int, query *int8, dim int, start int32)",
		name+" is the products of 4*fours rows of codes with one query, fours > 0.")
	out, codes, rows := pointer("out"), pointer("codes"), pointer("rows")
	fours, query, dim := pointer("fours"), pointer("query"), pointer("dim")
	var ones reg.VecVirtual
	var tailBytes reg.OpmaskVirtual
	var tailWords reg.VecVirtual
	left := GP64()
	MOVQ(dim, left)
	ANDQ(Imm(uint64(w.bytes()-1)), left)
	if w.floats == 16 {
		tailBytes = K()
		mask := GP64()
		MOVQ(I64(-1), mask)
		Comment("the low dim%64 bits")
		BZHIQ(left, mask, mask)
		KMOVQ(mask, tailBytes)
	} else {
		ones, tailWords = pairSum(), YMM()
		table := GLOBL("codeTail", RODATA|NOPTR)
		for i := range 16 {
			if i < 8 {
				DATA(4*i, I32(-1))
			} else {
				DATA(4*i, I32(0))
			}
		}
		base := GP64()
		LEAQ(table, base)
		SUBQ(left, base)
		VMOVDQU(at(base, 32), tailWords)
	}
	whole := GP64()
	MOVQ(dim, whole)
	ANDQ(I32(int32(-w.bytes())), whole)

	Label("four")
	Comment("ask for two lines of the rows four fours ahead")
	CMPQ(fours, Imm(4))
	JLE(LabelRef("near"))
	for i := range 4 {
		ahead := GP64()
		MOVLQSX(at(rows, 4*(16+i)), ahead)
		IMULQ(dim, ahead)
		PREFETCHT0(Mem{Base: codes, Index: ahead, Scale: 1})
		PREFETCHT0(Mem{Base: codes, Index: ahead, Scale: 1, Disp: 128})
	}
	Label("near")
	var row [4]reg.GPVirtual
	var sum [4]reg.VecVirtual
	for i := range row {
		row[i] = GP64()
		MOVLQSX(at(rows, 4*i), row[i])
		IMULQ(dim, row[i])
		ADDQ(codes, row[i])
		sum[i] = w.zero()
	}
	d := GP64()
	XORQ(d, d)
	CMPQ(whole, Imm(0))
	JE(LabelRef("tail"))
	step := func(load func(base reg.Register) reg.VecVirtual) {
		q := load(query)
		for i := range row {
			c := load(row[i])
			if w.floats == 16 {
				VPDPBUSD(q, c, sum[i])
			} else {
				VPMADDUBSW(q, c, c)
				VPMADDWD(ones, c, c)
				VPADDD(c, sum[i], sum[i])
			}
		}
	}
	Label("chunk")
	Comment("sum[i] += codes of row i · query")
	step(func(base reg.Register) reg.VecVirtual {
		x := w.vector()
		m := Mem{Base: base, Index: d, Scale: 1}
		if w.floats == 16 {
			VMOVDQU64(m, x)
		} else {
			VMOVDQU(m, x)
		}
		return x
	})
	ADDQ(U32(uint64(w.bytes())), d)
	CMPQ(d, whole)
	JNE(LabelRef("chunk"))
	Label("tail")
	CMPQ(d, dim)
	JE(LabelRef("reduce"))
	step(func(base reg.Register) reg.VecVirtual {
		x := w.vector()
		m := Mem{Base: base, Index: d, Scale: 1}
		if w.floats == 16 {
			VMOVDQU8_Z(m, tailBytes, x)
		} else {
			VPMASKMOVD(m, tailWords, x)
		}
		return x
	})

	Label("reduce")
	Comment("the lanes of each sum, added up; four sums side by side")
	a := sum[0]
	if w.floats == 16 {
		for i := 0; i < 4; i += 2 {
			x := ZMM()
			VPUNPCKHDQ(sum[i+1], sum[i], x)
			VPUNPCKLDQ(sum[i+1], sum[i], sum[i])
			VPADDD(x, sum[i], sum[i])
		}
		x := ZMM()
		VPUNPCKHQDQ(sum[2], sum[0], x)
		VPUNPCKLQDQ(sum[2], sum[0], a)
		VPADDD(x, a, a)
		half := YMM()
		VEXTRACTI64X4(Imm(1), a, half)
		VPADDD(half, a.AsY(), a.AsY())
	} else {
		VPHADDD(sum[1], sum[0], sum[0])
		VPHADDD(sum[3], sum[2], sum[2])
		VPHADDD(sum[2], sum[0], a)
	}
	half, first, start := XMM(), XMM(), GP32()
	VEXTRACTI128(Imm(1), a.AsY(), half)
	VPADDD(half, a.AsX(), a.AsX())
	Load(Param("start"), start)
	VMOVD(start, first)
	VPBROADCASTD(first, first)
	VPADDD(first, a.AsX(), a.AsX())
	VMOVDQU(a.AsX(), at(out, 0))
	ADDQ(Imm(16), out)
	ADDQ(Imm(16), rows)
	DECQ(fours)
	JNZ(LabelRef("four"))
	VZEROUPPER()
	RET()
}

// constant fills a register with the same 32 bits.
func (w width) constant(bits uint32) reg.VecVirtual {
	v, x := w.vector(), GP32()
	MOVL(U32(bits), x)
	VMOVD(x, v.AsX())
	VPBROADCASTD(v.AsX(), v)
	return v
}

// quantize rounds to nearest even, as VCVTPS2DQ does by default.
func quantize(w width) {
	name := "quantize" + w.suffix
	function(name, "func(codes *uint8, x *float32, registers int, inverse float32)",
		name+" makes codes of that many registers full of floats.")
	codes, x, left := pointer("codes"), pointer("x"), pointer("registers")
	inverse := w.vector()
	Load(Param("inverse"), inverse.AsX())
	VBROADCASTSS(inverse.AsX(), inverse)
	least, most, zero := w.constant(0xc2fe0000), w.constant(0x42fe0000), w.constant(128)
	loop(left, func() {
		Comment("code = 128 + round(min(max(x*inverse, -127), 127)); NaN becomes -127")
		c := w.vector()
		VMULPS(at(x, 0), inverse, c)
		VMAXPS(least, c, c)
		VMINPS(most, c, c)
		VCVTPS2DQ(c, c)
		VPADDD(zero, c, c)
		if w.floats == 16 {
			VPMOVDB(c, at(codes, 0))
		} else {
			high := XMM()
			VEXTRACTI128(Imm(1), c, high)
			VPACKSSDW(high, c.AsX(), c.AsX())
			VPACKUSWB(c.AsX(), c.AsX(), c.AsX())
			VMOVQ(c.AsX(), at(codes, 0))
		}
		ADDQ(U32(uint64(w.bytes())), x)
		ADDQ(Imm(uint64(w.floats)), codes)
	})
	VZEROUPPER()
	RET()
}

func maxAbs(w width) {
	name := "maxAbs" + w.suffix
	function(name, "func(x *float32, registers int) float32",
		name+" is the largest absolute value of that many registers full of floats.")
	x, left := pointer("x"), pointer("registers")
	sign, most := w.constant(0x7fffffff), w.zero()
	loop(left, func() {
		Comment("most = max(|x|, most), which is most if x is NaN")
		a := w.vector()
		if w.floats == 16 {
			VPANDQ(at(x, 0), sign, a)
		} else {
			VPAND(at(x, 0), sign, a)
		}
		VMAXPS(most, a, most)
		ADDQ(U32(uint64(w.bytes())), x)
	})
	if w.floats == 16 {
		half := YMM()
		VEXTRACTF64X4(Imm(1), most, half)
		VMAXPS(half, most.AsY(), most.AsY())
	}
	half := XMM()
	VEXTRACTF128(Imm(1), most.AsY(), half)
	VMAXPS(half, most.AsX(), most.AsX())
	VPSRLDQ(Imm(8), most.AsX(), half)
	VMAXPS(half, most.AsX(), most.AsX())
	VPSRLDQ(Imm(4), most.AsX(), half)
	VMAXPS(half, most.AsX(), most.AsX())
	VZEROUPPER()
	Store(most.AsX(), ReturnIndex(0))
	RET()
}

// peakInt8 has 12 chains, as peakFMA.
func peakInt8(w width) {
	const chains = 12
	name := "peakInt8" + w.suffix
	function(name, "func(iterations int)",
		fmt.Sprintf("%s multiplies and adds %d × %d bytes an iteration, on registers.", name, 2*chains, w.bytes()))
	left := pointer("iterations")
	if w.floats == 16 {
		sum := make([]reg.VecVirtual, chains)
		for i := range sum {
			sum[i] = w.zero()
		}
		x, y := w.zero(), w.zero()
		loop(left, func() {
			for range 2 {
				for _, s := range sum {
					VPDPBUSD(x, y, s)
				}
			}
		})
	} else {
		ones, x := pairSum(), w.zero()
		sum := make([]reg.VecVirtual, chains/2)
		for i := range sum {
			sum[i] = w.zero()
		}
		loop(left, func() {
			for range 4 {
				for _, s := range sum {
					y := YMM()
					VPMADDUBSW(x, x, y)
					VPMADDWD(ones, y, y)
					VPADDD(y, s, s)
				}
			}
		})
	}
	VZEROUPPER()
	RET()
}
