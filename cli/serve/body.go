package serve

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// How slowly a body may come. A single timeout for all of it would forbid large
// ones, so the deadline rolls: every read has one, and so has the average.
const (
	readPause   = 10 * time.Second // without a byte
	rateGrace   = 5 * time.Second  // of waiting before the average counts
	minimumRate = 16 << 10         // bytes a second of waiting
)

var errSlow = errors.New("the body comes too slowly")

// rolling is a request's body under these limits. The time the server takes to
// work on what came does not count.
type rolling struct {
	body    io.Reader
	control *http.ResponseController
	read    int64
	waited  time.Duration
	failed  error // of reading; io.EOF at the end
	pause   time.Duration
	grace   time.Duration
}

func newRolling(w http.ResponseWriter, r *http.Request, most int64) *rolling {
	return &rolling{body: http.MaxBytesReader(w, r.Body, most), control: http.NewResponseController(w), pause: readPause, grace: rateGrace}
}

func (b *rolling) Read(p []byte) (int, error) {
	if b.failed != nil {
		return 0, b.failed
	}
	start := time.Now()
	b.control.SetReadDeadline(start.Add(b.pause))
	n, err := b.body.Read(p)
	b.waited += time.Since(start)
	b.read += int64(n)
	if err == nil && b.waited > b.grace && float64(b.read) < b.waited.Seconds()*minimumRate {
		err = errSlow
	}
	if err != nil {
		b.failed = err
		b.control.SetReadDeadline(time.Time{}) // it would cancel the work on what has come
	}
	return n, err
}

// ended reports whether the whole body was read.
func (b *rolling) ended() bool { return b.failed == io.EOF }
