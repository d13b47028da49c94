package eval

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"membank/index"
)

// Metric is how near a neighbour is.
type Metric string

const (
	Cosine Metric = "cosine" // inner product of unit rows
	Dot    Metric = "dot"    // inner product of the rows as stored
	L2     Metric = "l2"     // Euclidean distance, of the rows as stored unless Normalise says otherwise
)

// Weight is what one neighbour adds to the vote of its class.
type Weight string

const (
	// Exp is exp((s-s₁)/T), s₁ being the similarity of the nearest neighbour.
	// The shift divides all votes of a query by one number, so the ranking is
	// that of exp(s/T) and of softmax(s/T), and nothing overflows. No preset
	// takes it with L2; there s is -d.
	Exp Weight = "exp((s-s1)/T)"

	// Count is 1: a majority vote.
	Count Weight = "1"

	// Inverse is 1/(d+Offset) of a distance: d = ‖q-x‖ with L2, 1-s with Cosine.
	// With Offset 0 rows at distance 0, where there are any, vote 1 and all
	// others 0, as in scikit-learn.
	Inverse Weight = "1/(d+offset)"
)

// All as a K lets every labelled row of the gallery vote.
const All = math.MaxInt

// NormaliseEps is torch's: a normalised row is x / max(‖x‖, 1e-12), and a zero
// row stays zero.
const NormaliseEps = 1e-12

// The orders that decide every tie, as the result records them.
const (
	NeighbourOrder = "similarity descending, then row ascending"
	ClassOrder     = "vote descending, then class ascending"
)

// Protocol is one way to score a bank with its neighbours, complete: two
// protocols that are equal give the same numbers.
type Protocol struct {
	Name      string  `json:"name"`                  // preset, and in brackets whatever departs from it
	Preset    string  `json:"preset"`                // the preset alone
	About     string  `json:"about"`                 // one line
	Source    string  `json:"source"`                // the code whose numbers it reproduces
	K         []int   `json:"-"`                     // ascending; All: every labelled row (JSON: see MarshalJSON)
	Metric    Metric  `json:"metric"`                //
	Normalise bool    `json:"normalise"`             // both sides divided by max(norm, NormaliseEps) first
	Weight    Weight  `json:"weight"`                //
	T         float64 `json:"temperature,omitempty"` // of Exp; 0 with the other weights
	Offset    float64 `json:"offset,omitempty"`      // of Inverse
}

var lists = []int{10, 20, 100, 200}

// presets, in the order a reader meets them. Where a row departs from its
// source, the departure is a defined order in place of an undefined one: torch
// leaves ties to the sort of the day, MSF shuffles them.
var presets = []Protocol{
	{Preset: "dino", K: lists, Metric: Cosine, Normalise: true, Weight: Exp, T: 0.07,
		About: "DINO's weighted vote, quoted at k=20", Source: "facebookresearch/dino eval_knn.py"},
	{Preset: "dinov2", K: lists, Metric: Cosine, Normalise: true, Weight: Exp, T: 0.07,
		About: "softmax over the largest k, prefixes for the rest: ranks as dino", Source: "facebookresearch/dinov2 eval/knn.py"},
	{Preset: "ibot", K: lists, Metric: Cosine, Normalise: true, Weight: Exp, T: 0.07,
		About: "as dino, on iBOT's features", Source: "bytedance/ibot evaluation/eval_knn.py"},
	{Preset: "instdisc", K: []int{200}, Metric: Cosine, Normalise: true, Weight: Exp, T: 0.07,
		About: "where the rule began: 128-d projections, ImageNet's temperature", Source: "zhirongw/lemniscate.pytorch test.py"},
	{Preset: "lightly", K: []int{200}, Metric: Cosine, Normalise: true, Weight: Exp, T: 0.1,
		About: "lightly's knn_predict and KNNClassifier defaults", Source: "lightly-ai/lightly utils/benchmarking"},
	{Preset: "moco-demo", K: []int{200}, Metric: Cosine, Normalise: true, Weight: Exp, T: 0.1,
		About: "MoCo's CIFAR notebook, on 128-d projections", Source: "facebookresearch/moco colab-notebook branch"},
	{Preset: "vissl", K: []int{200}, Metric: Dot, Weight: Exp, T: 0.1,
		About: "raw features by default, where the original's exp can overflow", Source: "facebookresearch/vissl utils/knn_utils.py"},
	{Preset: "solo-cos", K: []int{20}, Metric: Cosine, Normalise: true, Weight: Exp, T: 0.07,
		About: "solo-learn's offline vote", Source: "vturrisi/solo-learn utils/knn.py, distance_fx=cosine"},
	{Preset: "solo-l2", K: []int{20}, Metric: L2, Weight: Inverse, Offset: 1e-5,
		About: "solo-learn's online vote: 1/(d+1e-5) on raw features", Source: "vturrisi/solo-learn utils/knn.py, distance_fx=euclidean"},
	{Preset: "msf-1", K: []int{1}, Metric: Cosine, Normalise: true, Weight: Count,
		About: "the nearest neighbour's class", Source: "UMBCvision/MSF eval_knn.py -k 1"},
	{Preset: "msf-20", K: []int{20}, Metric: Cosine, Normalise: true, Weight: Count,
		About: "majority of 20, ties to the smaller class (the original: random)", Source: "UMBCvision/MSF eval_knn.py -k 20"},
	{Preset: "simsiam", K: []int{200}, Metric: Cosine, Normalise: true, Weight: Exp, T: 0.2,
		About: "as its authors describe it; code was not released", Source: "facebookresearch/simsiam issue 10"},
	{Preset: "paws", K: []int{All}, Metric: Cosine, Normalise: true, Weight: Exp, T: 0.1,
		About: "soft nearest neighbours: every labelled row votes", Source: "facebookresearch/suncet snn_eval.py"},
	{Preset: "sklearn", K: []int{5}, Metric: L2, Weight: Count,
		About: "KNeighborsClassifier's default: majority of 5 on raw features", Source: "scikit-learn neighbors, weights=uniform"},
	{Preset: "sklearn-distance", K: []int{5}, Metric: L2, Weight: Inverse,
		About: "KNeighborsClassifier with votes of 1/d", Source: "scikit-learn neighbors, weights=distance"},
}

// Protocols lists the presets, each as it runs when nothing is overridden.
func Protocols() []Protocol {
	list := slices.Clone(presets)
	for i := range list {
		list[i].Name, list[i].K = list[i].Preset, slices.Clone(list[i].K)
	}
	return list
}

// Switch is a flag that may be left to the preset.
type Switch uint8

const (
	AsPreset Switch = iota
	On
	Off
)

// Protocol resolves the preset and what overrides it. A number must not carry a
// name that is not its own, so every departure from the preset is in Name:
// "dino (k=5, T=0.1)". Some of a preset's own k values are no departure.
func (e KNN) Protocol() (Protocol, error) {
	name := e.Preset
	if name == "" {
		name = presets[0].Preset
	}
	at := slices.IndexFunc(presets, func(p Protocol) bool { return p.Preset == name })
	if at < 0 {
		return Protocol{}, fmt.Errorf("%w: %q is none of %s", ErrProtocol, name, strings.Join(presetNames(), ", "))
	}
	own := presets[at]
	p := own
	p.K = slices.Clone(own.K)
	if len(e.K) > 0 {
		p.K = slices.Compact(slices.Sorted(slices.Values(e.K)))
		if p.K[0] < 1 {
			return Protocol{}, fmt.Errorf("%w: k is %d, the least is 1", ErrProtocol, p.K[0])
		}
	}
	if e.T != 0 {
		if p.Weight != Exp {
			return Protocol{}, fmt.Errorf("%w: %s has no temperature, its neighbours weigh %s", ErrProtocol, name, p.Weight)
		}
		if !(e.T > 0) || math.IsInf(e.T, 0) {
			return Protocol{}, fmt.Errorf("%w: temperature is %v, it must be positive and finite", ErrProtocol, e.T)
		}
		p.T = e.T
	}
	if err := p.override(e.Metric, e.Normalise); err != nil {
		return Protocol{}, err
	}
	p.Name = p.named(own, e.LeaveOneOut)
	return p, nil
}

// override sets metric and normalisation. A metric given alone means what it
// means in a query: cosine normalises, dot and l2 take the rows as stored.
func (p *Protocol) override(m Metric, normalise Switch) error {
	switch m {
	case "":
	case Cosine:
		p.Metric, p.Normalise = Cosine, true
	case Dot, L2:
		p.Metric, p.Normalise = m, false
	default:
		return fmt.Errorf("%w: metric %q is none of cosine, dot, l2", ErrProtocol, m)
	}
	switch {
	case normalise == On:
		p.Normalise = true
		if p.Metric == Dot {
			p.Metric = Cosine
		}
	case normalise == Off && m == Cosine:
		return fmt.Errorf("%w: cosine without normalising is dot", ErrProtocol)
	case normalise == Off:
		p.Normalise = false
		if p.Metric == Cosine {
			p.Metric = Dot
		}
	}
	if p.Weight == Inverse && p.Metric == Dot {
		return fmt.Errorf("%w: %s weighs by distance, and dot is none (cosine and l2 are)", ErrProtocol, p.Preset)
	}
	return nil
}

// named is the preset's name with every departure from own in brackets.
func (p Protocol) named(own Protocol, leaveOneOut bool) string {
	var departs []string
	if slices.ContainsFunc(p.K, func(k int) bool { return !slices.Contains(own.K, k) }) {
		ks := make([]string, len(p.K))
		for i, k := range p.K {
			ks[i] = kName(k)
		}
		departs = append(departs, "k="+strings.Join(ks, ","))
	}
	if p.T != own.T {
		departs = append(departs, "T="+strconv.FormatFloat(p.T, 'g', -1, 64))
	}
	if p.Metric != own.Metric {
		departs = append(departs, "metric="+string(p.Metric))
	}
	// Cosine and dot say by themselves whether rows are normalised.
	if p.Normalise != own.Normalise && (p.Metric == L2 || p.Metric == own.Metric) {
		departs = append(departs, "normalise="+map[bool]string{true: "on", false: "off"}[p.Normalise])
	}
	if leaveOneOut {
		departs = append(departs, "leave-one-out")
	}
	if len(departs) == 0 {
		return p.Preset
	}
	return p.Preset + " (" + strings.Join(departs, ", ") + ")"
}

// search is the metric that finds the neighbours. Rows of unit length are
// nearest in L2 exactly when their cosine is largest.
func (p Protocol) search() index.Metric {
	switch {
	case p.Normalise:
		return index.Cosine
	case p.Metric == L2:
		return index.L2
	default:
		return index.Dot
	}
}

// SearchMetric is the metric that an index must be made for to serve the protocol.
func (p Protocol) SearchMetric() index.Metric { return p.search() }

func presetNames() []string {
	names := make([]string, len(presets))
	for i, p := range presets {
		names[i] = p.Preset
	}
	return names
}

func kName(k int) string {
	if k == All {
		return "all"
	}
	return strconv.Itoa(k)
}
