package serve

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
)

//go:embed page.html
var pageSource string

//go:embed page.css
var pageStyle []byte

//go:embed icon.svg
var pageIcon []byte

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"segment": url.PathEscape,
	"comma":   humanize.Comma,
	"soft":    breakable,
	"size":    func(n int64) string { return humanize.IBytes(uint64(max(0, n))) },
}).Parse(pageSource))

// pagePolicy lets a page load its own style and pictures and send its own form;
// there is no script to allow.
const pagePolicy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// What a page shows at most.
const (
	pageBanks      = 1000
	pageNeighbours = 60
)

// pageBank is a bank as ls prints it.
type pageBank struct {
	Bank    string `json:"bank"`
	Rows    int64  `json:"rows"`
	Dim     int    `json:"dim"`
	DType   string `json:"dtype"`
	Classes int    `json:"classes"`
	NList   int    `json:"nlist"`
	Bytes   int64  `json:"bytes"`
}

// pageRow is a neighbour as query prints it.
type pageRow struct {
	Row     int64   `json:"row"`
	Key     string  `json:"key"`
	Label   *int64  `json:"label"`
	Class   string  `json:"class"`
	Score   float64 `json:"score"`
	Picture int     `json:"-"` // pixels of its longer side; 0: none
	Mark    string  `json:"-"` // "right" or "wrong": of the query's class or not; "": not known
}

// Small pictures are shown pixel by pixel.
func (r pageRow) Small() bool { return r.Picture > 0 && r.Picture <= 64 }

// Name is the class, else its number.
func (r pageRow) Name() string {
	switch {
	case r.Class != "":
		return r.Class
	case r.Label != nil:
		return strconv.FormatInt(*r.Label, 10)
	}
	return ""
}

type pageData struct {
	Version    string
	Banks      []pageBank
	More       int64     // banks that are not shown
	Name       string    // of a bank that was asked for
	Bank       *pageBank // whose neighbours are shown; nil: the list
	Key        string    // that was searched and not found
	Row, K     int64
	Metric     string
	Metrics    []string
	Query      *pageRow
	Neighbours []pageRow
	Marked     bool // some neighbours have a mark
	Error      string
}

// Before and After: there is a row before this one, or behind it.
func (d pageData) Before() bool     { return d.Row > 0 }
func (d pageData) After() bool      { return d.Row+1 < d.Bank.Rows }
func (d pageData) BeforeRow() int64 { return d.Row - 1 }
func (d pageData) AfterRow() int64  { return d.Row + 1 }

func (s *Server) pages() {
	s.handle("GET /{$}", func(w http.ResponseWriter, r *http.Request) error {
		d := pageData{Version: s.o.Version}
		if err := s.run(r.Context(), []string{"ls"}, nil, nil, &d.Banks); err != nil {
			return s.showFault(w, r, d, err)
		}
		if d.More = max(0, int64(len(d.Banks)-pageBanks)); d.More > 0 {
			d.Banks = d.Banks[:pageBanks]
		}
		return show(w, http.StatusOK, d)
	})
	s.handle("GET /banks/{bank}", s.bankPage)
	file := func(path, kind string, data []byte) {
		s.handle("GET "+path, func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Content-Type", kind)
			_, err := w.Write(data)
			return sent{err}.orNil()
		})
	}
	file("/page.css", "text/css; charset=utf-8", pageStyle)
	file("/icon.svg", "image/svg+xml", pageIcon)
	s.handle("GET /pictures/{bank}/{row}", func(w http.ResponseWriter, r *http.Request) error {
		row, err := strconv.ParseInt(r.PathValue("row"), 10, 64)
		if err == nil && s.o.Picture != nil {
			leave, f := s.light.enter(r.Context())
			if f != nil {
				return f
			}
			defer leave()
			if kind, data, ok := s.o.Picture(r.Context(), r.PathValue("bank"), row); ok {
				w.Header().Set("Content-Type", kind)
				w.Header().Set("Cache-Control", "private, max-age=600")
				_, err := w.Write(data)
				return sent{err}.orNil()
			}
		}
		return fault(http.StatusNotFound, "no_picture", "row %.20q of that bank has no picture", r.PathValue("row"))
	})
}

// bankPage shows a row of a bank, asked for by its key or its number, and its
// neighbours.
func (s *Server) bankPage(w http.ResponseWriter, r *http.Request) error {
	bank := r.PathValue("bank")
	d := pageData{Version: s.o.Version, Name: bank, K: 12, Metric: "cosine", Metrics: []string{"cosine", "dot", "l2"}}
	q := r.URL.Query()
	if v, err := strconv.ParseInt(q.Get("k"), 10, 64); err == nil {
		d.K = max(1, min(v, pageNeighbours))
	}
	if v, err := strconv.ParseInt(q.Get("row"), 10, 64); err == nil && v >= 0 {
		d.Row = v
	}
	if v := q.Get("metric"); v != "" {
		d.Metric = v
	}
	leave, f := s.work.enter(r.Context())
	if f != nil {
		return f
	}
	defer leave()
	var card struct {
		pageBank
	}
	if err := s.run(r.Context(), []string{"show"}, []string{bank}, nil, &card); err != nil {
		return s.showFault(w, r, d, err)
	}
	d.Bank = &card.pageBank
	row := func() []string { return []string{strconv.FormatInt(d.Row, 10)} }
	named := map[string][]string{"rows": row()}
	if key := q.Get("key"); key != "" {
		named, d.Key = map[string][]string{"key": {key}}, key
	}
	var rows []pageRow
	if err := s.run(r.Context(), []string{"get"}, []string{bank}, named, &rows); err != nil {
		return s.showFault(w, r, d, err)
	}
	if len(rows) != 1 {
		return show(w, http.StatusOK, d)
	}
	d.Query, d.Row, d.Key = &rows[0], rows[0].Row, ""
	var answer struct {
		Neighbours []pageRow `json:"neighbours"`
	}
	flags := map[string][]string{"row": row(), "k": {strconv.FormatInt(d.K, 10)}, "metric": {d.Metric}, "exclude-self": {"true"}}
	if err := s.run(r.Context(), []string{"query"}, []string{bank}, flags, &answer); err != nil {
		return s.showFault(w, r, d, err)
	}
	d.Neighbours = answer.Neighbours
	d.mark(s.o.Pictured)
	return show(w, http.StatusOK, d)
}

// mark says which rows have a picture, and which neighbours are of the query's class.
func (d *pageData) mark(pictured func(key string) int) {
	if pictured == nil {
		pictured = func(string) int { return 0 }
	}
	d.Query.Picture = pictured(d.Query.Key)
	for i := range d.Neighbours {
		n := &d.Neighbours[i]
		n.Picture = pictured(n.Key)
		if d.Query.Label == nil || n.Label == nil {
			continue
		}
		d.Marked = true
		if n.Mark = "wrong"; *n.Label == *d.Query.Label {
			n.Mark = "right"
		}
	}
}

// breakable lets a line end behind the slashes of a key.
func breakable(key string) template.HTML {
	return template.HTML(strings.ReplaceAll(template.HTMLEscapeString(key), "/", "/<wbr>"))
}

// showFault puts an error on the page, where a person looks.
func (s *Server) showFault(w http.ResponseWriter, r *http.Request, d pageData, err error) error {
	f := s.faultOf(r, err)
	d.Error = f.Message
	return show(w, f.Status, d)
}

func show(w http.ResponseWriter, status int, d pageData) error {
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, d); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", typeHTML+"; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, err := w.Write(b.Bytes())
	return sent{err}.orNil()
}
