package cli

import (
	"context"
	"fmt"
	"io"

	"membank/index"
	"membank/index/ivf"
	"membank/store"
)

// demoLists is what grouping the rows of a bank by list gained.
type demoLists struct {
	Bank   string  `json:"bank"`
	NList  int     `json:"nlist"`
	Asked  float64 `json:"asked"`  // recall that was asked for
	Recall float64 `json:"recall"` // of the test rows, against exact answers
	Lists  float64 `json:"lists"`  // that a query read, on average
	K      int     `json:"k"`
}

// demoIndex groups a bank by list and asks it with all rows of another.
func (s *session) demoIndex(ctx context.Context, db *store.DB, bank, queries string) (d demoLists, err error) {
	b, err := ivf.Build(ctx, db, bank, ivf.BuildOptions{Threads: s.threads, Memory: s.memory / 2})
	if err != nil {
		return d, err
	}
	o := index.Options{K: demoNeighbours, Recall: 0.95, Threads: s.threads}
	d = demoLists{Bank: bank, NList: b.Lists, Asked: o.Recall, K: o.K}
	err = snapshot(db, bank, func(gallery *store.Snapshot) error {
		return snapshot(db, queries, func(test *store.Snapshot) error {
			ix := index.New(gallery)
			return test.Batches(ctx, int(test.Info().Rows), func(q store.Batch) error {
				found, err := ix.Search(ctx, q.Vectors, o)
				if err != nil {
					return err
				}
				exact, err := ix.Search(ctx, q.Vectors, index.Options{K: o.K, Threads: o.Threads})
				if err != nil {
					return err
				}
				d.Recall = index.Recall(found.Hits, exact.Hits)
				d.Lists = float64(found.Stats.Lists) / float64(q.Vectors.Rows)
				return nil
			})
		})
	})
	return d, err
}

func printDemoLists(w io.Writer, d demoLists) {
	fmt.Fprintf(w, "\nIndexed %s in %s. Asked for a recall of %g, its test rows read %.1f of them\nand found %.2f %% of their exact %d nearest.\n",
		d.Bank, plural(d.NList, "list"), d.Asked, d.Lists, 100*d.Recall, d.K)
}
