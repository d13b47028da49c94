package ivf

import (
	"membank/index"
	"membank/store"
)

// Assigner returns what finds the lists of rows that are appended to a bank, or
// overwrite some of its rows: nil for a flat bank.
func Assigner(s *store.Snapshot, threads int) (store.Assigner, error) {
	record, err := s.Lists()
	if err != nil || record == nil {
		return nil, err
	}
	lists, err := index.DecodeLists(record)
	if err != nil {
		return nil, err
	}
	a, err := index.NewAssigner(lists, threads)
	if err != nil {
		return nil, err
	}
	return a.Assign, nil
}
