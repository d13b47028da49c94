package eval

import (
	"errors"
	"math"
	"testing"

	"membank/simd"
)

// Perturbed rows against a count in float64 over all pairs, and radii against turning.
func TestRobustness(t *testing.T) {
	db := open(t)
	gallery, queries := dense(120, 5, 1), dense(40, 5, 2)
	classes := func(n int) []int64 {
		l := make([]int64, n)
		for i := range l {
			l[i] = int64(i % 3)
		}
		return l
	}
	moved := simd.NewMatrix(queries.Rows, queries.Dim)
	noise := dense(40, 5, 3)
	for i := range moved.Data {
		moved.Data[i] = queries.Data[i] + noise.Data[i]*0.4
	}
	train := set(t, write(t, db, "train", gallery, classes(120)))
	clean := set(t, write(t, db, "clean", queries, classes(40)))
	fog := set(t, write(t, db, "fog", moved, classes(40)))
	const k = 7
	var radii []Radius
	e := Robustness{KNN: KNN{Preset: "msf-20", K: []int{k}}, Pool: 30, Each: func(r Radius) { radii = append(radii, r) }}
	r, err := e.Evaluate(t.Context(), train, clean, []Perturbed{{clean, "none", "1"}, {fog, "fog", "1"}}, RunOptions{Threads: 2, Memory: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	decide := func(q []float32) (class int, first []int) {
		first, _ = ranked(q, gallery, -1)
		first = first[:k]
		var votes [3]int
		for _, i := range first {
			votes[i%3]++
		}
		for c, v := range votes {
			if v > votes[class] {
				class = c
			}
		}
		return class, first
	}
	var right, before, flipped, kept, nearest float64
	for i := range queries.Rows {
		was, rows := decide(queries.Row(i))
		is, now := decide(moved.Row(i))
		if is == i%3 {
			right++
		}
		if was == i%3 {
			before++
		}
		if is != was {
			flipped++
		}
		if rows[0] == now[0] {
			nearest++
		}
		for _, a := range rows {
			for _, b := range now {
				if a == b {
					kept++
				}
			}
		}
	}
	for name, want := range map[string]float64{
		"top1": right / 40, "drop": (before - right) / 40, "flipped": flipped / 40, "neighbours_kept": kept / 40 / k, "nearest_kept": nearest / 40,
	} {
		if got, _ := r.Results[2].Lookup(name); math.Abs(got-want) > 1e-12 {
			t.Errorf("%s %v, want %v", name, got, want)
		}
	}
	if drop, _ := r.Results[1].Lookup("drop"); drop != 0 {
		t.Errorf("the clean rows again lose %v", drop)
	}
	if mean, _ := r.Overall.Lookup("mean_error"); math.Abs(mean-(1-before/40+1-right/40)/2) > 1e-12 || len(r.Corruptions) != 2 {
		t.Errorf("mean error %v of %v", mean, r.Corruptions)
	}
	if flipped == 0 || kept == 40*k || len(radii) != 40 {
		t.Fatalf("%v flipped, %v kept, %d radii: nothing was tried", flipped, kept, len(radii))
	}
	for i, radius := range radii {
		q := unit(queries.Row(i))
		order, _ := ranked(queries.Row(i), gallery, -1)
		all := make([][]float64, len(order))
		for j, row := range order {
			all[j] = unit(gallery.Row(row))
		}
		want, rival := nearestRadius(q, all, true)
		if int(radius.Nearest) != order[0] || radius.Within > want.Flip+1e-12 || radius.Exact && (radius.Flip != want.Flip || int(radius.Rival) != order[rival]) {
			t.Errorf("query %d: %+v, of all rows %+v", i, radius, want)
		}
	}
	strange := set(t, write(t, db, "strange", dense(50, 5, 3), classes(50)))
	for name, c := range map[string]struct {
		e    Robustness
		with []Perturbed
		want error
	}{
		"keys of others": {Robustness{}, []Perturbed{{strange, "x", ""}}, ErrPerturbed},
		"two k":          {Robustness{KNN: KNN{K: []int{1, 2}}}, nil, ErrProtocol},
		"radii of l2":    {Robustness{KNN: KNN{Preset: "solo-l2"}}, nil, ErrProtocol},
		"leave-one-out":  {Robustness{KNN: KNN{LeaveOneOut: true}}, nil, ErrProtocol},
	} {
		if _, err := c.e.Evaluate(t.Context(), train, clean, c.with, RunOptions{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
