// Package peers runs membank and the vector libraries it finds on the machine side
// by side: the same rows, queries, k and threads, taking turns within one run, so
// that a noisy machine is noisy for all of them.
//
//	report, err := peers.Run(ctx, peers.Options{})
//	report.Write(os.Stdout)
//
//	Run              finds peers, makes sets, lets them take turns   run.go
//	  find           what can be started, what is missing and why     find.go, faiss.go, python.go, node.go, gomodules.go
//	  task           rows and queries as bare float32 files           task.go
//	    truth        the nearest rows in float64, recall              truth.go
//	  contender      an index with its settings                       contender.go
//	    child        a peer: a process that answers requests          child.go
//	    bank         membank itself, in this process                  bank.go
//	  contest        one mode and k: rounds of turns                  contest.go
//	  Report         tables, JSON, plots                              report.go, table.go, plot.go
//
// # A peer
//
// is a program with the arguments
//
//	INDEX GALLERY.f32 ROWS DIM QUERIES.f32 COUNT THREADS
//
// that builds an index over the rows, says so in a line of JSON, and then answers
// one request a line: batch, single and set, as faiss/driver.cpp describes them.
// Rows have unit length, and peers search by inner product, which saves them norms;
// membank searches by cosine, as its users do.
//
// # What is compared
//
// All contenders take turns, round by round, with each of their tunings (how FAISS
// shares threads with its BLAS, how many queries NumPy takes at once); the fastest
// tuning is the one reported. A batch is asked whole, for the rate of a part is not
// the rate of the whole; a slow contender has fewer turns instead, but always one.
// Only libraries that take one query at a time are asked fewer queries. The table
// says how many turns of how many queries each had. The best round counts and the
// median is beside it; ratios of membank to a peer are given both of the best rounds
// and as the median over rounds, each from turns of the same round. The machine's FMA
// peak is measured in every round, too: where its median is far below its best, other
// programs were running, which hurts libraries that wait for all of their threads
// more than others, and the report says so.
//
// Recall is measured on the first queries against a float64 search: the share of
// answers that are no further below the k-th best than float32 can tell (1e-6).
// Where membank has several exact paths, ids and scores of all of them are compared
// bit for bit on every query asked.
package peers
