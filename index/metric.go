package index

import (
	"fmt"
	"math"
	"strings"

	"membank/store"
)

// Metric says what near means. Inside, larger is nearer for all three.
type Metric uint8

const (
	Cosine Metric = iota // ⟨q,x⟩ / (‖q‖·‖x‖); 0 with a zero vector
	Dot                  // ⟨q,x⟩
	L2                   // squared distance ‖q−x‖², smaller is nearer when printed
)

var metricNames = [...]string{Cosine: "cosine", Dot: "dot", L2: "l2"}

// ParseMetric is the inverse of String; case does not matter.
func ParseMetric(name string) (Metric, error) {
	for m, s := range metricNames {
		if strings.EqualFold(name, s) {
			return Metric(m), nil
		}
	}
	return 0, fmt.Errorf("no such metric: %q (known: %s)", name, strings.Join(metricNames[:], ", "))
}

func (m Metric) String() string {
	if int(m) < len(metricNames) {
		return metricNames[m]
	}
	return fmt.Sprintf("Metric(%d)", m)
}

// Epilogue fills the columns that make a kernel's ⟨q,x⟩ a score, for the lanes
// of b from the given one on: score = scale·⟨q,x⟩ + bias. A dead lane gets a
// bias of −Inf. It reports whether any lane is alive.
func (m Metric) Epilogue(scale, bias []float32, b *store.Block, from int) (alive bool) {
	dead := float32(math.Inf(-1))
	for i := range scale {
		lane := from + i
		scale[i], bias[i] = 1, 0
		switch {
		case b.Dead[lane]:
			bias[i] = dead
			continue
		case m == Cosine:
			scale[i] = b.Scale[lane]
		case m == L2:
			bias[i] = b.Bias[lane]
		}
		alive = true
	}
	return alive
}

// printed turns an internal score into the one of the contract, and back.
func (m Metric) printed(score float32) float32 {
	if m == L2 {
		return 0 - score // not -score: a distance of 0 has no sign
	}
	return score
}

// overflows says whether a chain or a score of this query could leave float32,
// for rows of norm maxNorm at most. By Cauchy and Schwarz no partial sum of
// ⟨q,x⟩ exceeds ‖q‖·‖x‖, nor one of ‖q−x‖² (‖q‖+‖x‖)²; the factor is for rounding.
func (m Metric) overflows(queryNorm, maxNorm float64) bool {
	var most float64
	switch m {
	case Cosine:
		most = maxNorm
	case Dot:
		most = queryNorm * maxNorm
	case L2:
		most = (queryNorm + maxNorm) * (queryNorm + maxNorm)
	}
	return most*1.01 > math.MaxFloat32
}
