package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/philippgille/chromem-go"
)

type chromemEngine struct{ rows *chromem.Collection }

func newChromem(gallery [][]float32, threads int) (*chromemEngine, error) {
	rows, err := chromem.NewDB().CreateCollection("gallery", nil, func(context.Context, string) ([]float32, error) {
		return nil, fmt.Errorf("rows come with their embeddings")
	})
	if err != nil {
		return nil, err
	}
	documents := make([]chromem.Document, len(gallery))
	for i, row := range gallery {
		// A document without content or embedding is refused.
		documents[i] = chromem.Document{ID: strconv.Itoa(i), Embedding: row, Content: "-"}
	}
	return &chromemEngine{rows}, rows.AddDocuments(context.Background(), documents, threads)
}

func (e *chromemEngine) about() (module, index string) {
	return "github.com/philippgille/chromem-go", "exhaustive"
}

func (e *chromemEngine) search(query []float32, ids []int64) error {
	for i := range ids {
		ids[i] = -1
	}
	found, err := e.rows.QueryEmbedding(context.Background(), query, min(len(ids), e.rows.Count()), nil, nil)
	if err != nil {
		return err
	}
	for i, hit := range found {
		if ids[i], err = strconv.ParseInt(hit.ID, 10, 64); err != nil {
			return err
		}
	}
	return nil
}

func (e *chromemEngine) set(name string, _ int) error { return fmt.Errorf("no setting %s", name) }
