package index

import (
	"math"
	"testing"
)

func TestMetricNames(t *testing.T) {
	for _, m := range []Metric{Cosine, Dot, L2} {
		if got, err := ParseMetric(m.String()); got != m || err != nil {
			t.Errorf("%v: got %v, %v", m, got, err)
		}
	}
	if got, err := ParseMetric("L2"); got != L2 || err != nil {
		t.Errorf("L2: got %v, %v", got, err)
	}
	if _, err := ParseMetric("euclid"); err == nil {
		t.Error("euclid is no metric")
	}
}

func TestADistanceOfZeroHasNoSign(t *testing.T) {
	zero := float32(0)
	if s := L2.printed(-zero); math.Signbit(float64(s)) || s != 0 {
		t.Errorf("got %v", s)
	}
	if s := L2.printed(-2.5); s != 2.5 {
		t.Errorf("got %v", s)
	}
}

func TestOverflowIsForeseen(t *testing.T) {
	for _, c := range []struct {
		m           Metric
		query, bank float64
		want        bool
	}{
		{Cosine, 1e38, 1e38, false},
		{Cosine, 1, 1e39, true},
		{Dot, 1e19, 1e18, false},
		{Dot, 1e20, 1e19, true},
		{Dot, 1e38, 0, false},
		{L2, 1e19, 1, false},
		{L2, 1, 1e20, true},
	} {
		if got := c.m.overflows(c.query, c.bank); got != c.want {
			t.Errorf("%v, norms %g and %g: %v", c.m, c.query, c.bank, got)
		}
	}
}
