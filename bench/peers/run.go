package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/klauspost/cpuid/v2"

	"membank/index/ivf"
	"membank/simd"
)

// Run compares membank with all peers that it finds. A peer that is not there, or
// that fails, is named in Report.Missing and is no error. Children end before Run
// does, also when ctx is cancelled.
func Run(ctx context.Context, o Options) (report *Report, err error) {
	o = o.withDefaults()
	if o.Level != "" {
		defer simd.Use(o.Level)()
	}
	report = &Report{Time: time.Now().UTC().Truncate(time.Second), CPU: cpuid.CPU.BrandName,
		Threads: o.Threads, Level: string(simd.Active())}
	dir, err := os.MkdirTemp(o.Dir, "membank-peers-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	f := newFinder(o)
	launches, err := f.all(ctx, report)
	if err != nil {
		return nil, err
	}
	for _, set := range o.Sets {
		if set == "real" && !f.features(&o) {
			report.Missing = append(report.Missing, Missing{"set real", "no embeddings at hand",
				"name two .npy files, of rows and of queries, or run this inside the source tree"})
			continue
		}
		s, err := compare(ctx, dir, set, o, launches, report)
		if err != nil {
			return nil, fmt.Errorf("set %s: %w", set, err)
		}
		report.Sets = append(report.Sets, *s)
	}
	return report, nil
}

// all finds every peer asked for and notes the missing ones.
func (f finder) all(ctx context.Context, report *Report) ([]launch, error) {
	var all []launch
	for _, peer := range f.Peers {
		f.Progress.tell("looking for " + peer)
		some, err := f.find(ctx, peer)
		var missing *absent
		switch {
		case errors.As(err, &missing):
			report.Missing = append(report.Missing, Missing{peer, missing.reason, missing.remedy})
		case err != nil:
			return nil, err
		}
		all = append(all, some...)
	}
	return all, ctx.Err()
}

// features finds real embeddings in the source unless they are given.
func (f finder) features(o *Options) bool {
	if o.Features == "" && o.FeatureQueries == "" && f.source != "" {
		ssl := filepath.Join(f.source, "store", "testdata", "ssl", "moco_v2")
		o.Features, o.FeatureQueries = filepath.Join(ssl, "train_features.npy"), filepath.Join(ssl, "test_features.npy")
	}
	return o.Features != "" && o.FeatureQueries != ""
}

// compare lets all contenders meet over one set.
func compare(ctx context.Context, dir, set string, o Options, launches []launch, report *Report) (s *SetReport, err error) {
	tell := func(what string) { o.Progress.tell("set " + set + ": " + what) }
	tell("making rows and queries")
	t, err := newTask(ctx, dir, set, o)
	if err != nil {
		return nil, err
	}
	tell("filling the bank")
	b, err := newBank(ctx, dir, t, o.Threads)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close(), os.RemoveAll(b.db.Dir())) }()
	var all []*contender
	for _, p := range b.paths() {
		about := &Index{Name: "membank", Level: string(simd.Active()), Index: p.name, Exact: true, Build: p.build}
		all = append(all, &contender{engine: p, about: about, tunings: [][]setting{nil}, ours: p})
	}
	if o.Lists > 0 {
		// As many lists as membank makes by itself, and as many as the others have.
		for _, lists := range slices.Compact([]int{ivf.DefaultLists(t.rows), o.Lists}) {
			tell("grouping the bank by list")
			p, err := b.group(ctx, lists, o.K, o.Truth)
			if err != nil {
				return nil, err
			}
			about := &Index{Name: "membank", Level: string(simd.Active()), Index: p.name, Build: p.build}
			for _, c := range contendersOf(launch{settings: recallSettings}, p, about) {
				c.ours = p
				all = append(all, c)
			}
		}
	}
	for _, l := range launches {
		tell("building " + l.peer + " " + l.index)
		c, hello, err := start(ctx, l, t, o.Threads)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			report.Missing = append(report.Missing, Missing{Name: l.peer + " " + l.index + " on set " + set, Reason: err.Error()})
			continue
		}
		defer c.close()
		all = append(all, contendersOf(l, c, &Index{Name: hello.Name, Version: hello.Version, Level: hello.Level,
			Index: hello.Index, Exact: l.exact, Build: hello.Build})...)
	}
	tell("computing the truth in float64")
	truth, err := newTruth(ctx, t, o.Truth, slices.Max(o.K), o.Threads)
	if err != nil {
		return nil, err
	}
	s = &SetReport{Set: set, Note: t.note, Rows: t.rows, Dim: t.dim, Queries: t.count}
	var peaks []float64
	for _, k := range o.K {
		if err := b.establish(ctx, k); err != nil {
			return nil, err
		}
		for _, mode := range []string{Batch, Single} {
			c := contest{mode: mode, k: k, queries: t.count, budget: o.Budget, threads: o.Threads, truth: truth,
				progress: func(what string) { tell(fmt.Sprintf("%s, k=%d: %s", mode, k, what)) }}
			if mode == Single {
				if o.Singles < 0 {
					continue
				}
				c.queries = o.Singles
			}
			if err := c.run(ctx, all, o.Rounds); err != nil {
				return nil, err
			}
			results, err := c.results(t)
			if err != nil {
				return nil, err
			}
			s.Results = append(s.Results, results...)
			peaks = append(peaks, c.peaks...)
		}
	}
	s.PeakBest, s.PeakMedian = slices.Max(peaks)/1e9, median(peaks)/1e9
	var before *Index
	for _, c := range all {
		if c.about != before {
			s.Indexes, before = append(s.Indexes, *c.about), c.about
		}
		if c.failed != nil {
			report.Missing = append(report.Missing, Missing{Name: c.about.Name + " " + c.about.Index + " on set " + set, Reason: c.failed.Error()})
		}
		if c.ours != nil {
			s.Different += c.ours.different
		}
	}
	return s, nil
}
