package soak

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// server is a membank serve in a process of its own.
type server struct {
	cmd    *exec.Cmd
	url    string
	stderr *tail
	ended  chan error // what Wait returned
}

// begin starts the program; its URL is not known yet.
func (r *run) begin(dir string) (*server, *bufio.Scanner, error) {
	args := append(r.o.Program[1:len(r.o.Program):len(r.o.Program)], "serve", "--json", "--quiet", "--db", dir, "--listen", "127.0.0.1:0")
	s := &server{cmd: exec.Command(r.o.Program[0], args...), stderr: &tail{}, ended: make(chan error, 1)}
	s.cmd.Stderr = s.stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt at the keyboard is for the soak, which stops it
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, nil, err
	}
	return s, bufio.NewScanner(out), nil
}

// start starts a server and waits until it answers.
func (r *run) start(ctx context.Context, dir string) (*server, error) {
	s, lines, err := r.begin(dir)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { s.cmd.Process.Kill() })()
	slow := time.AfterFunc(hang, func() { s.cmd.Process.Kill() })
	defer slow.Stop()
	var says struct {
		URL string `json:"url"`
	}
	for lines.Scan() {
		if json.Unmarshal(lines.Bytes(), &says) == nil && says.URL != "" {
			s.url = says.URL
			go func() {
				for lines.Scan() {
				}
				s.ended <- s.cmd.Wait()
			}()
			return s, nil
		}
	}
	err = s.cmd.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("the server did not start: %w: %s", err, s.stderr)
}

// startAndKill starts a server and kills it before long, whatever it is at.
func (r *run) startAndKill(dir string, after time.Duration) error {
	s, lines, err := r.begin(dir)
	if err != nil {
		return err
	}
	time.AfterFunc(after, func() { s.cmd.Process.Kill() })
	for lines.Scan() {
	}
	s.ended <- s.cmd.Wait()
	return s.killed()
}

// kill ends the server as kill -9 does and says what it had complained of.
func (s *server) kill() error {
	s.cmd.Process.Kill()
	return s.killed()
}

func (s *server) killed() error {
	err := <-s.ended
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == -1 && strings.Contains(exit.String(), "killed") && !s.stderr.alarming() {
		return nil
	}
	return fmt.Errorf("the server was killed, but ended with %v: %s", err, s.stderr)
}

// stop ends the server in order.
func (s *server) stop() error {
	s.cmd.Process.Signal(syscall.SIGTERM)
	slow := time.AfterFunc(hang, func() { s.cmd.Process.Kill() })
	defer slow.Stop()
	if err := <-s.ended; err != nil || s.stderr.alarming() {
		return fmt.Errorf("told to stop the server ended with %v: %s", err, s.stderr)
	}
	return nil
}

// tail keeps what a server writes to stderr, as far as a report has room.
type tail struct {
	mu   sync.Mutex
	text strings.Builder
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if room := 16<<10 - t.text.Len(); room > 0 {
		t.text.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(t.text.String())
}

// alarming: the race detector or the runtime spoke.
func (t *tail) alarming() bool {
	text := t.String()
	return strings.Contains(text, "DATA RACE") || strings.Contains(text, "panic") || strings.Contains(text, "fatal error")
}
