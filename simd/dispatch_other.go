//go:build !amd64

package simd

func native() []*kernels { return nil }
