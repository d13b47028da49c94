package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
)

// Fault is an error as a client sees it.
type Fault struct {
	Status     int    // of HTTP
	Code       string // for programs: "no_such_bank", "bad_input", …
	Message    string // one line: what, why, what to do
	Exit       int    // exit code of the command line that would have met it; 0: not its kind
	RetryAfter int    // seconds; 0: do not say
}

func (f *Fault) Error() string { return f.Message }

func fault(status int, code, format string, a ...any) *Fault {
	return &Fault{Status: status, Code: code, Message: fmt.Sprintf(format, a...)}
}

// errorDocument is the one shape of an error.
type errorDocument struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// exitHeader carries the exit code to a membank command line at the other end.
const exitHeader = "Membank-Exit"

// refuse writes an error; nothing may have been written before.
func refuse(w http.ResponseWriter, f *Fault) {
	var d errorDocument
	d.Error.Code, d.Error.Message = f.Code, f.Message
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	if f.Exit != 0 {
		h.Set(exitHeader, strconv.Itoa(f.Exit))
	}
	if f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	w.WriteHeader(f.Status)
	json.NewEncoder(w).Encode(d)
}

// faultOf is an error of a request's work as a client sees it: first what HTTP
// itself did, then what package cli makes of it.
func (s *Server) faultOf(r *http.Request, err error) *Fault {
	var own *Fault
	var large *http.MaxBytesError
	var timeout net.Error
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &large):
		return fault(http.StatusRequestEntityTooLarge, "too_large", "the body has more than %d bytes (send it in parts, or start the server with a larger --max-body)", large.Limit)
	case errors.Is(err, errSlow), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fault(http.StatusRequestTimeout, "too_slow", "the body came too slowly, nothing was changed (send it faster than %d KiB/s)", minimumRate>>10)
	case errors.Is(context.Cause(r.Context()), errStopping):
		return &Fault{Status: http.StatusServiceUnavailable, Code: "stopping", Message: "the server is stopping, nothing was changed (send it again when it is back)", RetryAfter: 5}
	}
	f := s.o.Explain(err)
	return &f
}
