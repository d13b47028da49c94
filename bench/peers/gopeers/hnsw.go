package main

import (
	"cmp"
	"fmt"
	"math/rand"
	"slices"

	"github.com/coder/hnsw"
	"github.com/viterin/vek/vek32"
)

// hnswEngine asks for more rows than it needs and keeps the nearest: the library's
// search ends at the first row that brings no improvement once it has as many as
// were asked for, whatever its EfSearch, so this is what widens it.
type hnswEngine struct {
	graph *hnsw.Graph[int]
	fetch int
}

func newHNSW(gallery [][]float32) *hnswEngine {
	g := hnsw.NewGraph[int]()
	g.M, g.EfSearch, g.Rng = 32, 200, rand.New(rand.NewSource(1))
	g.Distance = distance
	for i, row := range gallery {
		g.Add(hnsw.MakeNode(i, row))
	}
	return &hnswEngine{graph: g}
}

// distance is the cosine distance of rows of unit length.
func distance(a, b []float32) float32 { return 1 - vek32.Dot(a, b) }

func (e *hnswEngine) about() (module, index string) { return "github.com/coder/hnsw", "HNSW32" }

func (e *hnswEngine) search(query []float32, ids []int64) error {
	found := e.graph.Search(query, max(len(ids), e.fetch))
	type hit struct {
		row      int
		distance float32
	}
	hits := make([]hit, len(found))
	for i, node := range found {
		hits[i] = hit{node.Key, distance(query, node.Value)}
	}
	slices.SortFunc(hits, func(a, b hit) int { return cmp.Compare(a.distance, b.distance) })
	for i := range ids {
		ids[i] = -1
		if i < len(hits) {
			ids[i] = int64(hits[i].row)
		}
	}
	return nil
}

func (e *hnswEngine) set(name string, value int) error {
	if name != "fetch" {
		return fmt.Errorf("no setting %s", name)
	}
	e.fetch = value
	e.graph.EfSearch = max(200, value)
	return nil
}
