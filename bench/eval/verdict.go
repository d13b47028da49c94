package eval

import (
	"fmt"
	"strings"
)

// Verdict is a diagnosis in a word.
type Verdict string

const (
	Healthy             Verdict = "healthy"
	Weak                Verdict = "weak"
	DimensionalCollapse Verdict = "dimensional collapse"
	CompleteCollapse    Verdict = "complete collapse"
	Undetermined        Verdict = "undetermined" // too few rows
)

// Reason is one threshold that a figure crossed.
type Reason struct {
	Verdict   Verdict
	Figure    string
	Value     float64
	Threshold float64
	Below     bool   // the value is below the threshold, else above
	Says      string // what that means
	Source    string // of the figure's reading, and of the threshold
}

func (r Reason) String() string {
	side := "above"
	if r.Below {
		side = "below"
	}
	return fmt.Sprintf("%s: %s is %.4g, %s %.4g: %s [%s]", r.Verdict, r.Figure, r.Value, side, r.Threshold, r.Says, r.Source)
}

// fewest rows that a verdict is given on: with fewer, the rank of the rows says more
// of their number than of the encoder.
const fewest = 32

// judge compares the figures with thresholds. The literature says how to read each
// figure and where its ends lie, and mostly leaves the line to the reader: where it
// is drawn here is said, too.
func (d *Diagnosis) judge(rows int64, dim int) {
	check := func(v Verdict, figure string, below bool, threshold float64, says, source string) {
		value, ok := d.Lookup(figure)
		if ok && (below && value < threshold || !below && value > threshold) {
			d.Reasons = append(d.Reasons, Reason{v, figure, value, threshold, below, says, source})
		}
	}
	if rows >= fewest {
		check(CompleteCollapse, "per_dim_std_l2norm_times_sqrtD", true, 0.05, "unit rows hardly differ",
			"Chen and He 2021, SimSiam, figure 2: 0 when outputs collapse, near 1 when they do not; membank draws the line at a twentieth")
		check(CompleteCollapse, "uniform_t2_mean", false, -0.05, "the views of all rows lie on one spot",
			"Wang and Isola 2020: 0 when all points are one; membank draws the line at -0.05")
		most := float64(min(rows-1, int64(dim)))
		check(DimensionalCollapse, "rankme_centred", true, 0.1*most, fmt.Sprintf("rows vary along few of %.0f directions", most),
			"Jing et al. 2022 for the term, Garrido et al. 2023 for the rank; membank draws the line at a tenth")
		check(DimensionalCollapse, "dims_with_std_raw_lt_1e6", false, float64(dim)/2, "most dimensions are constant",
			"Jing et al. 2022; membank draws the line at one half")
		check(Weak, "mean_pairwise_cosine", false, 0.8, "rows lie in a narrow cone, as those of untrained networks do",
			"Liang et al. 2022, Mind the Gap, on the cone; membank draws the line between the 0.86 and 0.96 of two untrained encoders and the 0.56 to 0.77 of six trained ones")
		if d.Views != nil {
			t := d.Views.Losses[0].T
			check(Weak, fmt.Sprintf("infonce_T%g_bound_of_cap", t), true, 0.05, "views of one row are told from others hardly better than by chance",
				"van den Oord et al. 2018: 0 at chance, 1 at the most; membank draws the line at a twentieth")
		}
		d.judgeLabels()
	}
	d.Verdict = Healthy
	for i, r := range d.Reasons {
		if i == 0 || severity(r.Verdict) > severity(d.Verdict) {
			d.Verdict = r.Verdict
		}
	}
	told := []string{}
	for _, r := range d.Reasons {
		told = append(told, r.String())
	}
	if rows < fewest {
		d.Verdict = Undetermined
		told = append(told, fmt.Sprintf("fewer than %d rows (%d) are too few to judge by", fewest, rows))
	}
	d.add("verdict", string(d.Verdict), "")
	d.add("verdict_reasons", told, "")
}

// judgeLabels compares neighbours' votes with naming the commonest class.
func (d *Diagnosis) judgeLabels() {
	chance, ok := d.Lookup("commonest_class_share")
	for _, f := range d.Figures {
		if !ok || !strings.HasPrefix(f.Name, "knn_k") {
			continue
		}
		right, _ := f.Value.(float64)
		// A vote is weak when it removes less than a twentieth of the errors.
		if line := chance + 0.05*(1-chance); chance < 1 && right < line {
			d.Reasons = append(d.Reasons, Reason{Weak, f.Name, right, line, true, "neighbours say next to nothing about classes",
				"Wu et al. 2018, kNN as a check of features; membank draws the line a twentieth of the way from the commonest class to all right"})
		}
	}
}

func severity(v Verdict) int {
	switch v {
	case CompleteCollapse:
		return 3
	case DimensionalCollapse:
		return 2
	case Weak:
		return 1
	}
	return 0
}
