package cli

import (
	"bufio"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"membank/index"
	"membank/store"
)

// answers is where neighbours go: the terminal, JSON Lines or a file. write is
// called once a batch, finish once at the end, abort always (after finish it does
// nothing); a file appears under its name only when it is whole.
type answers interface {
	write(ctx context.Context, first int64, q questions, hits [][]index.Hit) error
	finish(queries int64, seconds float64) error
	abort()
}

// neighbour is one hit with what a person knows the row by.
type neighbour struct {
	Row   int64   `json:"row"`
	Key   string  `json:"key"`
	Label *int64  `json:"label"` // null: none
	Class string  `json:"class,omitempty"`
	Score float32 `json:"score"`
}

// answer is the neighbours of one query, best first.
type answer struct {
	Query      int64       `json:"query"`
	Row        *int64      `json:"query_row,omitempty"` // of the query, where it is a row of a bank
	Key        string      `json:"query_key,omitempty"`
	Neighbours []neighbour `json:"neighbours"`

	Approximate *approximate `json:"approximate,omitempty"`
}

// newAnswers opens the kind of answers that the path's extension names; images is
// the directory for an .html.
func newAnswers(base answering, images string) (answers, error) {
	s, path := base.s, base.path
	switch ext := strings.ToLower(filepath.Ext(path)); {
	case path == "" && s.json:
		return &lineAnswers{answering: base, out: bufio.NewWriter(s.stdout)}, nil
	case path == "":
		return &tableAnswers{answering: base, out: bufio.NewWriter(s.stdout)}, nil
	case ext == ".npz":
		return newArrayAnswers(base)
	case ext == ".csv":
		return newCSVAnswers(base)
	case ext == ".html":
		return newHTMLAnswers(base, images)
	default:
		return nil, usage("-o %s: unknown kind of file (.npz, .csv or .html)", path)
	}
}

// answering is what every kind of answers shares.
type answering struct {
	s       *session
	snap    *store.Snapshot
	options index.Options
	where   string // the expression that chose the rows; "": all
	path    string // of the file; "": stdout

	*approximate
}

// inexact is the approximation as a document has it: null for exact answers.
func (a *answering) inexact() *approximate {
	if a.approximate.is() {
		return a.approximate
	}
	return nil
}

// named looks the hits of a batch up, each row once.
func (a *answering) named(ctx context.Context, first int64, q questions, hits [][]index.Hit) ([]answer, error) {
	var rows []int64
	for _, list := range hits {
		for _, h := range list {
			rows = append(rows, h.Row)
		}
	}
	rows = unique(rows)
	found, err := a.snap.Rows(ctx, rows, store.Want{})
	if err != nil {
		return nil, err
	}
	classNames := a.snap.Info().ClassNames
	list := make([]answer, len(hits))
	for i := range hits {
		list[i] = answer{Query: first + int64(i), Neighbours: make([]neighbour, len(hits[i])), Approximate: a.inexact()}
		if q.rows != nil {
			list[i].Row = &q.rows[i]
		}
		if q.keys != nil {
			list[i].Key = q.keys[i]
		}
		for j, h := range hits[i] {
			at, _ := slices.BinarySearch(rows, h.Row)
			r := found[at]
			list[i].Neighbours[j] = neighbour{h.Row, r.Key, labelOf(r.Label), className(classNames, r.Label), h.Score}
		}
	}
	return list, nil
}

// written is what a query that wrote a file prints.
type written struct {
	Bank    string  `json:"bank"`
	Queries int64   `json:"queries"`
	K       int     `json:"k"`
	Metric  string  `json:"metric"`
	Exact   bool    `json:"exact"`
	File    string  `json:"file"`
	Seconds float64 `json:"seconds"`

	Approximate *approximate `json:"approximate,omitempty"`
}

func (a *answering) wrote(queries int64, took float64) error {
	w := written{a.snap.Bank(), queries, a.options.K, a.options.Metric.String(), !a.is(), a.path, took, a.inexact()}
	return a.s.emit(w, func(out io.Writer) {
		fmt.Fprintf(out, "%s: the neighbours of %s in %s, by %s (%s)\n", w.File, pluralQueries(queries), w.Bank, w.Metric, seconds(took))
		if w.Approximate != nil {
			fmt.Fprintln(out, w.Approximate)
		}
	})
}

func pluralQueries(n int64) string {
	if n == 1 {
		return "1 query"
	}
	return count(n) + " queries"
}

// lineAnswers are JSON Lines.
type lineAnswers struct {
	answering
	out *bufio.Writer
}

func (a *lineAnswers) write(ctx context.Context, first int64, q questions, hits [][]index.Hit) error {
	list, err := a.named(ctx, first, q, hits)
	if err != nil {
		return err
	}
	for _, answer := range list {
		if err := printJSON(a.out, answer); err != nil {
			return err
		}
	}
	return a.out.Flush()
}

func (a *lineAnswers) finish(int64, float64) error { return a.out.Flush() }
func (a *lineAnswers) abort()                      {}

// tableAnswers are for people: a table a query.
type tableAnswers struct {
	answering
	out *bufio.Writer
}

func (a *tableAnswers) write(ctx context.Context, first int64, q questions, hits [][]index.Hit) error {
	list, err := a.named(ctx, first, q, hits)
	if err != nil {
		return err
	}
	title := "score"
	if a.options.Metric == index.L2 {
		title = "distance²"
	}
	for i, answer := range list {
		fmt.Fprintf(a.out, "query %d", answer.Query)
		if answer.Row != nil {
			fmt.Fprintf(a.out, ": row %d", *answer.Row)
		}
		if answer.Key != "" {
			fmt.Fprintf(a.out, " %s", answer.Key)
		}
		if q.labels != nil && q.labels[i] != store.NoLabel {
			fmt.Fprintf(a.out, " [%s]", labelText(&q.labels[i], className(a.snap.Info().ClassNames, q.labels[i])))
		}
		fmt.Fprintln(a.out)
		if len(answer.Neighbours) == 0 {
			fmt.Fprintln(a.out, "  no row passes")
			continue
		}
		rows := make([][]string, len(answer.Neighbours))
		for j, n := range answer.Neighbours {
			rows[j] = []string{"", strconv.Itoa(j + 1), strconv.FormatInt(n.Row, 10), n.Key, labelText(n.Label, n.Class), strconv.FormatFloat(float64(n.Score), 'f', 5, 32)}
		}
		printTable(a.out, []column{left(""), number("rank"), number("row"), left("key"), left("label"), number(title)}, rows)
	}
	return a.out.Flush()
}

func (a *tableAnswers) finish(int64, float64) error {
	if a.is() {
		fmt.Fprintln(a.out, a.approximate)
	}
	return a.out.Flush()
}

func (a *tableAnswers) abort() {}

// csvAnswers are one line a neighbour.
type csvAnswers struct {
	answering
	file *newFile
	out  *csv.Writer
}

func newCSVAnswers(base answering) (answers, error) {
	file, err := base.s.createFile(base.path)
	if err != nil {
		return nil, err
	}
	a := &csvAnswers{answering: base, file: file, out: csv.NewWriter(file)}
	return a, a.out.Write([]string{"query", "query_row", "query_key", "rank", "row", "key", "label", "class", "score"})
}

func (a *csvAnswers) write(ctx context.Context, first int64, q questions, hits [][]index.Hit) error {
	list, err := a.named(ctx, first, q, hits)
	if err != nil {
		return err
	}
	for _, answer := range list {
		queryRow := ""
		if answer.Row != nil {
			queryRow = strconv.FormatInt(*answer.Row, 10)
		}
		for j, n := range answer.Neighbours {
			label := ""
			if n.Label != nil {
				label = strconv.FormatInt(*n.Label, 10)
			}
			a.out.Write([]string{strconv.FormatInt(answer.Query, 10), queryRow, answer.Key, strconv.Itoa(j + 1),
				strconv.FormatInt(n.Row, 10), n.Key, label, n.Class, strconv.FormatFloat(float64(n.Score), 'g', -1, 32)})
		}
	}
	a.out.Flush()
	return a.out.Error()
}

func (a *csvAnswers) finish(queries int64, took float64) error {
	if err := a.file.keep(); err != nil {
		return err
	}
	return a.wrote(queries, took)
}

func (a *csvAnswers) abort() { a.file.discard() }
