package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"membank/bench/perf"
)

// serveForBench starts this program as a server of a new database.
func serveForBench(ctx context.Context, dir string) (*perf.MemoryServer, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, program, "serve", "--json", "--quiet", "--db", dir, "--listen", "127.0.0.1:0", "--bank-memory", "1TiB")
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	var says bytes.Buffer
	c.Stderr = &says
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	var l listening
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if json.Unmarshal(lines.Bytes(), &l) == nil && l.URL != "" {
			stop := func() error {
				c.Process.Signal(syscall.SIGTERM)
				if err := c.Wait(); err != nil && ctx.Err() == nil {
					return fmt.Errorf("the server ended with %w: %s", err, strings.TrimSpace(says.String()))
				}
				return nil
			}
			return &perf.MemoryServer{URL: l.URL, PID: c.Process.Pid, Stop: stop}, nil
		}
	}
	err = c.Wait()
	return nil, fmt.Errorf("the server did not start: %v: %s", err, strings.TrimSpace(says.String()))
}
