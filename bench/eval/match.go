package eval

import (
	"context"
	"errors"
	"fmt"

	"membank/store"
)

// matchRows finds the rows of other banks that have the keys of rows of the first.
// It returns, bank by bank, rows in the same order: those whose key every bank has.
// lost is how many have a key that some bank lacks.
func matchRows(ctx context.Context, banks []*store.Snapshot, rows []int64) (matched [][]int64, lost int, err error) {
	first, err := banks[0].Rows(ctx, rows, store.Want{})
	if err != nil {
		return nil, 0, err
	}
	keys := make([]string, len(first))
	for i, r := range first {
		keys[i] = r.Key
	}
	found := [][]int64{rows}
	for _, bank := range banks[1:] {
		in, err := bank.Lookup(ctx, keys)
		if err != nil {
			return nil, 0, err
		}
		found = append(found, in)
	}
	matched = make([][]int64, len(banks))
	for i := range rows {
		everywhere := true
		for b := range banks {
			everywhere = everywhere && found[b][i] >= 0
		}
		if !everywhere {
			lost++
			continue
		}
		for b := range banks {
			matched[b] = append(matched[b], found[b][i])
		}
	}
	if len(matched[0]) == 0 {
		return nil, lost, fmt.Errorf("%w: none of %d keys of %q is in all banks", ErrUnmatched, len(keys), banks[0].Bank())
	}
	return matched, lost, nil
}

// ErrUnmatched: banks that are compared row by row share no key.
var ErrUnmatched = errors.New("no rows in common")
