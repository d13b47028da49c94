package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"membank/cli/serve"
	"membank/simd"
	"membank/store/dump"

	ucli "github.com/urfave/cli/v2"
)

// farServer is a server that --db names. A command becomes its route: flags are sent
// as parameters under their own names, the files they name as the body, and what
// the server's command printed is printed here.
type farServer struct {
	base   string // http://host:port
	token  string
	client *http.Client
}

func newRemote(address, tokenFile string) (*farServer, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, usage("--db %s: neither a directory nor a server (write http://127.0.0.1:7700)", address)
	}
	r := &farServer{base: u.Scheme + "://" + u.Host, client: &http.Client{
		Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, ExpectContinueTimeout: time.Second, WriteBufferSize: 1 << 18, ReadBufferSize: 1 << 18},
		// A token must not follow a redirect to another place.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if tokenFile != "" {
		token, err := readToken(tokenFile)
		if err != nil {
			return nil, err
		}
		r.token = string(token)
	}
	return r, nil
}

// forward runs a command on the server.
func (r *farServer) forward(ctx context.Context, s *session, c *ucli.Context, route *serve.Route, args []string) error {
	query, path, err := r.parameters(s, c, route, args)
	if err != nil {
		return err
	}
	if s.name == "rm" && !c.Bool("yes") && !c.Bool("dry-run") && isTerminal(s.stdin) && isTerminal(s.stderr) {
		if err := r.confirm(ctx, s, c, route, query, path); err != nil {
			return err
		}
	}
	output := c.String("output")
	if output != "" && route.Files != nil {
		query.Set("output", output) // also where it is the default
	}
	accept := "application/json, application/jsonl"
	if !s.json {
		accept = "text/plain"
	}
	send, err := r.bodyOf(ctx, s, c, args)
	if err != nil {
		return err
	}
	answer, err := r.ask(ctx, route.Method, path, query, accept, send)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if text, err := url.PathUnescape(answer.Header.Get("Membank-Remark")); err == nil && text != "" && !s.quiet {
		io.WriteString(s.stderr, text)
	}
	if output == "" || route.Files == nil {
		_, err := io.Copy(s.stdout, answer.Body)
		return wrapAnswer(err)
	}
	file, err := createFile(output)
	if err != nil {
		return err
	}
	defer file.discard()
	if _, err := io.Copy(file, answer.Body); err != nil {
		return wrapAnswer(err)
	}
	if err := file.keep(); err != nil {
		return err
	}
	summary, err := url.PathUnescape(answer.Header.Get("Membank-Summary"))
	io.WriteString(s.stdout, summary)
	return err
}

func wrapAnswer(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the server's answer: %w", err)
}

// routeOf is the route of a command, nil if it has none; rm has one for banks and one for rows.
func (r *farServer) routeOf(s *session, c *ucli.Context) *serve.Route {
	for _, route := range serveRoutes() {
		if strings.Join(route.Command, " ") != s.name {
			continue
		}
		if rows := c.IsSet("keys") || c.IsSet("where"); s.name == "rm" && rows != (route.Body != serve.NoBody) {
			continue
		}
		if len(route.Args) == 0 && c.NArg() > 0 || c.NArg() == 0 && strings.Contains(route.Path, "{") {
			continue // bank show, of one or of all
		}
		return &route
	}
	return nil
}

// parameters are the flags and positionals of a command as path and query.
func (r *farServer) parameters(s *session, c *ucli.Context, route *serve.Route, args []string) (url.Values, string, error) {
	query, path := url.Values{}, route.Path
	for i, a := range route.Args {
		if i >= len(args) {
			break
		}
		if a.Many { // the last one
			query[a.Name] = args[i:]
		} else if slot := "{" + a.Name + "}"; strings.Contains(path, slot) {
			path = strings.Replace(path, slot, url.PathEscape(args[i]), 1)
		} else {
			query.Set(a.Name, args[i])
		}
	}
	for _, f := range c.Command.Flags {
		name := f.Names()[0]
		if !c.IsSet(name) || route.Body == serve.NamedBody && isFile(c, f) {
			continue
		}
		known := slices.ContainsFunc(route.Params, func(p serve.Param) bool { return p.Name == name })
		switch value := c.Value(name).(type) {
		case ucli.StringSlice:
			for _, v := range value.Value() {
				query.Add(name, v)
			}
		default:
			query.Set(name, fmt.Sprint(value))
		}
		if !known {
			query.Del(name)
			if !slices.Contains([]string{"yes", "labels", "keys", "attributes", "class-names", "array", "labels-array"}, name) {
				return nil, "", usage("--%s: is for a database in a directory, and --db names a server (leave it out)", name)
			}
		}
	}
	if s.name == "ingest" { // the rows are sent in our own form, whatever the files are
		query.Del("array")
		query.Del("labels-array")
	}
	if s.name == "query" {
		query.Del("array")
	}
	if s.name == "get" { // keys may be positionals, too
		for _, key := range args[1:] {
			query.Add("key", key)
		}
	}
	return query, path, nil
}

// bodyOf says what a command sends; nil: nothing.
func (r *farServer) bodyOf(ctx context.Context, s *session, c *ucli.Context, args []string) (func(io.Writer) error, error) {
	switch {
	case s.name == "ingest":
		if len(args) == 1 {
			return nil, usage("%s: missing FILE… (membank %s --help shows an example)", s.name, s.name)
		}
		in, err := fileSources(c, args[1:])
		if err != nil {
			return nil, err
		}
		return func(w io.Writer) error {
			progress := s.newBar("ingest "+args[0], "rows", in.rows)
			defer progress.close()
			return in.send(ctx, w, s.line, progress.set)
		}, nil
	case strings.HasPrefix(s.name, "bank "):
		return s.sendNamed(ctx, c)
	case s.name == "query" && c.IsSet("vectors"):
		return func(w io.Writer) error { return sendFeatures(ctx, w, c.String("vectors"), c.String("array")) }, nil
	case s.name == "rm" && c.IsSet("keys"):
		keys, err := readLines(c.String("keys"))
		if err != nil {
			return nil, err
		}
		return func(w io.Writer) error { return dump.WriteNPY(w, keys) }, nil
	}
	return nil, nil
}

// isFile reports whether a flag names a file that goes into the body: of those that
// take a list as well, if it is not one.
func isFile(c *ucli.Context, f ucli.Flag) bool {
	name := f.Names()[0]
	if name == "output" || !namesFile(usageOf(f)) {
		return false
	}
	return !slices.Contains(lists, name) || strings.Trim(c.String(name), "0123456789, ") != ""
}

// sendNamed reads the files that a command names and sends each as the array that
// is called as its flag; nil: it names none.
func (s *session) sendNamed(ctx context.Context, c *ucli.Context) (func(io.Writer) error, error) {
	var b bytes.Buffer
	z := dump.NewNPZWriter(&b)
	sent := false
	for _, f := range c.Command.Flags {
		name := f.Names()[0]
		if !c.IsSet(name) || !isFile(c, f) {
			continue
		}
		sent = true
		if err := s.sendNamedFile(ctx, c, z, name); err != nil {
			return nil, err
		}
	}
	if err := z.Close(); err != nil || !sent {
		return nil, err
	}
	return func(w io.Writer) error { _, err := w.Write(b.Bytes()); return err }, nil
}

func (s *session) sendNamedFile(ctx context.Context, c *ucli.Context, z *dump.NPZWriter, name string) error {
	switch name {
	case "vectors":
		paths := c.StringSlice(name)
		if paths == nil {
			paths = []string{c.String(name)}
		}
		for i, path := range paths {
			m, err := s.readMatrix(ctx, path)
			if err != nil {
				return err
			}
			array := name
			if i > 0 {
				array = fmt.Sprintf("%s_%d", name, i)
			}
			if err := z.Write(array, m.Data, shapeOf(m)...); err != nil {
				return err
			}
		}
		return nil
	case "prototypes", "probabilities", "other":
		m, err := s.readMatrix(ctx, c.String(name))
		if err != nil {
			return err
		}
		return z.Write(name, m.Data[:m.Rows*m.Dim], shapeOf(m)...)
	case "labels":
		labels, err := s.readLabels(c.String(name), -1)
		if err != nil {
			return err
		}
		return z.Write(name, noLabel(labels))
	case "keys":
		keys, err := readLines(c.String(name))
		if err != nil {
			return err
		}
		return sendStrings(z, name, keys)
	case "weights", "below", "concentrations":
		floats, err := s.readFloats(c.String(name))
		if err != nil {
			return err
		}
		return z.Write(name, floats)
	}
	ids, err := s.readIDs(c.String(name))
	if err != nil {
		return err
	}
	return z.Write(name, ids)
}

// sendFeatures sends a file of vectors as an .npy.
func sendFeatures(ctx context.Context, w io.Writer, path, array string) error {
	in, err := openFeatures(path, array)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := dump.NewNPYWriter(w, "<f4", in.Rows(), int64(in.Dim()))
	vectors := simd.NewMatrix(int(max(1, min(in.Rows(), batchBytes/int64(4*in.Dim())))), in.Dim())
	for err == nil {
		var n int
		if n, err = in.Next(ctx, vectors); err == io.EOF {
			return out.Close()
		}
		if err == nil {
			err = out.Float32(vectors.Data[:n*in.Dim()])
		}
	}
	return err
}

// ask sends a request and returns an answer of status 200; any other is an error.
func (r *farServer) ask(ctx context.Context, method, path string, query url.Values, accept string, send func(io.Writer) error) (*http.Response, error) {
	var body io.Reader
	failed := make(chan error, 1)
	if send != nil {
		out, in := io.Pipe()
		body = out
		defer out.CloseWithError(errAnswered)
		go func() {
			b := bufio.NewWriterSize(in, 1<<18)
			err := send(b)
			if err == nil {
				err = b.Flush()
			}
			in.CloseWithError(err)
			failed <- err
		}()
	} else {
		failed <- nil
	}
	request, err := http.NewRequestWithContext(ctx, method, r.base+path, body)
	if err != nil {
		return nil, err
	}
	request.URL.RawQuery = query.Encode()
	request.Header.Set("Accept", accept)
	if send != nil {
		request.Header.Set("Content-Type", "application/octet-stream")
	}
	if r.token != "" {
		request.Header.Set("Authorization", "Bearer "+r.token)
	}
	answer, err := r.client.Do(request)
	if err != nil {
		select {
		case mine := <-failed: // the fault is in a file here
			if mine != nil && !errors.Is(mine, errAnswered) && !errors.Is(mine, io.ErrClosedPipe) {
				return nil, mine
			}
		default:
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &failure{exit: exitFailure, code: "unreachable", err: err, text: fmt.Sprintf("%s: %v (is it running? membank serve starts it)", r.base, cause(err))}
	}
	if answer.StatusCode == http.StatusOK {
		return answer, nil
	}
	defer answer.Body.Close()
	return nil, r.refused(answer)
}

// errAnswered ends the sending of a body that the server wants no more of.
var errAnswered = errors.New("the server has answered")

// refused is the error that a server answered with.
func (r *farServer) refused(answer *http.Response) error {
	var d struct {
		Error struct{ Code, Message string }
	}
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<16))
	if err := json.Unmarshal(text, &d); err != nil || d.Error.Message == "" {
		return &failure{exit: exitFailure, code: "not_a_server", text: fmt.Sprintf("%s: answered %s, not as a membank server does (check the address)", r.base, answer.Status)}
	}
	return &failure{exit: exitOf(answer.Header), code: d.Error.Code, text: d.Error.Message}
}

// confirm asks the server what rm would delete, and then the person.
func (r *farServer) confirm(ctx context.Context, s *session, c *ucli.Context, route *serve.Route, query url.Values, path string) error {
	dry := url.Values{}
	for k, v := range query {
		dry[k] = v
	}
	dry.Set("dry-run", "true")
	send, err := r.bodyOf(ctx, s, c, nil)
	if err != nil {
		return err
	}
	answer, err := r.ask(ctx, route.Method, path, dry, "application/json", send)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	var would removal
	if err := json.NewDecoder(answer.Body).Decode(&would); err != nil {
		return wrapAnswer(err)
	}
	return s.confirm(false, would)
}
