package cli

import (
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// isTerminal reports whether a person watches the stream.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// bar shows how far long work is, on a terminal only. Its zero value is silent.
type bar struct{ p *progressbar.ProgressBar }

// newBar starts a bar of total units (-1: unknown); it reports the rate and the
// time left, and erases itself when done.
func (s *session) newBar(what, unit string, total int64) bar {
	if !s.bars {
		return bar{}
	}
	return bar{progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(s.stderr),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionSetItsString(unit),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(80*time.Millisecond),
		progressbar.OptionSetWidth(24),
		progressbar.OptionClearOnFinish(),
	)}
}

func (b bar) set(done int64) {
	if b.p != nil {
		b.p.Set64(done)
	}
}

func (b bar) close() {
	if b.p != nil {
		b.p.Clear()
		b.p.Exit()
	}
}

// barsWanted: a person watches stderr and nothing asks for silence.
func barsWanted(stderr io.Writer, quiet bool) bool {
	return !quiet && isTerminal(stderr) && os.Getenv("CI") == "" && os.Getenv("NO_COLOR") == ""
}
