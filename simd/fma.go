package simd

import "math"

// fma32 returns a*b + c, rounded once to float32, as a hardware FMA rounds it:
// the twins give the kernels' bits on CPUs without the instruction.
//
// The float64 product of two float32 is exact (48 bits of 53), so only the sum
// can be rounded twice, first to 53 and then to 24 bits. That differs from one
// rounding only where the first lands on a tie of the second:
//
//   - a normal result has its tie where the 29 bits that float32 drops are a one
//     and 28 zeroes, one result in 2^29 by chance;
//   - a denormal result drops more, so all of those count as suspects.
//
// Suspects are rounded to odd instead (Boldo and Melquiond, "Emulation of FMA and
// correctly rounded sums", 2008): 53 ≥ 24+2 bits make the second rounding right.
//
// A compiler that fuses the float64 product and sum (arm64) changes nothing, as
// the product is exact either way.
func fma32(a, b, c float32) float32 {
	s := float64(a)*float64(b) + float64(c)
	if doubtful(math.Float64bits(s)) {
		return roundOdd(float64(a)*float64(b), float64(c), s)
	}
	return float32(s)
}

const (
	dropped   = 1<<29 - 1                   // bits of a float64 that float32 has no room for
	tie       = 1 << 28                     // their value half way between two float32
	minNormal = uint64(1023-126) << 52 << 1 // bits of 2^-126, the sign shifted out
)

// doubtful reports whether a float64 sum with these bits must not simply be
// rounded to float32. Zero is exact: the -1 wraps it past every other number.
func doubtful(bits uint64) bool {
	return bits&dropped == tie || bits<<1-1 < minNormal-1
}

// roundOdd returns p+c rounded once to float32; s is their float64 sum. The error
// of s (Knuth's TwoSum, exact for all sums of float32 products) tells on which
// side the true sum lies: if s is even in its last bit, its neighbour on that
// side is odd. With an infinity or NaN e is NaN, fails every comparison, and s stays.
func roundOdd(p, c, s float64) float32 {
	t := s - p
	e := (p - (s - t)) + (c - t)
	bits := math.Float64bits(s)
	if bits&1 == 0 {
		switch {
		case e > 0 && s > 0, e < 0 && s < 0:
			bits++
		case e > 0, e < 0:
			bits--
		}
	}
	return float32(math.Float64frombits(bits))
}
