package soak

import "fmt"

// chain is the history of one common slot. Every update returns the row that it
// found; if updates happen one at a time, each row was found by exactly one update,
// but for the last, which is still there. So what was found and what is there are
// together what was written: a lost update is one that nobody found, and one that
// was done twice, or two that ran into each other, found the same row.
type chain struct {
	found []bits // by client: its updates by number
	start bool   // the first row was found
}

func newChain(clients int64) *chain { return &chain{found: make([]bits, clients)} }

// find notes that an update found what client wrote at its n-th step; -1 is the row
// that was there before all of them.
func (c *chain) find(client, n int64) error {
	if client < 0 {
		if c.start {
			return fmt.Errorf("two updates found the row as it was at first")
		}
		c.start = true
		return nil
	}
	if !c.found[client].set(n) {
		return fmt.Errorf("two updates found the row of update %d of client %d", n, client)
	}
	return nil
}

// bits is a set of numbers from 0 on.
type bits []uint64

// set adds n and reports whether it is new.
func (b *bits) set(n int64) bool {
	for int64(len(*b)) <= n/64 {
		*b = append(*b, 0)
	}
	word, bit := &(*b)[n/64], uint64(1)<<(n%64)
	was := *word&bit != 0
	*word |= bit
	return !was
}

func (b bits) has(n int64) bool {
	return n/64 < int64(len(b)) && b[n/64]&(1<<(n%64)) != 0
}
