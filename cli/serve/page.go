package serve

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
)

//go:embed page.html
var pageSource string

//go:embed page.css
var pageStyle []byte

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{"segment": url.PathEscape}).Parse(pageSource))

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
	Picture bool    `json:"-"`
}

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
	More       int       // banks that are not shown
	Bank       *pageBank // whose neighbours are shown; nil: the list
	Row, K     int64
	Metric     string
	Metrics    []string
	Query      *pageRow
	Neighbours []pageRow
	Error      string
}

func (s *Server) pages() {
	s.handle("GET /{$}", func(w http.ResponseWriter, r *http.Request) error {
		d := pageData{Version: s.o.Version}
		if err := s.run(r.Context(), []string{"ls"}, nil, nil, &d.Banks); err != nil {
			return s.showFault(w, r, d, err)
		}
		if d.More = max(0, len(d.Banks)-pageBanks); d.More > 0 {
			d.Banks = d.Banks[:pageBanks]
		}
		return show(w, http.StatusOK, d)
	})
	s.handle("GET /banks/{bank}", s.bankPage)
	s.handle("GET /page.css", func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		_, err := w.Write(pageStyle)
		return sent{err}.orNil()
	})
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

// bankPage shows a row of a bank and its neighbours.
func (s *Server) bankPage(w http.ResponseWriter, r *http.Request) error {
	bank := r.PathValue("bank")
	d := pageData{Version: s.o.Version, K: 12, Metric: "cosine", Metrics: []string{"cosine", "dot", "l2"}}
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
	row := []string{strconv.FormatInt(d.Row, 10)}
	var rows []pageRow
	if err := s.run(r.Context(), []string{"get"}, []string{bank}, map[string][]string{"rows": row}, &rows); err != nil {
		return s.showFault(w, r, d, err)
	}
	if len(rows) == 1 {
		d.Query = &rows[0]
	}
	var answer struct {
		Neighbours []pageRow `json:"neighbours"`
	}
	flags := map[string][]string{"row": row, "k": {strconv.FormatInt(d.K, 10)}, "metric": {d.Metric}, "exclude-self": {"true"}}
	if err := s.run(r.Context(), []string{"query"}, []string{bank}, flags, &answer); err != nil {
		return s.showFault(w, r, d, err)
	}
	d.Neighbours = answer.Neighbours
	if s.o.Picture != nil {
		for i := range d.Neighbours {
			d.Neighbours[i].Picture = true
		}
		if d.Query != nil {
			d.Query.Picture = true
		}
	}
	return show(w, http.StatusOK, d)
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
