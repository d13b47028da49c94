package index_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"membank/index"
	"membank/simd"
	"membank/store"
)

// Four embeddings become a bank, and two queries find their nearest rows in it.
func Example() {
	dir, err := os.MkdirTemp("", "membank")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	db, err := store.Open(ctx, dir, store.Options{Create: true})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	w, err := db.NewWriter(ctx, "train", 3, store.WriterOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer w.Abort()
	err = w.Append(ctx, store.Rows{
		Vectors: simd.Matrix{Rows: 4, Dim: 3, Data: []float32{
			1, 0, 0,
			3, 4, 0,
			0, 0, 2,
			0, 0, 5,
		}},
		Keys: []string{"cat", "dog", "ship", "boat"},
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := w.Commit(ctx); err != nil {
		log.Fatal(err)
	}

	train, err := db.Snapshot("train")
	if err != nil {
		log.Fatal(err)
	}
	defer train.Close()
	queries := simd.Matrix{Rows: 2, Dim: 3, Data: []float32{
		2, 0, 0,
		0, 0, 1,
	}}
	for _, metric := range []index.Metric{index.Cosine, index.L2} {
		result, err := index.New(train).Search(ctx, queries, index.Options{K: 2, Metric: metric})
		if err != nil {
			log.Fatal(err)
		}
		for q, hits := range result.Hits {
			fmt.Println(metric, "query", q)
			for _, h := range hits {
				fmt.Printf("  row %d  %.2f\n", h.Row, h.Score)
			}
		}
	}
	// The two boats point the same way: cosine ties are broken by row.

	// Output:
	// cosine query 0
	//   row 0  1.00
	//   row 1  0.60
	// cosine query 1
	//   row 2  1.00
	//   row 3  1.00
	// l2 query 0
	//   row 0  1.00
	//   row 2  8.00
	// l2 query 1
	//   row 2  1.00
	//   row 0  2.00
}
