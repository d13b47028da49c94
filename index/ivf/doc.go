// Package ivf groups the rows of a bank by list and keeps the groups useful.
//
//	described, err := ivf.Build(ctx, db, "train", ivf.BuildOptions{})
//	result, err := index.New(snapshot).Search(ctx, queries, index.Options{Recall: 0.99})
//
// There is one copy of the rows, and a flat bank is one with a single list:
//
//	Build     centroids → every row's list → rows rewritten by list → Tune   build.go
//	Tune      what a recall costs, on rows or on the user's own queries      tune.go
//	Assigner  lists of rows that are appended or overwritten                 assign.go
//	Describe  sizes, imbalance, drift, and whether to build anew             describe.go
//	Drop      row order again, no lists                                      build.go
//
// Package index searches; package index/kmeans trains; package store rewrites and
// flips. Row numbers, keys, labels, attributes and exact answers never change.
package ivf
