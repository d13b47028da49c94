package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"membank/store/dump"
)

// Route is one thing that can be asked of the server.
type Route struct {
	Method, Path string // as for http.ServeMux: /v1/banks/{bank}/query
	Summary      string // a line
	Command      []string
	Args         []Param // the command's positionals: of the path where it names them, else of the query
	Params       []Param // the command's flags
	Body         BodyKind
	BodyFlag     string   // the flag that would have named the file; "": a positional
	Files        []string // extensions of the file that the parameter output may name; nil: none
	NeedsOne     []string // flags of which one must be given; nil: none
	NeedsFile    bool     // it makes nothing but a file
	Light        bool     // it costs next to nothing: no worker is taken
	Lines        bool     // JSON Lines
	Result       any      // a value of the type that is printed as JSON
	Others       []any    // of the types that some parameters have printed instead

	// Handle, where a request is no command, does it all.
	Handle func(w http.ResponseWriter, r *http.Request) error
	// Accepts and Gives describe it: media types of its body and answer.
	Accepts, Gives []string
}

// Param is a parameter: a flag of the command.
type Param struct {
	Name, About string
	Switch      bool // true or false
	Many        bool // may be given again
	Required    bool
}

// BodyKind is what a route reads.
type BodyKind uint8

const (
	NoBody     BodyKind = iota
	ArrayBody           // an .npy, .npz or .safetensors, or small JSON; may be absent where other parameters ask
	UploadBody          // the same, and always there
	NamedBody           // arrays called as the flags whose files they stand for: ids, vectors, vectors_1
)

// Call is a request as package cli runs it.
type Call struct {
	Words    []string            // the command
	Args     []string            // its positionals
	Flags    map[string][]string // its flags by name; a switch is "true" or "false"
	Text     bool                // tables for people instead of JSON
	Body     io.Reader           // nil: none
	Named    bool                // the body's arrays stand for files of the command, by the names of flags
	BodyName string              // what errors call it
	Limit    int64               // bytes that the body may have or unpack to
	Stdout   io.Writer
	Stderr   io.Writer
	File     io.Writer // where what the flag output names goes; nil: no file
}

// The media types of bodies and answers.
const (
	typeJSON        = "application/json"
	typeLines       = "application/jsonl"
	typeText        = "text/plain"
	typeNPY         = "application/x-npy"
	typeNPZ         = "application/x-npz"
	typeSafetensors = "application/x-safetensors"
	typeBytes       = "application/octet-stream"
	typeCSV         = "text/csv"
	typeHTML        = "text/html"
)

// arrayTypes may be sent. Their format is told by their first bytes; the type
// says that no HTML form sent them.
var arrayTypes = []string{typeNPY, typeNPZ, "application/zip", typeSafetensors, "application/vnd.safetensors", typeBytes, typeJSON}

// Headers of an answer beside those of HTTP, percent-encoded where they are text.
const (
	remarkHeader  = "Membank-Remark"  // what the command says on stderr
	summaryHeader = "Membank-Summary" // what it prints beside the file that is the body
)

// summaryBytes is the most of a summary, which becomes up to three times as long: what
// reads the answer may take lines of 64 KiB.
const summaryBytes = 16 << 10

// jsonBytes is the most of a JSON body: it is small by definition.
const jsonBytes = 4 << 20

// prefetched bodies are read before a worker is taken.
const prefetched = 1 << 20

// command runs a request of a route.
func (s *Server) command(route *Route, w http.ResponseWriter, r *http.Request) error {
	call, err := s.parse(route, r)
	if err != nil {
		return err
	}
	out, file := held{shared: s.buffers}, held{shared: s.buffers}
	var said remarks
	defer out.close()
	defer file.close()
	call.Stdout, call.Stderr = &out, &said
	extension := ""
	if name := first(call.Flags["output"]); name != "" {
		extension = strings.ToLower(filepath.Ext(name))
		call.File = &file
	}
	release, err := s.takeBody(route, call, w, r)
	if err != nil {
		return err
	}
	defer release()
	if route.NeedsOne != nil && !slices.ContainsFunc(route.NeedsOne, func(name string) bool { return len(call.Flags[name]) > 0 }) {
		return badRequest("%s %s needs one of %s (it is not said what is meant)", route.Method, route.Path, strings.Join(route.NeedsOne, ", "))
	}
	enter := s.work.enter
	switch {
	case route.Light:
		enter = s.light.enter
	case call.Body != nil && !isBuffered(call.Body):
		enter = s.uploads.enter
	}
	leave, f := enter(r.Context())
	if f != nil {
		s.metrics.shed.Inc()
		return f
	}
	err = func() error {
		defer leave()
		return s.o.Run(r.Context(), call)
	}()
	if err != nil {
		return err
	}
	if rolling, ok := call.Body.(*rolling); ok && !rolling.ended() {
		io.Copy(io.Discard, io.LimitReader(rolling, 1<<20))
	}
	h := w.Header()
	if said.Len() > 0 {
		h.Set(remarkHeader, url.PathEscape(said.String()))
	}
	h.Set("Cache-Control", "no-store")
	if call.File == nil {
		h.Set("Content-Type", route.answerType(call.Text))
		return sent{out.send(w, s.leave)}.orNil()
	}
	if out.size <= summaryBytes {
		h.Set(summaryHeader, url.PathEscape(string(out.text())))
	} else { // half a summary would be a wrong one
		fmt.Fprintf(&said, "what is printed beside the file takes %d bytes and is left out (ask without output for it)\n", out.size)
		h.Set(remarkHeader, url.PathEscape(said.String()))
	}
	h.Set("Content-Type", fileType(extension))
	return sent{file.send(w, s.leave)}.orNil()
}

// sent is a failure after the answer had begun: there is nobody left to tell.
type sent struct{ err error }

func (s sent) Error() string { return s.err.Error() }
func (s sent) Unwrap() error { return s.err }
func (s sent) orNil() error {
	if s.err == nil {
		return nil
	}
	return s
}

func (route *Route) answerType(text bool) string {
	switch {
	case text:
		return typeText + "; charset=utf-8"
	case route.Lines:
		return typeLines
	}
	return typeJSON
}

// fileType is the media type of a file by its extension.
func fileType(extension string) string {
	switch extension {
	case ".npy":
		return typeNPY
	case ".npz":
		return typeNPZ
	case ".csv":
		return typeCSV + "; charset=utf-8"
	case ".html":
		return typeHTML + "; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".png":
		return "image/png"
	case ".zip":
		return "application/zip"
	}
	return typeBytes
}

// parse checks a request's parameters against the route. One that the route does
// not have is an error: a misspelt "nprob" must not pass for an exact search.
func (s *Server) parse(route *Route, r *http.Request) (*Call, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("the query string is malformed: %v", err)
	}
	call := &Call{Words: route.Command, Flags: map[string][]string{}, Limit: s.o.MaxBody}
	for _, a := range route.Args {
		if a.Many {
			values := query[a.Name]
			query.Del(a.Name)
			if len(values) == 0 && a.Required {
				return nil, badRequest("the parameter %s is missing (%s)", a.Name, a.About)
			}
			call.Args = append(call.Args, values...)
			continue
		}
		value := r.PathValue(a.Name)
		if !strings.Contains(route.Path, "{"+a.Name+"}") {
			value = query.Get(a.Name)
			query.Del(a.Name)
		}
		if value == "" && a.Required {
			return nil, badRequest("the parameter %s is missing (%s)", a.Name, a.About)
		}
		if value != "" {
			call.Args = append(call.Args, value)
		}
	}
	for name, values := range query {
		at := slices.IndexFunc(route.Params, func(p Param) bool { return p.Name == name })
		if at < 0 {
			return nil, badRequest("%s %s has no parameter %.40q (it has %s)", route.Method, route.Path, name, route.paramNames())
		}
		p := route.Params[at]
		if len(values) > 1 && !p.Many {
			return nil, badRequest("the parameter %s is given %d times (give it once)", name, len(values))
		}
		if p.Switch {
			if values[0] == "" {
				values[0] = "true"
			}
			if _, err := strconv.ParseBool(values[0]); err != nil {
				return nil, badRequest("%s=%.40s: neither true nor false", name, values[0])
			}
		}
		call.Flags[name] = values
	}
	if name := first(call.Flags["output"]); name != "" {
		if !slices.Contains(route.Files, strings.ToLower(filepath.Ext(name))) || len(name) > 1024 {
			return nil, badRequest("output=%.40s: unknown kind of file (one of %s)", name, strings.Join(route.Files, ", "))
		}
	} else if route.NeedsFile {
		return nil, badRequest("the parameter output is missing (the kind of file to answer with: output=F%s)", route.Files[0])
	}
	call.Text = wantsText(r.Header.Get("Accept"))
	return call, nil
}

func badRequest(format string, a ...any) error {
	f := fault(http.StatusBadRequest, "usage", format, a...)
	f.Exit = 2
	return f
}

func (route *Route) paramNames() string {
	names := make([]string, len(route.Params))
	for i, p := range route.Params {
		names[i] = p.Name
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// wantsText: whoever names text/plain and not JSON gets tables.
func wantsText(accept string) bool {
	return strings.HasPrefix(accept, typeText) && !strings.Contains(accept, "json")
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// isBuffered: the body is in memory already.
func isBuffered(body io.Reader) bool {
	_, ok := body.(*bytes.Reader)
	return ok
}

// takeBody puts the body of a request into its call. release gives back what is
// held for it.
func (s *Server) takeBody(route *Route, call *Call, w http.ResponseWriter, r *http.Request) (release func(), err error) {
	release = func() {}
	given := r.ContentLength != 0
	if route.Body == NoBody {
		if given && r.ContentLength > 0 {
			return release, badRequest("%s %s takes no body", route.Method, route.Path)
		}
		return release, nil
	}
	if !given {
		if route.Body == UploadBody {
			return release, badRequest("the body is empty (send an .npy, .npz or .safetensors)")
		}
		return release, nil
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if !slices.Contains(arrayTypes, kind) {
		return release, fault(http.StatusUnsupportedMediaType, "media_type", "the Content-Type %.60q is not one of arrays (send %s)", r.Header.Get("Content-Type"), strings.Join(arrayTypes, ", "))
	}
	most := s.o.MaxBody
	if kind == typeJSON {
		most = jsonBytes
	}
	if r.ContentLength > most {
		return release, &http.MaxBytesError{Limit: most}
	}
	call.BodyName, call.Named = "body", route.Body == NamedBody
	if name := first(call.Flags[route.BodyFlag]); name != "" {
		call.BodyName = name
	}
	if route.BodyFlag != "" {
		call.Flags[route.BodyFlag] = []string{call.BodyName}
	}
	body := newRolling(w, r, most, s.pause)
	if kind != typeJSON && (r.ContentLength < 0 || r.ContentLength > prefetched) {
		call.Body = body
		return release, nil
	}
	room := most
	if r.ContentLength >= 0 {
		room = r.ContentLength
	}
	if !s.buffers.take(room) {
		s.metrics.shed.Inc()
		return release, &Fault{Status: http.StatusServiceUnavailable, Code: "overloaded", Message: "the server holds too many bodies (send it again in a second)", RetryAfter: 1}
	}
	release = func() { s.buffers.give(room) }
	data, err := body.all(r.ContentLength)
	switch {
	case err == nil && kind == typeJSON && route.Body == NamedBody:
		data, err = namedOfJSON(data)
	case err == nil && kind == typeJSON:
		data, err = arraysOfJSON(data)
	}
	if err != nil {
		release()
		return func() {}, err
	}
	call.Body = bytes.NewReader(data)
	return release, nil
}

// small is a JSON body: what an .npz would hold, for few rows.
type small struct {
	Vectors [][]float32 `json:"vectors"`
	Keys    []string    `json:"keys,omitempty"`
	Labels  []*int64    `json:"labels,omitempty"` // null: none
}

// arraysOfJSON turns {"vectors": [[…]], "keys": […], "labels": […]} into an .npz.
func arraysOfJSON(text []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var body small
	if err := d.Decode(&body); err != nil {
		return nil, badBody("is not JSON of vectors, keys and labels: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, badBody("goes on after its JSON document")
	}
	if len(body.Vectors) == 0 && len(body.Keys) > 0 { // keys alone name rows
		var b bytes.Buffer
		err := dump.WriteNPY(&b, body.Keys)
		return b.Bytes(), err
	}
	if len(body.Vectors) == 0 || len(body.Vectors[0]) == 0 {
		return nil, badBody("holds no vectors")
	}
	rows, dim := len(body.Vectors), len(body.Vectors[0])
	data := make([]float32, 0, rows*dim)
	for i, v := range body.Vectors {
		if len(v) != dim {
			return nil, badBody("row %d has %d numbers, row 0 has %d", i, len(v), dim)
		}
		data = append(data, v...)
	}
	if body.Keys != nil && len(body.Keys) != rows || body.Labels != nil && len(body.Labels) != rows {
		return nil, badBody("has %d vectors, %d keys and %d labels (every row needs one)", rows, len(body.Keys), len(body.Labels))
	}
	var b bytes.Buffer
	z := dump.NewNPZWriter(&b)
	var err error
	if body.Labels != nil {
		labels := make([]int64, rows)
		for i, l := range body.Labels {
			if labels[i] = -1; l != nil {
				labels[i] = *l
			}
		}
		err = z.Write("labels", labels)
	}
	if err == nil && body.Keys != nil {
		err = z.Write("keys", body.Keys)
	}
	if err == nil {
		err = z.Write("features", data, int64(rows), int64(dim))
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		return nil, badBody("cannot be taken: %v", err)
	}
	return b.Bytes(), nil
}

// namedOfJSON turns {"ids": [3, 7], "vectors": [[…], […]]} into an .npz: a list of
// integers, of floats or of strings, or a list of lists of floats, is an array.
func namedOfJSON(text []byte) ([]byte, error) {
	var body map[string]json.RawMessage
	if err := json.Unmarshal(text, &body); err != nil {
		return nil, badBody("is not JSON of arrays by name: %v", err)
	}
	var b bytes.Buffer
	z := dump.NewNPZWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(body)) {
		var ints []int64
		var floats []float64
		var texts []string
		var rows [][]float32
		var err error
		switch raw := body[name]; {
		case json.Unmarshal(raw, &ints) == nil:
			err = z.Write(name, ints)
		case json.Unmarshal(raw, &floats) == nil:
			err = z.Write(name, floats)
		case json.Unmarshal(raw, &texts) == nil:
			err = z.Write(name, texts)
		case json.Unmarshal(raw, &rows) == nil && len(rows) > 0:
			data := slices.Concat(rows...)
			if len(data) != len(rows)*len(rows[0]) || slices.ContainsFunc(rows, func(row []float32) bool { return len(row) != len(rows[0]) }) {
				return nil, badBody("array %.40q has rows of different lengths", name)
			}
			err = z.Write(name, data, int64(len(rows)), int64(len(rows[0])))
		default:
			return nil, badBody("array %.40q is no list of numbers, strings or rows", name)
		}
		if err != nil {
			return nil, badBody("array %.40q cannot be taken: %v", name, err)
		}
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func badBody(format string, a ...any) error {
	f := fault(http.StatusUnprocessableEntity, "bad_input", "body: "+format, a...)
	f.Exit = 3
	return f
}

// run asks a command from within the server and decodes its JSON.
func (s *Server) run(ctx context.Context, words, args []string, flags map[string][]string, result any) error {
	var out held
	defer out.close()
	err := s.o.Run(ctx, &Call{Words: words, Args: args, Flags: flags, Stdout: &out, Stderr: io.Discard})
	if err != nil {
		return err
	}
	if out.file != nil {
		return fmt.Errorf("the answer of %s is too long for a page", strings.Join(words, " "))
	}
	return json.Unmarshal(out.text(), result)
}
