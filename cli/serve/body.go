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

func newRolling(w http.ResponseWriter, r *http.Request, most int64, pause time.Duration) *rolling {
	return &rolling{body: http.MaxBytesReader(w, r.Body, most), control: http.NewResponseController(w), pause: pause, grace: rateGrace}
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
	switch b.failed = err; {
	case err == io.EOF:
		b.control.SetReadDeadline(time.Time{}) // it would cancel the work on what has come
	case err != nil:
		b.control.SetReadDeadline(start) // nobody waits for the rest
	}
	return n, err
}

// What is read of a body behind the error that it was answered with: a client that
// is still sending would meet a closed connection and never see the answer.
const (
	lingerBytes = 16 << 20
	lingerTime  = 2 * time.Second
)

// linger answers with an error and then reads on for a while.
func linger(w http.ResponseWriter, r *http.Request, answer func()) {
	control := http.NewResponseController(w)
	if r.ContentLength == 0 || r.ProtoMajor != 1 || control.EnableFullDuplex() != nil {
		answer()
		return
	}
	w.Header().Set("Connection", "close")
	answer()
	control.Flush()
	control.SetReadDeadline(time.Now().Add(lingerTime))
	io.Copy(io.Discard, io.LimitReader(r.Body, lingerBytes))
}

// all reads a body whole. A length of -1 is not known; another was weighed before.
func (b *rolling) all(length int64) ([]byte, error) {
	if length < 0 {
		return io.ReadAll(b)
	}
	data := make([]byte, length)
	if _, err := io.ReadFull(b, data); err != nil {
		return nil, err
	}
	if _, err := b.Read(make([]byte, 1)); err != io.EOF { // which ends the deadline
		return nil, io.ErrUnexpectedEOF
	}
	return data, nil
}

// ended reports whether the whole body was read.
func (b *rolling) ended() bool { return b.failed == io.EOF }
