package soak

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// Sizes of what the clients share: each has own slots that only it writes, common
// slots are written by all, and the queue holds the last pushes whole.
const (
	ownRows, commonRows = 16, 16
	slotDim             = 32
	queueDim            = 8
	pushRows            = 6
	queuePushes         = 24
)

// plan says what every step writes. Steps are dealt out: step n*clients+c+1 is the
// n-th of client c, so a fast client is ahead of a slow one and steps arrive out of
// order.
type plan struct {
	seed    uint64
	clients int64
}

func (p plan) step(client, n int64) int64 { return n*p.clients + client + 1 }

// origin is whose step it is; n is -1 for a row that nobody wrote.
func (p plan) origin(step int64) (client, n int64) {
	if step < 1 {
		return -1, -1
	}
	return (step - 1) % p.clients, (step - 1) / p.clients
}

func (p plan) rows() int64 { return p.clients*ownRows + commonRows }

// durabilities are asked for in turn.
var durabilities = []string{"log", "memory", "log", "sync", "memory", "memory", "log", "log"}

func durabilityOf(step int64) string { return durabilities[step%int64(len(durabilities))] }

func (p plan) source(step int64, what uint64) *rand.Rand {
	return rand.New(rand.NewPCG(p.seed, uint64(step)<<8|what))
}

// common are the common slots that a step writes, half of them.
func (p plan) common(step int64) []int64 {
	ids := make([]int64, commonRows)
	for i := range ids {
		ids[i] = p.clients*ownRows + int64(i)
	}
	p.source(step, 1).Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids[:commonRows/2]
}

// ids are all slots that a step writes: the client's own and some common ones, in
// no order.
func (p plan) ids(step int64) []int64 {
	client, _ := p.origin(step)
	ids := slices.Clone(p.common(step))
	for i := range int64(ownRows) {
		ids = append(ids, client*ownRows+i)
	}
	p.source(step, 2).Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids
}

// A row says in its first two elements which step wrote it, in numbers that a float
// holds exactly; the others are a hash of step and id.
const stepDigit = 1 << 20

func (p plan) fill(row []float32, step, id int64) {
	row[0], row[1] = float32(step%stepDigit), float32(step/stepDigit)
	state := p.seed ^ uint64(step)*0x9e3779b97f4a7c15 ^ uint64(id)*0xbf58476d1ce4e5b9
	for i := 2; i < len(row); i++ {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		row[i] = float32(int32(state>>32) >> 12)
	}
}

// vectors are rows for ids, [len(ids)][dim].
func (p plan) vectors(step int64, ids []int64, dim int) []float32 {
	data := make([]float32, len(ids)*dim)
	for i, id := range ids {
		p.fill(data[i*dim:(i+1)*dim], step, id)
	}
	return data
}

// pushed are the ids that rows of a push are filled with: none of a slot's.
func pushed() []int64 {
	ids := make([]int64, pushRows)
	for i := range ids {
		ids[i] = -1 - int64(i)
	}
	return ids
}

// read is the step that wrote a row, 0 for one of zeros, and an error for a row that
// no step writes: torn, or damaged.
func (p plan) read(row []float32, id int64) (step int64, err error) {
	if !slices.ContainsFunc(row, func(x float32) bool { return x != 0 }) {
		return 0, nil
	}
	low, high := row[0], row[1]
	if !(low >= 0 && low < stepDigit && high >= 0 && high < 1<<23) || low != float32(int64(low)) || high != float32(int64(high)) {
		return 0, fmt.Errorf("the row is of no step: %v", row)
	}
	step = int64(high)*stepDigit + int64(low)
	want := make([]float32, len(row))
	p.fill(want, step, id)
	for i := range row {
		if row[i] != want[i] {
			return 0, fmt.Errorf("the row is torn: element %d of step %d is %v, not %v", i, step, row[i], want[i])
		}
	}
	return step, nil
}
