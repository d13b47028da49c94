package simd

// The two limits of the machine that everything else is measured against. They
// run at the active level, on one core; run one on each core for the machine's.
// Like all assembly they cannot be interrupted, and the garbage collector waits
// for them: measure in rounds of some milliseconds.

// PeakFMA runs a loop of nothing but independent FMAs on registers, iterations
// times, and returns the floating point operations done (two an FMA).
func PeakFMA(iterations int) (flops int64) {
	return active.Load().peakFMA(max(iterations, 0))
}

// ReadBytes reads b once, as fast as the core can, and returns the exclusive or
// of its 64-bit little endian words (a last word that is not full is padded with
// zeroes), so that the reading cannot be left out.
func ReadBytes(b []byte) uint64 {
	return active.Load().readBytes(b)
}
