package eval

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"membank/simd"
	"membank/store"
)

// tokens writes a bank of rows with keys, and with attributes if there are any.
func tokens(t testing.TB, db *store.DB, bank string, m simd.Matrix, keys []string, labels []int64, attributes ...store.Attribute) *store.Snapshot {
	t.Helper()
	w, err := db.NewWriter(t.Context(), bank, m.Dim, store.WriterOptions{Mode: store.Replace})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if err := w.Append(t.Context(), store.Rows{Vectors: m, Keys: keys, Labels: labels, Attributes: attributes}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	return snapshot(t, db, bank)
}

func TestGeM(t *testing.T) {
	const images, each, dim = 4, 5, 6
	r := rand.New(rand.NewPCG(1, 2))
	m := simd.NewMatrix(images*each, dim)
	var keys []string
	var labels []int64
	var group store.Attribute
	group.Name = "image"
	for i := range m.Data {
		m.Data[i] = float32(r.NormFloat64())
	}
	for i := range m.Rows { // tokens of all images mixed
		token := fmt.Sprint(i / images)
		if i/images == 2 {
			token = "cls"
		}
		keys = append(keys, fmt.Sprintf("set#a/%d.jpg#%s", i%images, token))
		labels = append(labels, int64(i%images)*7)
		group.Values = append(group.Values, store.Int(int64(i%images)))
	}
	db := open(t)
	s := tokens(t, db, "tokens", m, keys, labels, group)
	for _, p := range []float64{1, 3, 4} {
		for _, class := range []string{"", "cls"} {
			for _, by := range []string{"", "image"} {
				if by != "" && class != "" { // the class token is told by the key
					continue
				}
				got, err := GeM{P: p, Class: class, Group: by}.Pool(t.Context(), s)
				if err != nil {
					t.Fatal(err)
				}
				if got.Rows() != images || got.labels[3] != 21 || by == "" && got.keys[1] != "set#a/1.jpg" {
					t.Fatalf("%d images %v with labels %v", got.Rows(), got.keys, got.labels)
				}
				for image := range images {
					for d := range dim {
						sum, n := 0.0, 0.0
						for token := range each {
							if token == 2 && class != "" {
								continue
							}
							sum += math.Pow(math.Max(float64(m.Row(token*images + image)[d]), 1e-6), p)
							n++
						}
						want, at := math.Pow(sum/n, 1/p), d
						if class != "" {
							at += dim
							if cls := got.rows.Row(image)[d]; cls != m.Row(2*images + image)[d] {
								t.Errorf("the class token of image %d has %v", image, cls)
							}
						}
						within(t, fmt.Sprint("p=", p, " image ", image), float64(got.rows.Row(image)[at]), want, 1e-6)
					}
				}
			}
		}
	}
	// Descriptors are ranked like any bank: an image finds itself first.
	pooled, err := GeM{}.Pool(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if f := retrieve(t, Retrieval{}, pooled, pooled, RunOptions{}); number(t, f.Results[0], "map_full") != 1 || !strings.Contains(f.Protocol, "GeM p=3") {
		t.Errorf("%+v", f)
	}
}

func TestGeMRefusals(t *testing.T) {
	db := open(t)
	m := matrix(1, 1, 2, 3)
	for _, c := range []struct {
		g      GeM
		keys   []string
		labels []int64
	}{
		{GeM{}, []string{"a#1", "a", "b#1"}, []int64{1, 1, 2}},
		{GeM{}, []string{"a#1", "a#2", "b#1"}, []int64{1, 2, 2}},
		{GeM{Class: "c"}, []string{"a#1", "a#c", "b#1"}, []int64{1, 1, 2}},
		{GeM{Class: "c"}, []string{"a#1", "a#c", "b#c"}, []int64{1, 1, 2}},
		{GeM{Group: "image"}, []string{"a#1", "a#2", "b#1"}, []int64{1, 1, 2}},
		{GeM{Memory: 16}, []string{"a#1", "a#2", "b#1"}, []int64{1, 1, 2}},
	} {
		s := tokens(t, db, "tokens", m, c.keys, c.labels)
		if _, err := c.g.Pool(t.Context(), s); !errors.Is(err, ErrGroup) {
			t.Errorf("%+v %v: %v", c.g, c.keys, err)
		}
	}
	s := tokens(t, db, "tokens", m, []string{"a#1", "a#2", "b#1"}, nil)
	if _, err := (GeM{P: -1}).Pool(t.Context(), s); !errors.Is(err, ErrProtocol) {
		t.Error(err)
	}
}
