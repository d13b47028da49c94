// Package simd holds the kernels: scores of rows against queries, and the few
// vector operations around them.
package simd
