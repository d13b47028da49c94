package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// peakFMA has 12 chains: more than latency × pipes of any core so far.
func peakFMA(w width) {
	const chains = 12
	name := "peakFMA" + w.suffix
	function(name, "func(iterations int)",
		fmt.Sprintf("%s does %d FMAs of %d floats an iteration, on registers.", name, 2*chains, w.floats))
	left := pointer("iterations")
	chain := make([]reg.VecVirtual, chains)
	for i := range chain {
		chain[i] = w.zero()
	}
	x, y := w.zero(), w.zero()
	loop(left, func() {
		for range 2 {
			for _, c := range chain {
				VFMADD231PS(x, y, c)
			}
		}
	})
	VZEROUPPER()
	RET()
}

// readBytes reads two streams, each a half: on Zen 4 from RAM that is up to 10 %
// faster than one, and four, or software prefetch, are no better.
func readBytes(w width) {
	const step = 256
	name := "readBytes" + w.suffix
	function(name, "func(b *byte, half, rounds int, sum *byte)",
		fmt.Sprintf("%s reads %d bytes a round from b and as many from b+half; it leaves the", name, step),
		fmt.Sprintf("exclusive or of all their %d-byte words in sum.", w.bytes()))
	b, half, left, sum := pointer("b"), pointer("half"), pointer("rounds"), pointer("sum")
	words := make([]reg.VecVirtual, 8)
	for i := range words {
		words[i] = w.zero()
	}
	loop(left, func() {
		for i := range step / w.bytes() {
			low, high := words[2*i%8], words[(2*i+1)%8]
			w.xor(at(b, i*w.bytes()), low)
			w.xor(Mem{Base: b, Index: half, Scale: 1, Disp: i * w.bytes()}, high)
		}
		ADDQ(U32(step), b)
	})
	for _, x := range words[1:] {
		w.xor(x, words[0])
	}
	VMOVUPS(words[0], at(sum, 0))
	VZEROUPPER()
	RET()
}
