// Package perf measures speed, always next to the limit of the machine it runs on:
//
//	Kernels    the kernels of every SIMD level         against FMA and int8 peak and memory read
//	Search     batches of queries, and single ones,    against FMA peak and memory read
//	           with whole rows and with codes
//	Ingest     .npy to durable bank, and its codes     against cp and fsync of that file
//	Memory     steps of a training run's memory bank,  beside NumPy arrays
//	           in process and from Python over HTTP
//	Evaluate   a gallery far larger than the budget    against twice the budget
//
// Each returns Figures: a rate, the limit, and the share of it that was reached.
// What is measured and its limit take turns, several rounds of each, and the best
// round of either counts: on a machine that other programs use as well, rates vary
// by a factor and ratios of such pairs hardly do. Nothing here prints, and sizes are
// options, so that a test runs in milliseconds what a benchmark runs in minutes.
//
// Galleries come from Gallery: SSL-like rows, of any number and dimension, the same
// for any number of threads, never in memory as a whole.
package perf
