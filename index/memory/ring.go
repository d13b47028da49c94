package memory

// ring maps the positions of a queue, which users see, to the rows of the arrays.
type ring struct {
	capacity int64
	shift    bool
	cursor   int64 // of a ring where the next row goes; of a shift where position 0 lies
}

// row is where a position lies.
func (r ring) row(position int64) int64 {
	if !r.shift {
		return position
	}
	return (r.cursor + position) % r.capacity
}

// position is the inverse of row.
func (r ring) position(row int64) int64 {
	if !r.shift {
		return row
	}
	return (row - r.cursor + r.capacity) % r.capacity
}
