package kmeans

import "errors"

// Found before any row is read.
var (
	// ErrOptions is returned when an option can mean nothing: no clusters, a
	// negative number, centroids of another shape.
	ErrOptions = errors.New("clustering options")
	// ErrTooFewRows is returned for more clusters than rows.
	ErrTooFewRows = errors.New("fewer rows than clusters")
)

// ErrVariance is returned for rows that are to be whitened and have no variance.
var ErrVariance = errors.New("rows do not vary")

// ErrRow is returned for a row that cannot be clustered: NaN or Inf in it, or a
// distance that float32 cannot hold.
var ErrRow = errors.New("row to cluster")
