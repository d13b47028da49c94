package eval_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"membank/bench/eval"
	"membank/simd"
	"membank/store"
)

// Two banks with labels, DINO's vote, one k that is not DINO's: the name of the
// result says so.
func ExampleKNN_Evaluate() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "membank")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := store.Open(ctx, dir, store.Options{Create: true})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	ingest := func(bank string, labels []int64, values ...float32) *store.Snapshot {
		w, err := db.NewWriter(ctx, bank, 2, store.WriterOptions{})
		if err != nil {
			log.Fatal(err)
		}
		defer w.Abort()
		rows := store.Rows{Vectors: simd.Matrix{Data: values, Rows: len(labels), Dim: 2}, Labels: labels}
		if err := w.Append(ctx, rows); err != nil {
			log.Fatal(err)
		}
		if _, err := w.Commit(ctx); err != nil {
			log.Fatal(err)
		}
		s, err := db.Snapshot(bank)
		if err != nil {
			log.Fatal(err)
		}
		return s
	}
	train := ingest("train", []int64{3, 3, 7, 7}, 1, 0, 3, 1, 0, 1, 1, 4)
	defer train.Close()
	test := ingest("test", []int64{3, 7, 7}, 2, 0, 0, 5, 9, 1)
	defer test.Close()

	result, err := eval.KNN{Preset: "dino", K: []int{1, 20}}.Evaluate(ctx, train, test, eval.RunOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Protocol)
	for _, at := range result.Results {
		fmt.Printf("k=%d (%d): %d of %d, top-1 %.3f, top-5 %.3f\n",
			at.K, at.EffectiveK, at.Correct1, result.TestRows, at.Top1, at.Top5)
	}
	// Output:
	// dino (k=1,20)
	// k=1 (1): 2 of 3, top-1 0.667, top-5 0.667
	// k=20 (4): 2 of 3, top-1 0.667, top-5 1.000
}

// What `eval knn --protocol help` lists.
func ExampleProtocols() {
	for _, p := range eval.Protocols()[:5] {
		fmt.Printf("%-9s %s\n", p.Preset, p.About)
	}
	// Output:
	// dino      DINO's weighted vote, quoted at k=20
	// dinov2    softmax over the largest k, prefixes for the rest: ranks as dino
	// ibot      as dino, on iBOT's features
	// instdisc  where the rule began: 128-d projections, ImageNet's temperature
	// lightly   lightly's knn_predict and KNNClassifier defaults
}
