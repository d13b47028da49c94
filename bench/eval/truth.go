package eval

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
)

// GroundTruth names the rows that each query should find, as the revisited Oxford
// and Paris benchmarks do (Radenović et al. 2018). In JSON it is what their gnd
// pickle holds:
//
//	{"imlist":  ["all_souls_000013", …],              names of the gallery's images
//	 "qimlist": ["all_souls_000051", …],              names of the queries
//	 "gnd":     [{"easy": [5, 9], "hard": [7], "junk": [2]}, …]}   one a query
//
// from Python: json.dump({k: g[k] for k in ("imlist", "qimlist", "gnd")}, f). Numbers
// are places in imlist; without an imlist they are row numbers, and names (keys) may
// stand in their place. Without a qimlist, entry i of gnd is query row i. A name is
// a key, or has the file name of one, folder and extension apart. Lists that are
// not revisited have "ok" in place of easy and hard. Other members ("bbx") are
// passed over.
type GroundTruth struct {
	Images  []string    `json:"imlist"`
	Queries []string    `json:"qimlist"`
	Truth   []Relevance `json:"gnd"`
}

// Relevance is the lists of one query.
type Relevance struct {
	Easy, Hard, Junk, OK []Named
}

// Named is a row by its name, or where that is "" by its number.
type Named struct {
	Name   string
	Number int64
}

// UnmarshalJSON reads a number or a string that is not empty.
func (n *Named) UnmarshalJSON(text []byte) error {
	switch {
	case string(text) == "null" || string(text) == `""`:
		return fmt.Errorf("%s is neither a row nor a name", text)
	case text[0] == '"':
		return json.Unmarshal(text, &n.Name)
	}
	return json.Unmarshal(text, &n.Number)
}

// ReadGroundTruth decodes the JSON form.
func ReadGroundTruth(r io.Reader) (*GroundTruth, error) {
	var g GroundTruth
	if err := json.NewDecoder(r).Decode(&g); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrGroundTruth, err)
	}
	if len(g.Truth) == 0 {
		return nil, fmt.Errorf("%w: no gnd in it, or an empty one", ErrGroundTruth)
	}
	if len(g.Queries) > 0 && len(g.Queries) != len(g.Truth) {
		return nil, fmt.Errorf("%w: qimlist names %d queries, gnd has %d", ErrGroundTruth, len(g.Queries), len(g.Truth))
	}
	return &g, nil
}

// byName finds rows by key, or by the file name in it.
type byName struct {
	bank string
	keys map[string]int64
	base map[string]int64 // -1: several keys end so
	live []bool           // by row number
}

func newByName(ctx context.Context, s *Set) (*byName, error) {
	keys, err := s.Keys(ctx)
	if err != nil {
		return nil, err
	}
	n := &byName{bank: s.use.Bank, keys: map[string]int64{}, base: map[string]int64{}, live: make([]bool, len(keys))}
	for row, key := range keys {
		if key == "" {
			continue
		}
		n.live[row] = true
		n.keys[key] = int64(row)
		base := baseName(key)
		if _, twice := n.base[base]; twice {
			n.base[base] = -1
		} else {
			n.base[base] = int64(row)
		}
	}
	return n, nil
}

// baseName is a file's name without folder and extension.
func baseName(key string) string { return strings.TrimSuffix(path.Base(key), path.Ext(key)) }

func (n *byName) row(name string) (int64, error) {
	if row, ok := n.keys[name]; ok {
		return row, nil
	}
	switch row, ok := n.base[baseName(name)]; {
	case !ok:
		return 0, fmt.Errorf("%w: bank %q has no key %q, nor one with that file name", ErrGroundTruth, n.bank, name)
	case row < 0:
		return 0, fmt.Errorf("%w: several keys of bank %q have the file name %q", ErrGroundTruth, n.bank, name)
	default:
		return row, nil
	}
}

// number is row i of the bank, if it lives.
func (n *byName) number(i int64) (int64, error) {
	if i < 0 || i >= int64(len(n.live)) || !n.live[i] {
		return 0, fmt.Errorf("%w: bank %q has no row %d", ErrGroundTruth, n.bank, i)
	}
	return i, nil
}

// judged is the lists of one query as row numbers.
type judged struct {
	easy, hard, junk, ok []int64
}

// twice is a row of two lists, −1 if there is none.
func (j judged) twice() int64 {
	lists := [][]int64{j.easy, j.hard, j.junk, j.ok}
	seen := map[int64]int{}
	for i, list := range lists {
		for _, row := range list {
			if at, has := seen[row]; has && at != i {
				return row
			}
			seen[row] = i
		}
	}
	return -1
}

// rows are those of all lists, each once, ascending.
func (j judged) rows() []int64 {
	all := slices.Concat(j.easy, j.hard, j.junk, j.ok)
	slices.Sort(all)
	return slices.Compact(all)
}

// resolve finds the rows of all lists. It also tells whether they are revisited.
func (g *GroundTruth) resolve(ctx context.Context, queries, gallery *Set) (of map[int64]judged, revisited bool, err error) {
	rows, err := newByName(ctx, gallery)
	if err != nil {
		return nil, false, err
	}
	asked, err := newByName(ctx, queries)
	if err != nil {
		return nil, false, err
	}
	images := make([]int64, len(g.Images))
	for i, name := range g.Images {
		if images[i], err = rows.row(name); err != nil {
			return nil, false, err
		}
	}
	list := func(names []Named) (list []int64, err error) {
		for _, n := range names {
			var row int64
			switch {
			case n.Name != "":
				row, err = rows.row(n.Name)
			case g.Images == nil:
				row, err = rows.number(n.Number)
			case n.Number < 0 || n.Number >= int64(len(images)):
				err = fmt.Errorf("%w: image %d of an imlist of %d", ErrGroundTruth, n.Number, len(images))
			default:
				row = images[n.Number]
			}
			if err != nil {
				return nil, err
			}
			list = append(list, row)
		}
		return list, nil
	}
	of = map[int64]judged{}
	plain := false
	for i, t := range g.Truth {
		name, row := strconv.Itoa(i), int64(i)
		if g.Queries != nil {
			name = g.Queries[i]
			row, err = asked.row(name)
		} else {
			row, err = asked.number(row)
		}
		var j judged
		for _, l := range []struct {
			to   *[]int64
			from []Named
		}{{&j.easy, t.Easy}, {&j.hard, t.Hard}, {&j.junk, t.Junk}, {&j.ok, t.OK}} {
			if err == nil {
				*l.to, err = list(l.from)
			}
		}
		if err != nil {
			return nil, false, fmt.Errorf("query %s: %w", name, err)
		}
		if twice := j.twice(); twice >= 0 {
			return nil, false, fmt.Errorf("query %s: %w: row %d of bank %q is in two of its lists (easy, hard, junk and ok have no row in common)", name, ErrGroundTruth, twice, gallery.use.Bank)
		}
		if _, twice := of[row]; twice {
			return nil, false, fmt.Errorf("%w: query %s occurs twice", ErrGroundTruth, name)
		}
		of[row] = j
		revisited = revisited || len(j.easy)+len(j.hard) > 0
		plain = plain || len(j.ok) > 0
	}
	if revisited && plain {
		return nil, false, fmt.Errorf("%w: some queries have ok, others easy and hard: give one kind", ErrGroundTruth)
	}
	return of, revisited, nil
}

// difficulty says which lists are to be found, and which are not in the ranking.
type difficulty struct {
	name string
	find func(judged) (found, junk [][]int64)
}

var (
	revisitedDifficulties = []difficulty{
		{"easy", func(j judged) (f, k [][]int64) { return [][]int64{j.easy}, [][]int64{j.junk, j.hard} }},
		{"medium", func(j judged) (f, k [][]int64) { return [][]int64{j.easy, j.hard}, [][]int64{j.junk} }},
		{"hard", func(j judged) (f, k [][]int64) { return [][]int64{j.hard}, [][]int64{j.junk, j.easy} }},
	}
	plainDifficulties = []difficulty{
		{"all", func(j judged) (f, k [][]int64) { return [][]int64{j.ok}, [][]int64{j.junk} }},
	}
)

// byTruth scores the rankings against lists. Junk is taken out of a ranking before
// it is walked. A query with nothing to find at a difficulty is skipped there.
func (e *Retrieval) byTruth(ctx context.Context, a *asking, r *RetrievalResult) error {
	truth, revisited, err := e.Truth.resolve(ctx, a.queries, a.gallery)
	if err != nil {
		return err
	}
	difficulties := plainDifficulties
	r.named("ground truth")
	if revisited {
		difficulties = revisitedDifficulties
		r.named("revisited")
	}
	if n := a.queries.use.Rows - int64(len(truth)); n > 0 {
		r.note("not asked, as no list is theirs: %s of %s", rowsText(n), a.queries.use.Bank)
	}
	a.wanted = func(row int64) bool { _, listed := truth[row]; return listed }
	sums := make([]*truthSums, len(difficulties))
	for i := range sums {
		sums[i] = &truthSums{k: e.K, precision: make([]float64, len(e.K))}
	}
	marked := func(row int64) []int64 { return truth[row].rows() }
	if err := a.rankings(ctx, marked, func(rows []int64, places [][]place) error {
		scores := make([][]*truthScore, len(rows))
		parallel(len(rows), a.run.Threads, func(i int) {
			scores[i] = make([]*truthScore, len(difficulties))
			for d, level := range difficulties {
				self := int64(-1)
				if a.leave {
					self = rows[i]
				}
				scores[i][d] = scoreTruth(e.K, level, truth[rows[i]], self, places[i])
			}
		})
		for i, row := range rows {
			for d, s := range scores[i] {
				if !sums[d].add(s) {
					continue
				}
				if e.Each != nil {
					e.Each(s.query(row, difficulties[d].name))
				}
			}
		}
		return nil
	}); err != nil {
		return err
	}
	for d, s := range sums {
		if s.queries == 0 {
			r.note("no query has anything to find at difficulty %s", difficulties[d].name)
			continue
		}
		r.Results = append(r.Results, s.figures(difficulties[d].name))
	}
	if len(r.Results) == 0 {
		return fmt.Errorf("%w: no query has anything to find", ErrGroundTruth)
	}
	return nil
}

// truthScore is one ranking at one difficulty.
type truthScore struct {
	*rankScore
	last int64 // rank of the last row to find, from 1
}

// scoreTruth walks a ranking with the junk taken out; nil if there is nothing to find.
// places are those of all listed rows, best first.
// self is the query's own row where it is not ranked: nobody is asked to find it.
func scoreTruth(k []int, level difficulty, j judged, self int64, places []place) *truthScore {
	find, junk := level.find(j)
	wanted := map[int64]bool{} // false: junk
	for _, list := range junk {
		for _, row := range list {
			wanted[row] = false
		}
	}
	n := int64(0)
	for _, list := range find {
		for _, row := range list {
			if !wanted[row] && row != self {
				wanted[row] = true
				n++
			}
		}
	}
	if n == 0 {
		return nil
	}
	s := &truthScore{rankScore: newRankScore(k, n)}
	above := int64(0) // junk
	for _, p := range places {
		find, listed := wanted[p.row]
		switch {
		case find:
			s.last = p.rank - above
			s.find(s.last)
		case listed:
			above++
		}
	}
	return s
}

type truthSums struct {
	k                []int
	queries, skipped int64
	ir, area         float64
	precision        []float64
}

func (s *truthSums) add(q *truthScore) bool {
	if q == nil {
		s.skipped++
		return false
	}
	n := float64(q.relevant)
	s.queries++
	s.ir += q.ir / n
	s.area += q.area / n
	for i, k := range s.k {
		// The benchmark's denominator: k, but no further than the last row to find.
		if depth := min(int64(k), q.last); depth > 0 {
			s.precision[i] += float64(q.hits[i]) / float64(depth)
		}
	}
	return true
}

func (s *truthSums) figures(difficulty string) (f Figures) {
	n := float64(s.queries)
	f.add("difficulty", difficulty, "")
	f.add("queries", s.queries, "with something to find")
	f.add("skipped", s.skipped, "with nothing to find")
	f.number("map_trapezoid", s.area/n, "the benchmarks' mAP")
	f.number("map_full", s.ir/n, "mAP as information retrieval has it")
	for i, k := range s.k {
		f.number("mP@"+strconv.Itoa(k), s.precision[i]/n, fmt.Sprintf("hits in the first %d, or as far as the last row to find", k))
	}
	return f
}
