package index

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The oracle sorts everything: score descending, then row ascending.
func sorted(hits []Hit, k int, minScore float32) []Hit {
	var all []Hit
	for _, h := range hits {
		if h.Score >= minScore {
			all = append(all, h)
		}
	}
	slices.SortFunc(all, func(a, b Hit) int {
		if a.Score != b.Score {
			if a.Score > b.Score {
				return -1
			}
			return 1
		}
		return int(a.Row - b.Row)
	})
	return all[:min(k, len(all))]
}

func TestTopKIsTheHeadOfTheSortedList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 300).Draw(t, "n")
		k := rapid.OneOf(rapid.IntRange(1, 20), rapid.IntRange(1, 400), rapid.Just(math.MaxInt)).Draw(t, "k")
		room := rapid.SampledFrom([]int{1, 5, k}).Draw(t, "room")
		distinct := rapid.SampledFrom([]int{1, 2, 5, 1000}).Draw(t, "distinct scores")
		minScore := rapid.SampledFrom([]float32{lowest, 0, 1}).Draw(t, "min")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		hits := make([]Hit, n)
		for i, row := range rng.Perm(n) {
			hits[i] = Hit{int64(row), float32(rng.IntN(distinct)) - float32(distinct/2)}
		}
		switch rapid.IntRange(0, 2).Draw(t, "order") {
		case 1:
			slices.SortFunc(hits, compare)
		case 2:
			slices.SortFunc(hits, func(a, b Hit) int { return compare(b, a) })
		}
		var top TopK
		top.Reset(k, room, minScore, nil)
		for i, h := range hits {
			if floor := top.Floor(); h.Score < floor {
				// What the floor keeps out must not be in the answer.
				if slices.Contains(sorted(hits, k, minScore), h) {
					t.Fatalf("hit %d %v is under the floor %v", i, h, floor)
				}
			}
			top.Offer(h.Row, h.Score)
		}
		if got, want := top.Best(), sorted(hits, k, minScore); !slices.Equal(got, want) {
			t.Fatalf("got  %v\nwant %v", got, want)
		}
	})
}

func TestNaNNeverEnters(t *testing.T) {
	var top TopK
	top.Reset(2, 2, lowest, nil)
	nan := float32(math.NaN())
	for row, score := range []float32{nan, 1, nan, nan, 3, 2, nan} {
		top.Offer(int64(row), score)
	}
	if got, want := top.Best(), []Hit{{4, 3}, {5, 2}}; !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

// Sawtooth, organ pipe, constant and sorted inputs are where quickselects go
// wrong or become quadratic.
func TestSelectBestOnHardOrders(t *testing.T) {
	const n = 5000
	orders := map[string]func(i int) float32{
		"constant": func(i int) float32 { return 1 },
		"rising":   func(i int) float32 { return float32(i) },
		"falling":  func(i int) float32 { return float32(-i) },
		"sawtooth": func(i int) float32 { return float32(i % 17) },
		"pipe":     func(i int) float32 { return float32(min(i, n-i)) },
		"valley":   func(i int) float32 { return float32(max(i, n-i)) },
	}
	for name, score := range orders {
		for _, k := range []int{1, 2, n / 2, n - 1, n} {
			hits := make([]Hit, n)
			for i := range hits {
				hits[i] = Hit{int64(i), score(i)}
			}
			want := sorted(hits, k, lowest)
			selectBest(hits, k)
			if hits[k-1] != want[k-1] {
				t.Errorf("%s, k=%d: hit %d is %v, want %v", name, k, k-1, hits[k-1], want[k-1])
			}
			if got := sorted(hits[:k], k, lowest); !slices.Equal(got, want) {
				t.Errorf("%s, k=%d: another set than the best", name, k)
			}
		}
	}
}

func TestOfferDoesNotAllocate(t *testing.T) {
	var top TopK
	buffer := make([]Hit, 0, 40)
	if n := testing.AllocsPerRun(10, func() {
		top.Reset(20, 20, lowest, buffer)
		for i := range 1000 {
			top.Offer(int64(i), float32(i*7919%1000))
		}
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// BenchmarkOffer tells the price of one hit, at floors as they rise in a scan
// of 400,000 rows in random order.
func BenchmarkOffer(b *testing.B) {
	scores := make([]float32, 400_000)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range scores {
		scores[i] = rng.Float32()
	}
	for _, k := range []int{1, 20, 200, 2000} {
		b.Run("k="+itoa(k), func(b *testing.B) {
			var top TopK
			buffer := make([]Hit, 0, 2*k)
			offers := 0
			for b.Loop() {
				top.Reset(k, k, lowest, buffer)
				floor := top.Floor()
				for row, s := range scores {
					if s >= floor {
						top.Offer(int64(row), s)
						floor = top.Floor()
						offers++
					}
				}
			}
			b.ReportMetric(float64(offers)/float64(b.N), "offers/query")
		})
	}
}
