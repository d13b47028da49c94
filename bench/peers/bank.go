package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"membank/index"
	"membank/simd"
	"membank/store"
)

// bank is membank itself: a durable bank on disk, searched in this process.
type bank struct {
	db      *store.DB
	snap    *store.Snapshot
	listed  []*store.Snapshot // grouped by list
	queries simd.Matrix
	threads int
	build   float64               // seconds until the rows are durable
	codes   float64               // seconds that a basis and codes took beyond that
	coded   bool                  // some banks have no use for codes
	known   map[int][][]index.Hit // for each k the answers of the plainest path to the whole batch
}

// newBank ingests the gallery of a task.
func newBank(ctx context.Context, dir string, t *task, threads int) (b *bank, err error) {
	b = &bank{threads: threads, known: map[int][][]index.Hit{}}
	if b.queries, err = readAll(t.queries, t.count, t.dim); err != nil {
		return nil, err
	}
	f, err := os.Open(t.gallery)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if b.db, err = store.Open(ctx, filepath.Join(dir, t.name+".db"), store.Options{Create: true}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	begin := time.Now()
	w, err := b.db.NewWriter(ctx, "gallery", t.dim, store.WriterOptions{
		Source: store.Provenance{Command: "membank bench peers: set " + t.name, Time: begin},
	})
	if err != nil {
		return nil, err
	}
	defer w.Abort()
	rows := simd.NewMatrix(part(t.dim), t.dim)
	buffer := make([]byte, 4*len(rows.Data))
	for first := int64(0); first < t.rows; first += int64(rows.Rows) {
		some := rows.Slice(0, int(min(int64(rows.Rows), t.rows-first)))
		if err := readRows(f, some, first, buffer); err != nil {
			return nil, err
		}
		if err := w.Append(ctx, store.Rows{Vectors: some}); err != nil {
			return nil, err
		}
	}
	if _, err := w.Commit(ctx); err != nil {
		return nil, err
	}
	b.build = time.Since(begin).Seconds()
	if err := b.encode(ctx); err != nil {
		return nil, err
	}
	b.codes = time.Since(begin).Seconds() - b.build
	b.snap, err = b.db.Snapshot("gallery")
	return b, err
}

// encode gives the bank codes, unless it is one that they do nothing for.
func (b *bank) encode(ctx context.Context) error {
	plain, err := b.db.Snapshot("gallery")
	if err != nil {
		return err
	}
	defer plain.Close()
	basis, err := index.LearnBasis(ctx, plain, b.threads)
	if err != nil || basis == nil {
		return err
	}
	b.coded = true
	_, err = b.db.WriteCodes(ctx, "gallery", basis.Encode(), basis.EncodeBlock, store.CodesOptions{Threads: b.threads})
	return err
}

func (b *bank) close() error {
	if b.snap != nil {
		b.snap.Close()
	}
	for _, s := range b.listed {
		s.Close()
	}
	return b.db.Close()
}

// path is one way in which a bank is searched; all of them are exact and must agree
// in every bit.
type path struct {
	*bank
	name      string  // of the index, in the table
	build     float64 // seconds
	options   index.Options
	ix        *index.Index
	lists     bool // answers are approximate, and settings are recalls
	different int  // queries whose ids or scores were not the known ones
}

// paths are the ways to search a bank, the plainest first.
func (b *bank) paths() []*path {
	all := []*path{{bank: b, name: "exact, fp32", ix: index.New(b.snap), build: b.build, options: index.Options{NoCodes: true}}}
	if b.coded {
		all = append(all, &path{bank: b, name: "exact, codes", ix: index.New(b.snap), build: b.build + b.codes})
	}
	return all
}

// establish computes the answers with which those of every path, batch and single
// query are compared.
func (b *bank) establish(ctx context.Context, k int) error {
	if b.known[k] != nil {
		return nil
	}
	r, err := index.New(b.snap).Search(ctx, b.queries, index.Options{K: k, Metric: index.Cosine, Threads: b.threads, NoCodes: true})
	b.known[k] = r.Hits
	return err
}

// ask searches queries [first, first+n) and compares the answers.
func (p *path) ask(ctx context.Context, k, n, first int) ([][]index.Hit, float64, error) {
	o := p.options
	o.K, o.Metric, o.Threads = k, index.Cosine, p.threads
	begin := time.Now()
	r, err := p.ix.Search(ctx, p.queries.Slice(first, first+n), o)
	seconds := time.Since(begin).Seconds()
	if err != nil {
		return nil, 0, err
	}
	for i, hits := range r.Hits {
		if !p.lists && !slices.Equal(hits, p.known[k][first+i]) {
			p.different++
		}
	}
	return r.Hits, seconds, nil
}

func (p *path) batch(ctx context.Context, k, n int) ([]int64, float64, error) {
	all, seconds, err := p.ask(ctx, k, n, 0)
	ids := make([]int64, 0, n*k)
	for _, hits := range all {
		for i := range k {
			id := int64(-1)
			if i < len(hits) {
				id = hits[i].Row
			}
			ids = append(ids, id)
		}
	}
	return ids, seconds, err
}

func (p *path) single(ctx context.Context, k, n, first int) ([]float64, error) {
	calls := make([]float64, n)
	for i := range calls {
		var err error
		if _, calls[i], err = p.ask(ctx, k, 1, (first+i)%p.queries.Rows); err != nil {
			return nil, err
		}
	}
	return calls, nil
}

func (p *path) set(_ context.Context, s setting) error {
	if p.lists && s.name == recallSetting {
		p.options.Recall = float64(s.value) / 10000
		return nil
	}
	return fmt.Errorf("membank has no setting %q", s)
}
