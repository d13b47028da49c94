package serve

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

const (
	heldBytes   = 1 << 20 // of an answer in memory; the rest goes to a file
	writePiece  = 256 << 10
	writePause  = 30 * time.Second // for each piece to leave
	remarkBytes = 4 << 10
)

// held is an answer, kept until the work is done: then its status is known, its
// length too, and a client that reads slowly holds neither a worker nor a
// snapshot.
type held struct {
	memory bytes.Buffer
	file   *os.File // unlinked, or nil
	size   int64
	failed error
}

func (h *held) Write(p []byte) (int, error) {
	if h.failed != nil {
		return 0, h.failed
	}
	if h.file == nil && h.memory.Len()+len(p) <= heldBytes {
		h.size += int64(len(p))
		return h.memory.Write(p)
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

func (h *held) close() {
	if h.file != nil {
		h.file.Close()
		os.Remove(h.file.Name())
	}
}

// send writes the answer, each piece with a deadline of its own.
func (h *held) send(w http.ResponseWriter) error {
	w.Header().Set("Content-Length", strconv.FormatInt(h.size, 10))
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	control.SetWriteDeadline(time.Now().Add(writePause))
	for from := h.memory.Bytes(); len(from) > 0; {
		n := min(len(from), writePiece)
		control.SetWriteDeadline(time.Now().Add(writePause))
		if _, err := w.Write(from[:n]); err != nil {
			return err
		}
		from = from[n:]
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
			control.SetWriteDeadline(time.Now().Add(writePause))
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
