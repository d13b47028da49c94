package index

// Recall is the share of the exact answers' rows that others have, over all queries:
// recall@k, where the exact answers have k rows each. Of no rows at all it is 1.
//
// A row that is missing but for a tie counts as found: one of the score of the last
// exact row. Its place was anyone's of that score.
func Recall(got, exact [][]Hit) float64 {
	found, all := 0, 0
	for q, want := range exact {
		all += len(want)
		if len(want) == 0 {
			continue
		}
		rows := make(map[int64]bool, len(want))
		for _, h := range want {
			rows[h.Row] = true
		}
		last := want[len(want)-1].Score
		for _, h := range got[q] {
			if rows[h.Row] || h.Score == last {
				found++
			}
		}
	}
	if all == 0 {
		return 1
	}
	return float64(found) / float64(all)
}
