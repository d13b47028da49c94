// Package kmeans divides rows into clusters around their means, exactly as Lloyd's
// algorithm does and much faster than scoring every pair.
//
//	source, err := kmeans.Bank(ctx, snapshot)
//	result, err := kmeans.Train(ctx, source, kmeans.Options{Clusters: 1000, Spherical: true})
//	result.Labels[i]                 // cluster of row i of the source
//	result.Centroids.Row(c)
//
// One iteration is one pass over the source:
//
//	Train          restarts, iterations, when to stop            kmeans.go
//	  seed         k-means++ by rejection, or random rows        seed.go
//	  pass         chunk of rows → index.Search, K = 1 → sums    pass.go
//	  update       means, normalised if spherical                update.go
//	  split        what becomes of empty clusters                empty.go
//	  refine       out of a local optimum, if asked              refine.go
//	  swap         and out of another, by chance                 swap.go
//
// Whiten rotates and scales rows before they are clustered (whiten.go, gram.go); a sample of
// rows is a Source, too (sample.go).
//
// # Assignment is a search
//
// The centroids are a matrix, index.FromMatrix packs them, and the nearest one is
// the answer to a search with K = 1: by cosine if spherical, else by the directly
// computed squared distance; of equal ones the first. For some hundred of them that is
// Index.Nearest. Many get int8 codes, by a basis learnt from the rows, which prove for
// most of them that they are not the nearest; then a row brings its own floor from the
// second pass on: the score with the centroid that it had, where that one is now. So
// the result is that of comparing every row with every centroid.
//
// # Determinism
//
// A centroid is the mean of its rows, added in float64 in the order of the source;
// threads share the work by centroids and dimensions, never by rows. So equal rows,
// options and seed give equal bits, on any number of threads and at every SIMD
// level, and so do a bank and a matrix of the same rows.
//
// # Memory and cost
//
// The rows are read from the source again in every pass, 64 MiB at a time, and never
// held as a whole. Beside that a run holds 8 bytes a row (label, score); for each
// number of a centroid 8 bytes of sums and 4 of each of old and new centroids, their
// packed copy and, with several restarts, the best ones; the rows of k-means++
// (Options.SeedRows); and a basis of up to 512 directions. 1,281,167 × 256 rows and
// 10,000 clusters take less than 400 MB with the rows of k-means++, a third of what
// the rows would.
package kmeans
