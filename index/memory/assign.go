package memory

import (
	"context"
	"fmt"

	"membank/simd"
)

// Older says which rows of a queue take part in an assignment beside the batch.
type Older string

const (
	// OlderFull takes all of them, once the queue is full: SwAV leaves its queue
	// unused until the oldest row is not zero. The zero value.
	OlderFull Older = "full"
	// OlderWritten takes those that were pushed, however few.
	OlderWritten Older = "written"
	// OlderNone takes none: SwAV's first epochs.
	OlderNone Older = "none"
)

// Olders are the names of all of them.
var Olders = []Older{OlderFull, OlderWritten, OlderNone}

// Assigned is what Bank.Assign found.
type Assigned struct {
	Assignment
	Scores simd.Matrix // [rows][prototypes] of the batch, for SwappedLoss of the other crop
	Older  int         // rows of the queue that took part
}

// Assign is Sinkhorn of rows over prototypes, together with the rows of view 0 of a
// queue, whose scores are computed anew with the prototypes of now. prototypes
// without rows are those that the slots keep. It takes 12 bytes for each prototype
// of each row, older ones included, and rows·prototypes·dim multiplications. Errors:
// ErrRows, ErrOptions.
func (b *Bank) Assign(ctx context.Context, rows, prototypes simd.Matrix, older Older, o SinkhornOptions) (a Assigned, err error) {
	if err := b.checkQueries(0, rows); err != nil {
		return a, err
	}
	if prototypes.Rows == 0 {
		if prototypes, err = b.Prototypes(); err != nil {
			return a, err
		}
		if prototypes.Rows == 0 {
			return a, fmt.Errorf("%w: the bank keeps no prototypes, and none were given", ErrOptions)
		}
	}
	if err := b.checkQueries(0, prototypes); err != nil {
		return a, fmt.Errorf("prototypes: %w", err)
	}
	queue, err := b.older(ctx, older)
	if err != nil {
		return a, err
	}
	if a.Scores, err = PrototypeScores(rows, prototypes); err != nil {
		return a, err
	}
	var scores simd.Matrix
	if a.Older = queue.Rows; queue.Rows > 0 {
		if scores, err = PrototypeScores(queue, prototypes); err != nil {
			return a, err
		}
	}
	if err := ctx.Err(); err != nil {
		return a, err
	}
	a.Assignment, err = Sinkhorn(scores, a.Scores, o)
	return a, err
}

// older are the rows of a queue that take part.
func (b *Bank) older(ctx context.Context, older Older) (simd.Matrix, error) {
	switch older {
	case "", OlderFull, OlderWritten:
	case OlderNone:
		return simd.Matrix{}, nil
	default:
		return simd.Matrix{}, fmt.Errorf("%w: rows of the queue %q (one of %v)", ErrOptions, older, Olders)
	}
	if b.c.Kind != KindQueue {
		return simd.Matrix{}, nil
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.usable(); err != nil {
		return simd.Matrix{}, err
	}
	if older != OlderWritten && b.state.Fill < b.c.Rows {
		return simd.Matrix{}, nil
	}
	return b.viewRows(ctx, 0, ascending(b.state.Fill))
}

// viewRows copies rows of one view, the lock being held.
func (b *Bank) viewRows(ctx context.Context, view int, ids []int64) (simd.Matrix, error) {
	if err := ctx.Err(); err != nil {
		return simd.Matrix{}, err
	}
	m := simd.NewMatrix(len(ids), b.c.Views[view].Dim)
	for i, id := range ids {
		copy(m.Row(i), b.views[view].row(b.queue.row(id)))
	}
	return m, nil
}

func ascending(n int64) []int64 {
	ids := make([]int64, n)
	for i := range ids {
		ids[i] = int64(i)
	}
	return ids
}
