package index

import (
	"errors"
	"fmt"
)

// What is wrong with a question, found before any row is read.
var (
	// ErrOptions is returned when an option can mean nothing: a negative K
	// without a MinScore, a MinScore that is NaN, ExcludeRow or Floors of another
	// length than the batch.
	ErrOptions = errors.New("search options")
	// ErrQuery is returned, as a *QueryError, for a query with NaN or Inf in
	// it or of another dimension than the bank.
	ErrQuery = errors.New("query vector")
	// ErrOverflow is returned, as a *QueryError, when the norm of a query and
	// the largest norm of the bank are so big that a score could leave the
	// range of float32. Every score of a search that starts is finite.
	ErrOverflow = errors.New("scores overflow float32")
	// ErrRows is returned by FromMatrix for rows that cannot be searched: NaN or
	// Inf in one, one that is too long, or a matrix that does not hold what it
	// says.
	ErrRows = errors.New("rows of a matrix")
)

// ErrMemory is returned when the answer itself would outgrow Options.Memory:
// ask fewer queries at once, or a smaller K, or a higher MinScore.
var ErrMemory = errors.New("answer larger than the memory budget")

// ErrCodes is returned when the codes of a bank, or their basis, are not what
// this package wrote: damage, or codes of another bank. The rows themselves may
// well be whole: search with Options.NoCodes, and write the codes again.
var ErrCodes = errors.New("codes are damaged")

// ErrLists is returned when what a bank says of its lists is not what this package
// wrote. The rows may well be whole: ivf.Drop removes the lists.
var ErrLists = errors.New("lists are damaged")

// QueryError says which query of the batch could not be asked.
type QueryError struct {
	Query int // position in the batch
	Err   error
}

func (e *QueryError) Error() string { return fmt.Sprintf("query %d: %v", e.Query, e.Err) }
func (e *QueryError) Unwrap() error { return e.Err }
