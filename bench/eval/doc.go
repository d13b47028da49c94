// Package eval scores banks: how good are these embeddings, by which rule, and
// exactly what was computed.
//
// # kNN accuracy
//
// [KNN] takes a gallery (train) and a query set (test), finds the k nearest rows
// of each query, and lets them vote for their class:
//
//	one Search at the largest k ─► neighbours by (similarity desc, row asc)
//	                                   │ the first k, for every k asked
//	                                   ▼
//	vote[class] += weight(neighbour)   float64, in neighbour order; where all rows
//	                                   │   vote they are scored, not ranked
//	                                   ▼
//	classes by (vote desc, class asc), then those without a vote, in class order
//	                                   │
//	        top1: the first is right   │   top5: among the first min(5,k)
//	                                   ▼   top5_voted: and it has a vote
//	accuracies over the queries that have a label
//
// The rule (metric, normalisation, k, weight) is a [Protocol]. [Protocols] lists
// those of the published evaluators under the names people quote; the numbers
// equal theirs wherever theirs are defined. What a caller overrides is part of
// the name that the result carries: "dino (k=5, T=0.1)".
//
// What the originals leave open, and what holds here:
//
//   - Ties. torch.topk and an unstable sort of the classes decide them by
//     accident, MSF by shuffling. Here row and class numbers do.
//   - Classes are the distinct labels of the gallery, whatever integers they are,
//     not 1000, max+1 or the labels of the query set.
//   - top5 ranks classes, not neighbours, and ends with classes that nobody
//     voted for, as the originals' do: a hit among those is an accident.
//     top5_voted leaves it out. Evaluators that always take five classes
//     (InstDisc, iBOT, DINOv2, lightly, VISSL) report more than top5 for k<5,
//     and crash or print 0 for fewer than five classes.
//   - k is cut to the rows that can vote, and recorded as effective_k.
//   - Rows without a label: in the gallery they are left out before the search,
//     as solo-learn does, so they take no place among the k; in the query set
//     they are not asked. Both are counted.
//   - A label of the query set that the gallery lacks counts as wrong, and is
//     counted. Where both banks name their classes, names are matched, not
//     numbers.
//   - What labels alone decide is refused ([ErrForegone]): an accuracy where the gallery
//     has one class is 1, and 0 where it has no class of the queries, whatever the
//     embeddings. Figures in [Figures] that would be so are missing, with the reason.
//   - Queries that are as near to the next row as to all that vote are counted: row
//     numbers chose the voters. A zero query is one, and so are those of a heap.
//   - Leave-one-out leaves out the row, not the first neighbour: with an exact
//     duplicate, or un-normalised inner products, the two differ.
//   - A weight that underflows float64, beyond 745 T behind the best, is no vote.
//   - exp(s/T) is taken as exp((s-s₁)/T): the same ranking, no overflow. Where
//     the original's float32 would have overflowed (s/T > 88.7, usual for raw
//     features), the result says for how many queries.
//   - A zero row has cosine 0 with everything.
//
// # Sets
//
// What is asked and what is searched is a [Set]: a bank as it is stored, a part of it,
// or what a transform made of it: descriptors pooled from patch tokens ([GeM]), rows
// whitened by what another bank taught ([Whitening]). A transform is part of the name
// of the protocol.
//
//	store.Snapshot ─► NewSet ─► Pool ─► Apply ─► KNN, FewShot, Retrieval, Copies, Clusters
//
// [FewShot] lets some rows of each class vote, drawn several times or listed in files;
// [PseudoLabels] asks rows without a label, and says how far to believe the answer.
//
// # Retrieval
//
// [Retrieval] ranks the whole gallery for every query: by labels, with the metrics of
// metric learning, or by [GroundTruth], with those of revisited Oxford and Paris.
// There are two average precisions, and papers say "mAP" of both:
//
//	IR         mean of (j+1)/(r_j+1)                    map_full
//	trapezoid  mean of ½[j/r_j + (j+1)/(r_j+1)]         map_trapezoid
//
// over the 0-based ranks r_j of the relevant rows, all of them. [Copies] pools the
// candidates of all queries and judges the list: copy detection.
//
// # Clusters
//
// [Clusters] runs k-means from several seeds and compares the clusters with classes,
// with each other, and with those of the checkpoint before.
//
// # Agreement of labelings
//
// [Agree] compares two labelings of the same rows, clusters and classes or two
// clusterings: NMI with its normalisation named, AMI, ARI, purity, Hungarian
// accuracy, all from one [Contingency] table in float64.
//
// # Diagnosis and comparison
//
// [Diagnose] says whether a space is healthy or collapsed, [Compare] how alike two
// banks see the same rows. Both return [Figures]: named numbers, under the names of
// the reference data, of which none is ever NaN; one that has no value has a reason.
//
//	all rows, read twice     census: norms, means, equal rows         census.go
//	                         spectrum: ranks, variances, α-ReQ        spectrum.go
//	a sample, one search     hubness, KoLeo, near-duplicates, kNN     hubness.go, neighbourhood.go
//	a sample, all pairs      uniformity, cosines within classes       pairs.go
//	pairs of views           alignment, NT-Xent, InfoNCE, ReLIC       contrast.go
//	views by object          LiDAR                                    lidar.go
//	figures                  thresholds, and who drew them            verdict.go
//
// All computes in float64, as sums of products that simd.Products takes in one order
// (strips.go): a collapsed space is where float32 ends. The search does not, so it
// finds some neighbours more than asked for, and float64 chooses among them; where
// they do not suffice, among all rows (settle.go). Second moments are of rows less
// their mean, for the same reason. Samples are chosen by a seed and recorded with
// their size.
//
// # Finding rows
//
// [Duplicates] is the exact join of rows above a cosine, [LabelErrors] what a
// leave-one-out vote doubts, [Density] uniqueness, density and outliers, [KCentre] a
// diverse subset. Each says of every row found what the command writes as attributes.
//
// # Models over data sets
//
// [Transfer] sets models and data sets side by side: a cell is three evaluations above,
// the table ranks of models and correlations of data sets.
//
// Nothing here opens a file or prints. An evaluation is deterministic: the same
// snapshots give the same result for any number of threads, memory budget and
// SIMD level; only the samples of a diagnosis or comparison may be cut by the
// budget, and say so.
package eval
