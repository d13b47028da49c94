// Package index finds the nearest rows of a bank: exactly, or with a stated recall.
//
//	ix := index.New(snapshot)
//	result, err := ix.Search(ctx, queries, index.Options{K: 20})
//
// There is one search and one loop:
//
//	Search          checks the batch, splits it into passes      index.go
//	  pass          queries packed in tiles, a TopK for each     pass.go
//	    run         workers draw pieces of blocks from a counter scan.go
//	      scan      Epilogue: score = scale·⟨q,x⟩ + bias         metric.go
//	                group of panels × tile of queries × panel:
//	                simd.Tile (or Scan, for one query) → hits
//	        offer   hits → TopK → a higher floor                 topk.go
//
// A bank whose rows are grouped by list (index/ivf) can be searched by some of its
// lists. Then the loop runs over the runs of lanes that these have:
//
//	Search          which lists are worth it: probes, a recall, bounds   route.go
//	  pass.runLists nearest lists by centroid, in rounds                 probe.go
//	    nearest     lists by their centroids: bytes first, exact         coarse.go
//	    scout       floors by the codes of the nearest                   scout.go
//	    round       list → its queries → pieces of blocks                grouping.go
//	      scanRun   as scan, or siftRuns: through the codes              probe.go
//
// Lists says what is known of lists (lists.go), Assigner which list a row belongs to
// (assign.go), Tune what a recall takes (tune.go), Recall what came out (recall.go).
//
// Scores runs the same loop and ranks nothing (scores.go). Graph asks it for the
// neighbours of every row, in batches (graph.go, expect.go).
// FromMatrix makes an index of rows in memory, centroids say (matrix.go): a snapshot
// and a matrix differ in who lends the blocks, and in nothing else.
//
// # What an answer is
//
// Larger is nearer: cosine and dot product are scores as they stand, L2 is −d²
// until it is printed. The hits of a query are the best K under one total order,
// score descending, then row ascending (better, in topk.go), and a score is one
// sequential chain of FMAs over the dimensions (see package simd). Nothing in an
// answer depends on the order in which rows were met: not on threads, nor on how
// queries were batched or rows laid out in blocks, nor on the SIMD level.
//
// A dead row, a lane of padding and a row that Options.Allow refuses have a bias
// of −Inf; no floor is that low, so the kernels keep them out without a branch.
// Panels in which no row is in question are not read at all. A search in which a
// score could overflow is refused before it starts (ErrOverflow), so scores are
// finite and NaN does not occur.
//
// # Floors
//
// The k-th best score so far is the floor of a query. Kernels compare with it and
// report the lanes that reach it: soon almost none do, and all of selection costs
// next to nothing. A caller who knows a score that is reached gives it to start
// with (Options.Floors). All workers raise the same floors. A row is left out only when
// k better ones are known, so pruning early or late changes the time, never the
// answer.
//
// L2 has two scores. The kernel's, ⟨q,x⟩ − ½‖x‖², loses digits where q and x are
// close, so it is compared with a floor lowered by a proven bound on its rounding
// (bound.go), and what reaches that is scored at once by simd.SquaredDistance.
// The answer is the exact top k of the directly computed distances.
//
// # Codes
//
// A bank may have codes: every row's coordinates along the directions in which rows
// vary most (basis.go, learn.go), in steps of a byte, with the norms of all that
// they miss (codes.go). A search proves by them that most rows cannot reach the
// floor, and scores only the others from their vectors (cascade.go has the proof,
// sift.go the loop):
//
//	seed    some panels, exactly; a guess of the final floor from them   guess.go
//	sift    all pairs by the first dims, integer products in tiles of    sift.go
//	        12 queries; what reaches the floor by more dims, row by row, then
//	        with the query in finer steps
//	score   what is left, by the chain that the plain scan has
//
// So the answers have the same bits with codes and without (Options.NoCodes). Where
// the rows defeat the bound (too many equal ones, no falling spectrum), tiles of
// queries scan whole pieces of blocks as if there were no codes, and Stats counts
// that as Fallbacks.
//
// # Cost
//
// With D dimensions, a pass reads 4·D bytes a row (2 for f16, widened by the
// store) and does 2·D operations a row and query. Groups of panels of half an L2
// cache meet all tiles of 12 queries, so from some dozens of queries on the FMA
// units are the limit, and memory below. On two cores of a Zen 5, 400,000 × 384:
// see BenchmarkBatch and BenchmarkFew, which print the machine's limits too.
//
// The answer takes 16 bytes a hit; Options.Memory bounds it, and ErrMemory refuses
// what does not fit, so ask for all rows (K = N) some queries at a time. Beside
// the answer a search holds at most 64 MiB of running hits and 64 MiB of packed
// queries, and as much again of each with codes: the batch is split into passes
// over the bank accordingly, thousands of queries each for K up to some hundreds.
// Nothing is allocated in the loop but the buffers of a K beyond 4096, as they
// fill, and those for survivors of codes, as they grow.
package index
