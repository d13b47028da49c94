package store

import (
	"fmt"
	"math"
	"testing"

	"membank/simd"
)

// What goes in comes out, bit for bit, in every shape and through a reopen.
func TestRoundTripF32(t *testing.T) {
	for _, shape := range [][2]int{{1, 1}, {31, 7}, {33, 7}, {32, 256}, {1, 4096}, {33, 4096}, {5000, 256}, {40000, 1}} {
		t.Run(fmt.Sprintf("%dx%d", shape[0], shape[1]), func(t *testing.T) {
			db := create(t)
			rows, dim := shape[0], shape[1]
			in := Rows{Vectors: gaussian(rows, dim, 7), Keys: keysOf(rows), Labels: make([]int64, rows),
				Attributes: []Attribute{{"size", make([]Value, rows)}, {"split", make([]Value, rows)}}}
			in.Vectors.Data[0] = math.Float32frombits(0x80000000) // -0
			if len(in.Vectors.Data) > 2 {
				in.Vectors.Data[1] = math.Float32frombits(1) // the least denormal
			}
			for i := range rows {
				in.Labels[i] = int64(i%10) - 3
				if i%7 == 0 {
					in.Labels[i] = NoLabel
				}
				in.Attributes[0].Values[i] = Int(int64(i) * 1e9)
				switch i % 4 {
				case 1:
					in.Attributes[1].Values[i] = Text(fmt.Sprint("part ", i))
				case 2:
					in.Attributes[1].Values[i] = Float(float64(i) / 3)
				case 3:
					in.Attributes[1].Values[i] = Text("")
				}
			}
			if rows == 1 {
				in.Attributes = in.Attributes[:1] // an attribute that is null throughout is none
			}
			info := write(t, db, "a/b", in, WriterOptions{})
			if info.Rows != int64(rows) || info.Next != int64(rows) || info.Dim != dim || info.Generation != 1 {
				t.Errorf("%+v", info)
			}
			equalRows(t, all(t, db, "a/b"), in)
			db = reopen(t, db, Options{})
			equalRows(t, all(t, db, "a/b"), in)
			db = reopen(t, db, Options{ReadOnly: true})
			equalRows(t, all(t, db, "a/b"), in)
		})
	}
}

// An f16 bank gives back the nearest half of every element. The oracle converts
// through float64 arithmetic.
func TestRoundTripF16(t *testing.T) {
	db := create(t)
	in := Rows{Vectors: gaussian(3000, 37, 3)}
	write(t, db, "half", in, WriterOptions{DType: F16})
	got := all(t, db, "half")
	for i, x := range in.Vectors.Data {
		if want := nearestHalf(x); got.Vectors.Data[i] != want {
			t.Fatalf("element %d: %v became %v, want %v", i, x, got.Vectors.Data[i], want)
		}
	}
	s := snapshot(t, db, "half")
	err := s.NewReader().View(0, func(b *Block) error {
		row := make([]float32, b.Dim)
		for i := range b.Rows {
			simd.UnpackRow(row, b.Panels, i)
			sum := 0.0
			for _, x := range row {
				sum += float64(x) * float64(x)
			}
			if math.Abs(float64(b.Scale[i])*math.Sqrt(sum)-1) > 1e-6 || math.Abs(float64(b.Bias[i])/sum+0.5) > 1e-6 {
				t.Fatalf("row %d: scale %v bias %v of norm² %v", i, b.Scale[i], b.Bias[i], sum)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func nearestHalf(x float32) float32 {
	a := math.Abs(float64(x))
	exp := math.Floor(math.Log2(a))
	step := math.Exp2(math.Max(exp, -14) - 10)
	return float32(math.Copysign(math.RoundToEven(a/step)*step, float64(x)))
}
