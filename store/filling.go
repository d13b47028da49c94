package store

import (
	"context"
	"fmt"
	"math"

	"membank/simd"
)

// filling is a block that rows are added to. Its vectors are packed a panel at a
// time, while they are in the cache.
type filling struct {
	dtype       DType
	capacity    int         // rows of a full block
	value       []byte      // the panels record, as far as panels are whole
	panel       simd.Matrix // the rows of the panel being filled
	scratch     []float32   // of an f16 bank, that panel before it is narrowed
	half        []uint16    // of an f16 bank, one row
	first       int64       // position of the first row
	numbers     []int64     // row numbers; nil: first, first+1, …
	list        []int32     // of a grouped bank, ascending; nil: not known yet
	rows        int
	keyed       bool
	scale, bias []float32
	keys        []string
	labels      []int64
	attributes  map[string][]Value // shorter than rows where the last ones are null
	maxNorm     float64
}

func newFilling(dim int, t DType) *filling {
	f := &filling{dtype: t, capacity: blockRows(dim, t), panel: simd.NewMatrix(simd.PanelRows, dim), attributes: map[string][]Value{}}
	if t == F16 {
		f.scratch, f.half = make([]float32, simd.PanelRows*dim), make([]uint16, dim)
	}
	return f
}

// addVector copies x into the next row and computes its columns; addColumns must
// follow. An error leaves the filling as it was. Of an f16 bank the norm is that of
// the rounded values.
func (f *filling) addVector(x []float32) (zero bool, err error) {
	to := f.panel.Row(f.rows % simd.PanelRows)
	copy(to, x)
	if f.dtype == F16 {
		simd.NarrowHalf(f.half, to)
		simd.WidenHalf(to, f.half)
	}
	norm := simd.Norm(to)
	if !isFinite(norm) {
		return false, badVector(x, f.dtype)
	}
	f.maxNorm = max(f.maxNorm, norm)
	f.scale = append(f.scale, float32(1/max(norm, epsilon)))
	f.bias = append(f.bias, float32(-0.5*norm*norm))
	return norm == 0, nil
}

// badVector says what is wrong with a vector whose norm cannot be stored.
func badVector(x []float32, t DType) error {
	for i, v := range x {
		switch {
		case v != v:
			return fmt.Errorf("%w: element %d is NaN", ErrBadRow, i)
		case math.IsInf(float64(v), 0):
			return fmt.Errorf("%w: element %d is %v", ErrBadRow, i, v)
		case t == F16 && math.Abs(float64(v)) >= 65520:
			return fmt.Errorf("%w: element %d is %v, more than f16 can hold (65504)", ErrBadRow, i, v)
		}
	}
	return fmt.Errorf("%w: its norm %.3g is above %g, whose square a float32 cannot hold", ErrBadRow, simd.Norm(x), float64(maxNorm))
}

// addColumns completes the row that addVector began.
func (f *filling) addColumns(r Rows, i int, label int64) {
	if r.Keys != nil {
		f.keys = append(f.keys, r.Keys[i])
	}
	f.labels = append(f.labels, label)
	for _, a := range r.Attributes {
		if a.Values[i].IsNull() {
			continue
		}
		values := f.attributes[a.Name]
		for len(values) < f.rows {
			values = append(values, Value{})
		}
		f.attributes[a.Name] = append(values, a.Values[i])
	}
	f.added(1)
}

// added counts n rows that were put into the panel being filled, which n does not
// overrun.
func (f *filling) added(n int) {
	f.rows += n
	if f.rows%simd.PanelRows == 0 {
		f.pack(f.rows-simd.PanelRows, simd.PanelRows)
	}
}

// panels completes the panels record and returns it.
func (f *filling) panels() []byte {
	if rest := f.rows % simd.PanelRows; rest > 0 {
		f.pack(f.rows-rest, rest)
	}
	f.value = f.value[:panelsBytes(f.rows, f.panel.Dim, f.dtype)]
	return f.value
}

// pack puts rows of the panel being filled into the record, as those from first on.
func (f *filling) pack(first, rows int) {
	dim := f.panel.Dim
	if need := int(panelsBytes(f.capacity, dim, f.dtype)); cap(f.value) < need {
		f.value = make([]byte, need)
	}
	from, to := panelsBytes(first, dim, f.dtype), panelsBytes(first+rows, dim, f.dtype)
	encodePanels(f.value[from:to:to], f.scratch, f.panel.Slice(0, rows), f.dtype)
}

func (f *filling) reset() {
	clear(f.keys)
	*f = filling{dtype: f.dtype, capacity: f.capacity, value: f.value, panel: f.panel, scratch: f.scratch, half: f.half,
		numbers: f.numbers[:0], list: f.list[:0], scale: f.scale[:0], bias: f.bias[:0],
		keys: f.keys[:0], labels: f.labels[:0], attributes: map[string][]Value{}}
}

// feed fills one block after another and sends the full ones down a pipeline.
type feed struct {
	pipeline *pipeline
	filling  *filling // the block being filled; nil between blocks
	begins   int64    // position of the block that is being filled or comes next
}

// makeRoom sees to it that the filling can take a row. Rows with keys of their
// own and rows without never share a block.
func (d *feed) makeRoom(ctx context.Context, keyed bool) error {
	if f := d.filling; f != nil && f.rows > 0 && (f.rows == f.capacity || f.keyed != keyed) {
		if err := d.seal(ctx); err != nil {
			return err
		}
	}
	if d.filling == nil {
		f, err := d.pipeline.empty(ctx)
		if err != nil {
			return err
		}
		f.first = d.begins
		d.filling = f
	}
	d.filling.keyed = keyed
	return nil
}

// seal sends the filling off if there is anything in it.
func (d *feed) seal(ctx context.Context) error {
	f := d.filling
	if f == nil || f.rows == 0 {
		return nil
	}
	d.filling = nil
	d.begins += int64(f.rows)
	return d.pipeline.send(ctx, f)
}
