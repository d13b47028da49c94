package eval

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"membank/simd"
	"membank/store"
)

// naiveDuplicates are the groups, and the rows that are kept, by all pairs in float64:
// −1 for rows in no group. It reports false where a pair is too near to the threshold
// for float32.
func naiveDuplicates(m simd.Matrix, dead map[int]bool, least float64) (group []int64, kept []bool, cosines [][]float64, pairs int64, clear bool) {
	n := m.Rows
	group, kept, clear = make([]int64, n), make([]bool, n), true
	paired := make([]bool, n)
	for i := range n {
		group[i], kept[i] = int64(i), !dead[i]
		cosines = append(cosines, make([]float64, i))
		for j := range i {
			if dead[i] || dead[j] {
				continue
			}
			s := cosine(m.Row(i), m.Row(j))
			if slices.Equal(m.Row(i), m.Row(j)) {
				s = math.Round(s) // 1, or 0 of zeros
			} else if math.Abs(s-least) < 2e-6 {
				clear = false
			}
			if cosines[i][j] = s; s < least {
				continue
			}
			pairs++
			paired[i], paired[j] = true, true
			if kept[j] {
				kept[i] = false
			}
			if a, b := group[i], group[j]; a != b { // label propagation
				for x := range group {
					if group[x] == max(a, b) {
						group[x] = min(a, b)
					}
				}
			}
		}
	}
	for i := range n {
		if !paired[i] {
			group[i] = -1
		}
	}
	return group, kept, cosines, pairs, clear
}

// Groups, rows to drop and what they repeat are those of all pairs, whether pairs are
// few or too many, of rows in clumps, equal rows, rows in chains and collapsed banks.
func TestDuplicatesOfCrowds(t *testing.T) {
	shapes := map[string]func(rng *rand.Rand, m simd.Matrix){
		"apart": func(rng *rand.Rand, m simd.Matrix) {},
		"collapsed": func(rng *rand.Rand, m simd.Matrix) {
			for i := range m.Rows {
				m.Row(i)[0] += 40
			}
		},
		"clumps": func(rng *rand.Rand, m simd.Matrix) {
			for i := range m.Rows {
				m.Row(i)[i%5] += float32(3 + 2*rng.Float64())
			}
		},
		"equal": func(rng *rand.Rand, m simd.Matrix) {
			for i := 1; i < m.Rows; i++ {
				copy(m.Row(i), m.Row(rng.IntN(i)))
			}
		},
		"one row": func(rng *rand.Rand, m simd.Matrix) {
			for i := range m.Rows {
				copy(m.Row(i), m.Row(0))
			}
		},
		"chain": func(rng *rand.Rand, m simd.Matrix) { // along a circle, in a random order
			for i, at := range rng.Perm(m.Rows) {
				angle := 1.5 * math.Pi * float64(at) / float64(m.Rows)
				clear(m.Row(i))
				m.Row(i)[0], m.Row(i)[1] = float32(math.Cos(angle)), float32(math.Sin(angle))
			}
		},
		"zeros and equals among clumps": func(rng *rand.Rand, m simd.Matrix) {
			for i := range m.Rows {
				m.Row(i)[i%3] += 8
				switch rng.IntN(4) {
				case 0:
					clear(m.Row(i))
				case 1:
					copy(m.Row(i), m.Row(rng.IntN(i+1)))
				}
			}
		},
	}
	defer func(batch, rows, group int) { leaderBatch, leaderRows, crowdedGroup = batch, rows, group }(leaderBatch, leaderRows, crowdedGroup)
	db := open(t)
	runs := 0
	for name, shape := range shapes {
		for seed := range uint64(2) {
			rng := rand.New(rand.NewPCG(seed, uint64(len(name))))
			m := simd.NewMatrix(60+rng.IntN(160), 5+rng.IntN(6))
			for i := range m.Data {
				m.Data[i] = float32(rng.NormFloat64())
			}
			shape(rng, m)
			dead := map[int]bool{}
			var deleted []int64
			for range 3 {
				if row := rng.IntN(m.Rows); !dead[row] {
					dead[row] = true
					deleted = append(deleted, int64(row))
				}
			}
			slices.Sort(deleted)
			bank := fmt.Sprint(strings.ReplaceAll(name, " ", "-"), seed)
			write(t, db, bank, m, nil)
			if _, err := db.DeleteRows(t.Context(), bank, deleted); err != nil {
				t.Fatal(err)
			}
			s := snapshot(t, db, bank)
			for _, least := range []float32{-0.2, 0.5, 0.9, 0.99, 0.9997, 1} {
				group, kept, cosines, pairs, clear := naiveDuplicates(m, dead, float64(least))
				if !clear {
					continue
				}
				runs++
				for turn, most := range []int64{0, 1, 1, 1} {
					leaderBatch, leaderRows = []int{512, 512, 16, 7}[turn], []int{4096, 4096, 32, 7}[turn]
					crowdedGroup = []int{1024, 1024, 2, 9}[turn]
					at := fmt.Sprintf("%s at %v, most %d", bank, least, most)
					r, err := Duplicates{MinScore: least, most: most}.Within(t.Context(), s, RunOptions{Threads: 2})
					if err != nil {
						t.Fatalf("%s: %v", at, err)
					}
					if !r.AtLeast && r.Pairs != pairs || r.AtLeast && (most == 0 || r.Pairs > pairs) {
						t.Errorf("%s: %d pairs (at least: %v), want %d", at, r.Pairs, r.AtLeast, pairs)
					}
					checkDuplicates(t, at, r, m, group, kept, cosines, float64(least))
				}
			}
		}
	}
	if runs < 50 {
		t.Errorf("only %d runs", runs)
	}
}

func checkDuplicates(t *testing.T, at string, r *DuplicateReport, m simd.Matrix, group []int64, kept []bool, cosines [][]float64, least float64) {
	t.Helper()
	found := map[int64]Duplicate{}
	for _, f := range r.Found {
		found[f.Row] = f
	}
	for i := range m.Rows {
		f, is := found[int64(i)]
		if is != (group[i] >= 0) || is && f.Group != group[i] {
			t.Fatalf("%s: row %d in %+v (%v), want group %d", at, i, f, is, group[i])
		}
		if !is {
			continue
		}
		if (f.Of < 0) != kept[i] {
			t.Fatalf("%s: %+v, is to be kept: %v", at, f, kept[i])
		}
		if f.Of < 0 {
			continue
		}
		if f.Of >= f.Row || !kept[f.Of] || math.Abs(cosines[i][f.Of]-float64(f.Score)) > 1e-6 || f.Score < float32(least) {
			t.Fatalf("%s: %+v, the cosine is %v", at, f, cosines[i][f.Of])
		}
		equal := slices.ContainsFunc(slices.Collect(upTo(i)), func(j int) bool { return kept[j] && slices.Equal(m.Row(i), m.Row(j)) })
		for j := range i { // the nearest, but that equal rows share what the first has
			first := !slices.ContainsFunc(slices.Collect(upTo(i)), func(j int) bool { return slices.Equal(m.Row(i), m.Row(j)) })
			if (first || equal) && kept[j] && cosines[i][j] > float64(f.Score)+2e-6 {
				t.Fatalf("%s: %+v, but %d is nearer: %v", at, f, j, cosines[i][j])
			}
		}
	}
}

func upTo(n int) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for i := range n {
			if !yield(i) {
				return
			}
		}
	}
}

// Where the rows that are kept do not fit into memory, all pairs are compared after
// all; and so many equal rows that pairs of them would take hours are done at once.
func TestDuplicatesFitMemory(t *testing.T) {
	db := open(t)
	m := dense(3000, 24, 5)
	copy(m.Row(2999), m.Row(0))
	r, err := Duplicates{MinScore: 0.8, most: 1}.Within(t.Context(), write(t, db, "a", m, nil), RunOptions{Memory: 1 << 17})
	if err != nil || r.AtLeast || r.Groups == 0 {
		t.Errorf("%+v (%v)", r, err)
	}
	same := repeatRow(dense(1, 4, 1), 60_000)
	labels := make([]int64, same.Rows)
	labels[7], labels[9] = 1, store.NoLabel
	r, err = Duplicates{MinScore: 1}.Within(t.Context(), write(t, db, "same", same, labels), RunOptions{})
	if err != nil || r.AtLeast || r.Pairs != 60_000*59_999/2 || r.Groups != 1 || r.Drop != 59_999 || r.Mixed != 1 || len(r.Found) != 60_000 {
		t.Errorf("%+v (%v)", r, err)
	}
}
