package eval

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestPresetsAreTheTable(t *testing.T) {
	type row struct {
		k         []int
		metric    Metric
		normalise bool
		weight    Weight
		t, offset float64
	}
	four := []int{10, 20, 100, 200}
	want := map[string]row{
		"dino":             {four, Cosine, true, Exp, 0.07, 0},
		"dinov2":           {four, Cosine, true, Exp, 0.07, 0},
		"ibot":             {four, Cosine, true, Exp, 0.07, 0},
		"instdisc":         {[]int{200}, Cosine, true, Exp, 0.07, 0},
		"lightly":          {[]int{200}, Cosine, true, Exp, 0.1, 0},
		"moco-demo":        {[]int{200}, Cosine, true, Exp, 0.1, 0},
		"vissl":            {[]int{200}, Dot, false, Exp, 0.1, 0},
		"solo-cos":         {[]int{20}, Cosine, true, Exp, 0.07, 0},
		"solo-l2":          {[]int{20}, L2, false, Inverse, 0, 1e-5},
		"msf-1":            {[]int{1}, Cosine, true, Count, 0, 0},
		"msf-20":           {[]int{20}, Cosine, true, Count, 0, 0},
		"simsiam":          {[]int{200}, Cosine, true, Exp, 0.2, 0},
		"paws":             {[]int{All}, Cosine, true, Exp, 0.1, 0},
		"sklearn":          {[]int{5}, L2, false, Count, 0, 0},
		"sklearn-distance": {[]int{5}, L2, false, Inverse, 0, 0},
	}
	list := Protocols()
	if len(list) != len(want) {
		t.Errorf("%d presets, want %d", len(list), len(want))
	}
	for _, p := range list {
		w := want[p.Preset]
		if !slices.Equal(p.K, w.k) || p.Metric != w.metric || p.Normalise != w.normalise || p.Weight != w.weight || p.T != w.t || p.Offset != w.offset {
			t.Errorf("%s is %+v, want %+v", p.Preset, p, w)
		}
		if p.Name != p.Preset || p.About == "" || p.Source == "" {
			t.Errorf("%s: name %q, about %q, source %q", p.Preset, p.Name, p.About, p.Source)
		}
		resolved, err := KNN{Preset: p.Preset}.Protocol()
		if err != nil || resolved.Name != p.Preset {
			t.Errorf("%s alone resolves to %q, %v", p.Preset, resolved.Name, err)
		}
	}
	list[0].K[0] = 99
	if Protocols()[0].K[0] != 10 {
		t.Error("a caller can change a preset")
	}
}

func TestNamesSayWhatDeparts(t *testing.T) {
	for _, c := range []struct {
		e    KNN
		want string
	}{
		{KNN{}, "dino"},
		{KNN{Preset: "dino", K: []int{5}, T: 0.1}, "dino (k=5, T=0.1)"},
		{KNN{K: []int{20}}, "dino"}, // one of its own
		{KNN{K: []int{200, 20, 20}, T: 0.07}, "dino"},
		{KNN{K: []int{20, 5}}, "dino (k=5,20)"},
		{KNN{K: []int{All}}, "dino (k=all)"},
		{KNN{Metric: Cosine, Normalise: On}, "dino"},
		{KNN{Normalise: Off}, "dino (metric=dot)"},
		{KNN{Metric: L2}, "dino (metric=l2, normalise=off)"},
		{KNN{Metric: L2, Normalise: On}, "dino (metric=l2)"},
		{KNN{Preset: "vissl", Normalise: On}, "vissl (metric=cosine)"},
		{KNN{Preset: "vissl", T: 0.07}, "vissl (T=0.07)"},
		{KNN{Preset: "solo-l2", Normalise: On}, "solo-l2 (normalise=on)"},
		{KNN{Preset: "solo-l2", Metric: Cosine}, "solo-l2 (metric=cosine)"},
		{KNN{Preset: "msf-20", K: []int{5}, Metric: Dot, LeaveOneOut: true}, "msf-20 (k=5, metric=dot, leave-one-out)"},
		{KNN{LeaveOneOut: true}, "dino (leave-one-out)"},
	} {
		p, err := c.e.Protocol()
		if err != nil || p.Name != c.want {
			t.Errorf("%+v is named %q (%v), want %q", c.e, p.Name, err, c.want)
		}
	}
}

func TestKIsSortedAndOnce(t *testing.T) {
	e := KNN{K: []int{200, 20, 5, 20}}
	if p, err := e.Protocol(); err != nil || !slices.Equal(p.K, []int{5, 20, 200}) || e.K[0] != 200 {
		t.Errorf("k is %v (%v), and the caller's %v", p.K, err, e.K)
	}
}

func TestProtocolRefuses(t *testing.T) {
	for _, c := range []struct {
		e     KNN
		names string // a word of the message
	}{
		{KNN{Preset: "dino3"}, "solo-cos"},
		{KNN{K: []int{0}}, "k is 0"},
		{KNN{K: []int{20, -1}}, "k is -1"},
		{KNN{T: -0.1}, "positive"},
		{KNN{Preset: "msf-20", T: 0.1}, "no temperature"},
		{KNN{Preset: "solo-l2", T: 0.1}, "no temperature"},
		{KNN{Metric: "euclid"}, "cosine, dot, l2"},
		{KNN{Metric: Cosine, Normalise: Off}, "dot"},
		{KNN{Preset: "solo-l2", Metric: Dot}, "distance"},
	} {
		if _, err := c.e.Protocol(); !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), c.names) {
			t.Errorf("%+v: %v, want an ErrProtocol with %q", c.e, err, c.names)
		}
	}
}

func TestProtocolJSON(t *testing.T) {
	p, err := KNN{Preset: "paws"}.Protocol()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"name": "paws", "preset": "paws", "metric": "cosine", "normalise": true, "normalise_eps": 1e-12,
		"temperature": 0.1, "weight": "exp((s-s1)/T)", "neighbour_order": NeighbourOrder, "class_order": ClassOrder,
	} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	if ks, ok := got["k"].([]any); !ok || len(ks) != 1 || ks[0] != "all" {
		t.Errorf("k is %v, want [all]", got["k"])
	}
}
