package cli

import (
	"fmt"
	"io"
	"math"
	"strconv"

	"membank/store"
	"membank/store/dump"
)

// writeFile writes labels and scores by row number, up to next, and the centroids.
func (w *clusterWork) writeFile(path string, next int64) error {
	file, err := createFile(path)
	if err != nil {
		return err
	}
	defer file.discard()
	labels, scores := make([]int64, next), make([]float32, next)
	for row := range labels {
		labels[row], scores[row] = -1, float32(math.NaN())
		if l := w.labels[row]; l != store.NoLabel {
			labels[row] = l
		}
	}
	for i, score := range w.result.Scores {
		scores[w.bank.Number(i)] = score
	}
	z := dump.NewNPZWriter(file)
	write := func(name string, data any, shape ...int64) {
		if err == nil {
			err = z.Write(name, data, shape...)
		}
	}
	c := w.result.Centroids
	write("labels", labels, next)
	write("scores", scores, next)
	write("centroids", c.Data[:c.Rows*c.Dim], int64(c.Rows), int64(c.Dim))
	if w.whitened != nil {
		rotation, mean := w.whitened.Rotation()
		write("rotation", rotation.Data, int64(rotation.Rows), int64(rotation.Dim))
		write("mean", mean, int64(len(mean)))
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		return fmt.Errorf("-o %s: %w", path, err)
	}
	return file.keep()
}

func printClustering(w io.Writer, r *clustering) {
	how := "by distance"
	if r.Spherical {
		how = "by cosine"
	}
	if r.PCA > 0 {
		how += fmt.Sprintf(", %d directions (%s) with %s %% of the variance", r.PCA, r.Whitening, percent(*r.KeptVariance))
	}
	ended := "not converged"
	if r.Converged {
		ended = "converged"
	}
	objective := strconv.FormatFloat(r.Objective, 'g', 7, 64)
	if r.MeanCosine != nil {
		objective += fmt.Sprintf(", mean cosine %.6f", *r.MeanCosine)
	}
	fields := [][2]string{
		{"clusters", fmt.Sprintf("%s of %s of %s, %s", plural(r.Clusters, "cluster"), plural(r.Rows, "row"), r.Bank, how)},
		{"objective", objective},
		{"iterations", fmt.Sprintf("%d, %s, %s each", r.Iterations, ended, seconds(r.PerIteration))},
		{"init", r.Init},
		{"sizes", fmt.Sprintf("%s to %s, median %g, imbalance %.3f", count(r.Smallest), count(r.Largest), r.Median, r.Imbalance)},
		{"empty", fmt.Sprintf("%s, %d resolved on the way", count(int64(r.Empty)), r.EmptyResolved)},
	}
	if r.InitRows > 0 && r.InitRows < r.Rows {
		fields[3][1] += fmt.Sprintf(" of a sample of %s", plural(r.InitRows, "row"))
	}
	if r.TrainRows < r.Rows {
		fields[2][1] += fmt.Sprintf(", on %s", plural(r.TrainRows, "row"))
	}
	if r.Against != "" {
		fields = append(fields, [2]string{"against " + r.Against, r.agreement.text()})
	}
	if r.Previous != nil {
		fields = append(fields, [2]string{"against before", fmt.Sprintf("%s; %s %% of rows changed", r.Previous.text(), percent(r.Previous.Changed))})
	}
	if r.Attribute != "" {
		fields = append(fields, [2]string{"attribute", r.Attribute})
	}
	if r.File != "" {
		fields = append(fields, [2]string{"file", r.File})
	}
	printFields(w, append(fields, [2]string{"time", seconds(r.Seconds)}))
}

func (a *agreement) text() string {
	if a.Missing != "" {
		return "nothing: " + a.Missing
	}
	text := fmt.Sprintf("NMI %.4f (arithmetic), AMI %.4f, ARI %.4f, purity %.4f", *a.NMI, *a.AMI, *a.ARI, *a.Purity)
	if a.Hungarian != nil {
		text += fmt.Sprintf(", Hungarian accuracy %.4f", *a.Hungarian)
	}
	return text
}
