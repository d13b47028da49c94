package cli

import (
	"context"
	"fmt"
	"strconv"

	"membank/index"
)

// htmlAnswers are an HTML page: every query with its neighbours, as pictures
// where keys name images.
type htmlAnswers struct {
	answering
	file     *newFile
	pictures *pictures
	page     page
	left     int64 // queries that the page has no room for
	cut      bool  // neighbours that it has no room for
}

func newHTMLAnswers(base answering, images string) (answers, error) {
	pictures, err := openPictures(images)
	if err != nil {
		return nil, err
	}
	file, err := base.s.createFile(base.path)
	if err != nil {
		pictures.close()
		return nil, err
	}
	return &htmlAnswers{answering: base, file: file, pictures: pictures}, nil
}

func (a *htmlAnswers) write(ctx context.Context, first int64, q questions, hits [][]index.Hit) error {
	room := max(0, pageQueries-len(a.page.Queries))
	if len(hits) > room {
		a.left += int64(len(hits) - room)
		hits = hits[:room]
	}
	shown := make([][]index.Hit, len(hits))
	for i, list := range hits {
		a.cut = a.cut || len(list) > pageNeighbours
		shown[i] = list[:min(len(list), pageNeighbours)]
	}
	list, err := a.named(ctx, first, q, shown)
	if err != nil {
		return err
	}
	for i, answer := range list {
		query := pageQuery{Key: answer.Key, Picture: a.pictures.of(answer.Key)}
		var label *int64
		if q.labels != nil {
			label = labelOf(q.labels[i])
			query.Class = classText(label, className(a.snap.Info().ClassNames, q.labels[i]))
		}
		if query.Key == "" {
			query.Key = fmt.Sprintf("query %d", answer.Query)
		}
		query.Answers = []pageAnswer{a.answer(label, answer.Neighbours)}
		a.page.Queries = append(a.page.Queries, query)
	}
	return nil
}

func (a *htmlAnswers) answer(label *int64, neighbours []neighbour) pageAnswer {
	list := pageAnswer{Name: a.snap.Bank()}
	for _, n := range neighbours {
		hit := pageHit{Picture: a.pictures.of(n.Key), Key: n.Key, Class: classText(n.Label, n.Class), Score: scoreText(n.Score), Verdict: verdict(label, n.Label)}
		list.Hits = append(list.Hits, hit)
	}
	list.judge()
	return list
}

// classText is the name of a class, else its number, "" without a label.
func classText(label *int64, name string) string {
	if label == nil || name != "" {
		return name
	}
	return strconv.FormatInt(*label, 10)
}

func scoreText(score float32) string { return strconv.FormatFloat(float64(score), 'f', 3, 32) }

func (a *htmlAnswers) finish(queries int64, took float64) error {
	info := a.snap.Info()
	a.page.Title = "Neighbours in " + info.Bank
	a.page.Intro = fmt.Sprintf("The nearest of %s of %d dimensions by %s, exact: every row%s was compared.", plural(info.Rows, "row"), info.Dim, metricText(a.options.Metric), a.filtered())
	a.page.Footer = "Written by membank " + version() + "."
	if a.left > 0 {
		a.page.Footer += fmt.Sprintf(" The page shows the first %d of %s; an .npz or .csv holds all.", pageQueries, pluralQueries(queries))
	}
	if a.cut {
		a.page.Footer += fmt.Sprintf(" It shows the first %d neighbours of a query.", pageNeighbours)
	}
	if a.pictures.full {
		a.page.Footer += fmt.Sprintf(" It holds %s of images; the keys of the rest are shown.", size(pageBytes))
	}
	seen := map[string]bool{}
	for _, q := range a.page.Queries {
		if q.Class != "" && !seen[q.Class] && len(seen) < 40 {
			seen[q.Class] = true
			a.page.Classes = append(a.page.Classes, q.Class)
		}
	}
	if err := a.page.render(a.file); err != nil {
		return err
	}
	if err := a.file.keep(); err != nil {
		return err
	}
	return a.wrote(queries, took)
}

// filtered says which rows --where left.
func (a *htmlAnswers) filtered() string {
	if a.where == "" {
		return ""
	}
	return " where " + a.where
}

func metricText(m index.Metric) string {
	if m == index.L2 {
		return "squared Euclidean distance"
	}
	return m.String()
}

func (a *htmlAnswers) abort() {
	a.file.discard()
	a.pictures.close()
}
