package cli

import (
	"bufio"
	"context"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"membank/cli/serve"
	"membank/store"
	"membank/store/dump"

	ucli "github.com/urfave/cli/v2"
)

// served is what a command works with when a server runs it instead of a
// process: the database that is open already, and a request instead of files.
type served struct {
	db      *store.DB
	call    *serve.Call
	images  string // directory of pictures
	threads int
	memory  int64 // of one request
	banks   *openBanks
	arrays  bodyArrays // that stand for the command's files; nil: the body is one file
}

// runCall runs a request's command: the one that the command line runs.
func runCall(ctx context.Context, sv served) error {
	call := sv.call
	command := spare(call.Words)
	defer command.done()
	if err := sv.attach(ctx, command); err != nil {
		return err
	}
	app := &ucli.App{Name: "membank", Reader: strings.NewReader(""), Writer: call.Stdout, ErrWriter: call.Stderr}
	app.Metadata = map[string]any{"line": sv.line(), "served": &sv}
	err := command.run(ctx, app, !call.Text, call.Flags, call.Args)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// line is the command as it could be typed, for a bank's provenance.
func (sv *served) line() string {
	tokens := []string{"membank"}
	if !sv.call.Text {
		tokens = append(tokens, "--json")
	}
	tokens = append(tokens, sv.call.Words...)
	for _, name := range slices.Sorted(maps.Keys(sv.call.Flags)) {
		for _, value := range sv.call.Flags[name] {
			tokens = append(tokens, "--"+name+"="+value)
		}
	}
	return commandLine(append(tokens, sv.call.Args...))
}

// withoutHelp takes out the flags that all apps share: the library keeps them in
// variables of its own and writes to them at every run, and here many run at once.
func withoutHelp(app *ucli.App) {
	app.HideHelp, app.HideVersion, app.EnableBashCompletion = true, true, false
	var hide func(list []*ucli.Command)
	hide = func(list []*ucli.Command) {
		for _, c := range list {
			c.HideHelp = true
			hide(c.Subcommands)
		}
	}
	hide(app.Commands)
}

// statuses are the HTTP statuses of codes that do not have that of their exit code.
var statuses = map[string]int{
	"bank_exists": http.StatusConflict, "busy": http.StatusConflict, "locked": http.StatusConflict,
	"read_only": http.StatusForbidden, "no_space": http.StatusInsufficientStorage, "memory": http.StatusRequestEntityTooLarge,
	"interrupted": http.StatusServiceUnavailable,
}

// explain words an error for a client as report words it for a terminal.
func explain(err error) serve.Fault {
	exit, code, line := meaning(err)
	f := serve.Fault{Code: code, Message: line, Exit: exit, Status: http.StatusInternalServerError}
	switch exit {
	case exitUsage:
		f.Status = http.StatusBadRequest
	case exitBadInput:
		f.Status = http.StatusUnprocessableEntity
	case exitNotFound:
		f.Status = http.StatusNotFound
	}
	if status, ok := statuses[code]; ok {
		f.Status = status
	}
	if code == "busy" || code == "interrupted" {
		f.RetryAfter = 1
	}
	return f
}

// body is the stream of a request's body.
func (sv *served) body() (*dump.Stream, error) {
	return dump.NewStream(sv.call.BodyName, sv.call.Body, dump.StreamOptions{Limit: sv.call.Limit})
}

// openFeatures opens a file of vectors; of a request that is its body.
func (s *session) openFeatures(path, array string) (*dump.Reader, error) {
	if s.served == nil {
		return openFeatures(path, array)
	}
	if s.served.call.Body == nil {
		return nil, usage("the body is empty (send the vectors: an .npy, .npz or .safetensors)")
	}
	stream, err := s.served.body()
	if err != nil {
		return nil, err
	}
	return stream.Features(array)
}

// createFile begins the file that -o names; of a request that is its answer.
func (s *session) createFile(target string) (*newFile, error) {
	if s.served == nil {
		return createFile(target)
	}
	if s.served.call.File == nil {
		return nil, usage("-o %s: this answer is no file", target)
	}
	out := &tally{w: s.served.call.File}
	return &newFile{Writer: bufio.NewWriterSize(out, 1<<12), out: out, target: target}, nil // the answer is kept in memory: small writes cost little
}

// spoolDir is where a file that is written beside -o goes: to the same disk, or on
// a server to the system's place for such files.
func (s *session) spoolDir(beside string) string {
	if s.served != nil {
		return ""
	}
	return beside
}

// openKeys opens a file of keys; of a request that is its body, an array of strings.
func (s *session) openKeys(path string) (keyFile, error) {
	if s.served == nil {
		return dump.OpenKeys(path)
	}
	if s.served.call.Body == nil {
		return nil, usage("the body is empty (send the keys: an .npy of strings)")
	}
	stream, err := s.served.body()
	if err != nil {
		return nil, err
	}
	x, err := stream.Next()
	if err == nil && x.Len() > s.served.memory/64 {
		err = badInput("%s: %s, more than this server takes at once (send them in parts)", path, plural(x.Len(), "key"))
	}
	if err != nil {
		return nil, err
	}
	keys, err := x.AllStrings()
	if err == nil {
		if _, err = stream.Next(); err == nil {
			err = badInput("%s: holds more than one array (send the keys alone)", path)
		}
	}
	if err != io.EOF {
		return nil, err
	}
	return &heldKeys{keys}, nil
}

// keyFile gives keys in order.
type keyFile interface {
	Next(dst []string) (int, error)
	Close() error
}

type heldKeys struct{ keys []string }

func (h *heldKeys) Next(dst []string) (int, error) {
	n := copy(dst, h.keys)
	h.keys = h.keys[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (h *heldKeys) Close() error { return nil }

// lists are flags that take numbers or the name of a file with them; a server reads
// numbers, and else an array of that name in the body.
var lists = []string{"ids", "positives", "exclude", "gather"}

// params are a command's flags as parameters of a route. Those that name files are
// none: a server opens no file that a client names.
func params(c *ucli.Command, without ...string) []serve.Param {
	var list []serve.Param
	for _, f := range c.Flags {
		p, usage := serve.Param{Name: f.Names()[0]}, usageOf(f)
		switch f.(type) {
		case *ucli.BoolFlag:
			p.Switch = true
		case *ucli.StringSliceFlag:
			p.Many = true
		}
		if slices.Contains(without, p.Name) || namesFile(usage) && !slices.Contains(lists, p.Name) {
			continue
		}
		p.About = strings.ReplaceAll(usage, "`", "")
		list = append(list, p)
	}
	return list
}

// namesFile reports whether the value of a flag is a path, by the word that its
// help has for it.
func namesFile(usage string) bool {
	_, rest, _ := strings.Cut(usage, "`")
	word, _, _ := strings.Cut(rest, "`")
	return strings.Contains(word, "FILE") || strings.Contains(word, "DIR") || strings.Contains(word, "F.")
}

// exitOf is the exit code a server's answer stands for.
func exitOf(h http.Header) int {
	if n, err := strconv.Atoi(h.Get("Membank-Exit")); err == nil && n > 0 && n < 256 {
		return n
	}
	return exitFailure
}
