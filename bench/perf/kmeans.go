package perf

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"membank/index/kmeans"
	"membank/store"
)

// KMeansOptions say what KMeans measures.
type KMeansOptions struct {
	Dir        string // where the database is made, and removed; "": temporary files
	Rows       int64  // 0: 200,000
	Dim        int    // 0: 256
	Clusters   int    // 0: one for 100 rows
	Iterations int    // 0: 5
	Memory     int64  // the budget, as --memory; 0: none
	Threads    int    // 0: GOMAXPROCS
	Seed       uint64
	Progress   Progress
}

// KMeans fills a bank with a Gallery and clusters its rows by cosine, reading them
// from the bank in every iteration, without codes and with them from the same random
// rows, and with codes from k-means++. Iterations are reported in floating-point
// operations, two an element and centroid, whether they were done or saved, against
// the FMA peak of as many threads. Both ways to compare must end in the same
// objective; another one is an error.
func KMeans(ctx context.Context, o KMeansOptions) (figures []Figure, err error) {
	o.Rows, o.Dim, o.Iterations, o.Threads = or(o.Rows, 200_000), or(o.Dim, 256), or(o.Iterations, 5), or(o.Threads, runtime.GOMAXPROCS(0))
	o.Clusters = or(o.Clusters, max(1, int(o.Rows/100)))
	maker, err := NewMaker(Gallery{Rows: o.Rows, Dim: o.Dim, Seed: o.Seed, Threads: o.Threads})
	if err != nil {
		return nil, err
	}
	dir, remove, err := workspace(o.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	if o.Memory > 0 {
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(o.Memory))
	}
	db, err := store.Open(ctx, dir, store.Options{Create: true, Memory: o.Memory / 4})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := fillBank(ctx, db, "rows", maker, o.Progress); err != nil {
		return nil, err
	}
	snap, err := db.Snapshot("rows")
	if err != nil {
		return nil, err
	}
	defer snap.Close()
	rows, err := kmeans.Bank(ctx, snap)
	if err != nil {
		return nil, err
	}
	figures = []Figure{
		{Name: "rows", Value: float64(o.Rows), Unit: "rows"},
		{Name: "clusters", Value: float64(o.Clusters), Unit: "clusters"},
	}
	var plain *kmeans.Result
	for _, way := range []struct {
		name    string
		seeding kmeans.Seeding
		noCodes bool
	}{{"fp32", kmeans.RandomRows, true}, {"codes", kmeans.RandomRows, false}, {"codes, from k-means++", kmeans.PlusPlus, false}} {
		peak := PeakFMA(ctx, o.Threads, 300*time.Millisecond) / 1e9
		debug.FreeOSMemory()
		watch := watchResidency()
		r, err := kmeans.Train(ctx, rows, kmeans.Options{
			Clusters: o.Clusters, Spherical: true, Iterations: o.Iterations, Seed: o.Seed, Seeding: way.seeding,
			NoCodes: way.noCodes, Threads: o.Threads,
			Progress: func(p kmeans.Progress) { o.Progress.tell(way.name+": "+p.Stage, p.Done, p.Total) },
		})
		memory := watch()
		if err != nil {
			return nil, err
		}
		if plain == nil {
			plain = r
		} else if way.seeding == kmeans.RandomRows && r.Objective != plain.Objective {
			return nil, fmt.Errorf("objective %v with codes, %v without", r.Objective, plain.Objective)
		}
		work := 2 * float64(o.Rows) * float64(o.Dim) * float64(o.Clusters) / 1e9
		figures = append(figures,
			Figure{Name: "k-means iteration, " + way.name, Value: work / r.IterationSeconds, Unit: "GFLOP/s"}.within(peak),
			Figure{Name: "  time of one", Value: r.IterationSeconds, Unit: "s"},
			Figure{Name: "  whole run", Value: r.Seconds, Unit: "s"},
			Figure{Name: "  mean cosine", Value: r.MeanCosine, Unit: "cosine"})
		if memory.known {
			figures = append(figures, Figure{Name: "  resident memory, without mapped files", Value: float64(memory.anonymous) / 1e6, Unit: "MB"})
		}
		if r == plain {
			continue
		}
		if way.seeding == kmeans.RandomRows {
			figures = append(figures, Figure{Name: "  codes over fp32", Value: plain.IterationSeconds / r.IterationSeconds, Unit: "times"})
		}
	}
	return figures, ctx.Err()
}
