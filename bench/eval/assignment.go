package eval

import (
	"container/heap"
	"context"
	"math"
)

// assign gives each row at most one column and each column at most one row so that
// the sum of their counts is largest, and returns the sum. Absent pairs count 0.
//
// It is the Hungarian method on a sparse table: one row at a time finds the cheapest
// chain of reassignments by Dijkstra's algorithm on reduced costs (Jonker and
// Volgenant 1987). A column of its own that costs nothing lets a row stay without.
// Counts are integers, so the optimum is exact. At worst O(rows · pairs · log), and
// little more than O(pairs · log) where most rows have a column of their own in mind.
func assign(ctx context.Context, rows [][]pairRest, columns int) (sum int64, err error) {
	a := &assignment{
		rows: rows, columns: columns,
		rowOf:    make([]int32, columns+len(rows)),
		columnOf: make([]int32, len(rows)),
		u:        make([]int64, len(rows)),
		v:        make([]int64, columns+len(rows)),
		distance: make([]int64, columns+len(rows)),
		from:     make([]int32, columns+len(rows)),
		visited:  make([]bool, columns+len(rows)),
	}
	for j := range a.rowOf {
		a.rowOf[j] = -1
		a.distance[j] = math.MaxInt64
	}
	for i, row := range rows {
		for _, p := range row {
			a.u[i] = min(a.u[i], -p.count)
		}
	}
	for i := range rows {
		if err := ctx.Err(); err != nil {
			return 0, context.Cause(ctx)
		}
		a.augment(int32(i))
	}
	for i, row := range rows {
		for _, p := range row {
			if p.b == a.columnOf[i] {
				sum += p.count
			}
		}
	}
	return sum, nil
}

// assignment is the matching so far, with potentials under which no reduced cost
// −count − u − v is negative and that of a matched pair is 0.
type assignment struct {
	rows     [][]pairRest
	columns  int     // real ones; column columns+i is row i's own
	rowOf    []int32 // of a column, -1: none
	columnOf []int32
	u, v     []int64

	// Scratch of augment, clean between calls.
	distance []int64
	from     []int32 // the row that a column was reached from
	visited  []bool
	touched  []int32
	queue    columnQueue
}

// augment matches row start, and rematches others, along the shortest chain.
func (a *assignment) augment(start int32) {
	row, so := start, int64(0)
	end := int32(-1)
	for end < 0 {
		own := int32(a.columns) + row
		a.reach(row, own, so-a.u[row]-a.v[own])
		for _, p := range a.rows[row] {
			a.reach(row, p.b, so-p.count-a.u[row]-a.v[p.b])
		}
		for {
			next := heap.Pop(&a.queue).(columnDistance)
			if a.visited[next.column] {
				continue
			}
			a.visited[next.column] = true
			so = next.distance
			if row = a.rowOf[next.column]; row < 0 {
				end = next.column
			}
			break
		}
	}
	a.u[start] += so
	for _, j := range a.touched {
		if a.visited[j] && j != end {
			a.v[j] -= so - a.distance[j]
			a.u[a.rowOf[j]] += so - a.distance[j]
		}
	}
	for j := end; ; {
		i := a.from[j]
		before := a.columnOf[i]
		a.rowOf[j], a.columnOf[i] = i, j
		if i == start {
			break
		}
		j = before
	}
	for _, j := range a.touched {
		a.distance[j], a.visited[j] = math.MaxInt64, false
	}
	a.touched, a.queue = a.touched[:0], a.queue[:0]
}

func (a *assignment) reach(row, column int32, distance int64) {
	if a.visited[column] || distance >= a.distance[column] {
		return
	}
	if a.distance[column] == math.MaxInt64 {
		a.touched = append(a.touched, column)
	}
	a.distance[column], a.from[column] = distance, row
	heap.Push(&a.queue, columnDistance{distance, column})
}

type columnDistance struct {
	distance int64
	column   int32
}

// columnQueue is a heap of columns, nearest first.
type columnQueue []columnDistance

func (q columnQueue) Len() int           { return len(q) }
func (q columnQueue) Less(i, j int) bool { return q[i].distance < q[j].distance }
func (q columnQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *columnQueue) Push(x any)        { *q = append(*q, x.(columnDistance)) }
func (q *columnQueue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
