package serve

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

const (
	heldBytes   = 1 << 20 // of an answer in memory; the rest goes to a file
	sharedBytes = 8 << 20 // of an answer, where all of them leave so much room
	writePiece  = 256 << 10
	writePause  = 30 * time.Second // for each piece to leave
	remarkBytes = 4 << 10
)

// held is an answer, kept until the work is done: then its status is known, its
// length too, and a client that reads slowly holds neither a worker nor a
// snapshot.
type held struct {
	pieces [][]byte   // in memory, each of writePiece bytes of room
	shared *allowance // bytes beyond heldBytes; nil: none
	taken  int64      // of it
	file   *os.File   // unlinked, or nil
	size   int64
	failed error
}

func (h *held) Write(p []byte) (int, error) {
	if h.failed != nil {
		return 0, h.failed
	}
	if h.file == nil && h.fits(h.size+int64(len(p))) {
		h.keep(p)
		h.size += int64(len(p))
		return len(p), nil
	}
	if h.file == nil {
		f, err := os.CreateTemp("", ".membank-answer-*")
		if err != nil {
			h.failed = err
			return 0, err
		}
		os.Remove(f.Name()) // on systems that keep open files; else close removes it
		h.file = f
	}
	n, err := h.file.Write(p)
	h.size += int64(n)
	h.failed = err
	return n, err
}

// spare are pieces that answers were kept in: a new one for every answer would cost
// more time than what is written into it.
var spare = sync.Pool{New: func() any { b := make([]byte, 0, writePiece); return &b }}

// keep copies bytes into pieces.
func (h *held) keep(p []byte) {
	for len(p) > 0 {
		if last := len(h.pieces) - 1; last >= 0 && len(h.pieces[last]) < writePiece {
			n := min(len(p), writePiece-len(h.pieces[last]))
			h.pieces[last] = append(h.pieces[last], p[:n]...)
			p = p[n:]
			continue
		}
		h.pieces = append(h.pieces, (*spare.Get().(*[]byte))[:0])
	}
}

// text is what is in memory.
func (h *held) text() []byte { return bytes.Join(h.pieces, nil) }

// fits reports whether so many bytes in all may stay in memory.
func (h *held) fits(n int64) bool {
	if n <= heldBytes+h.taken {
		return true
	}
	if h.shared == nil || n > sharedBytes || !h.shared.take(sharedBytes-h.taken) {
		return false
	}
	h.taken = sharedBytes
	return true
}

func (h *held) close() {
	for _, p := range h.pieces {
		spare.Put(&p)
	}
	h.pieces = nil
	if h.taken > 0 {
		h.shared.give(h.taken)
	}
	if h.file != nil {
		h.file.Close()
		os.Remove(h.file.Name())
	}
}

// send writes the answer, each piece with a deadline of its own, pause from when it
// is its turn.
func (h *held) send(w http.ResponseWriter, pause time.Duration) error {
	w.Header().Set("Content-Length", strconv.FormatInt(h.size, 10))
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	control.SetWriteDeadline(time.Now().Add(pause))
	for _, piece := range h.pieces {
		control.SetWriteDeadline(time.Now().Add(pause))
		if _, err := w.Write(piece); err != nil {
			return err
		}
	}
	if h.file == nil {
		return nil
	}
	if _, err := h.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for piece := make([]byte, writePiece); ; {
		n, err := h.file.Read(piece)
		if n > 0 {
			control.SetWriteDeadline(time.Now().Add(pause))
			if _, err := w.Write(piece[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// remarks are what a command says on stderr, as far as it fits a header.
type remarks struct{ bytes.Buffer }

func (r *remarks) Write(p []byte) (int, error) {
	if room := remarkBytes - r.Len(); room > 0 {
		r.Buffer.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}
