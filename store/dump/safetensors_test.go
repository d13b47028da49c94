package dump_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"membank/simd"
	"membank/store/dump"
	"membank/store/dump/dumptest"
)

// tensors builds a safetensors file by hand.
func tensors(table string, data []byte) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(table))), table+string(data)...)
}

func TestSafetensorsOfTheReference(t *testing.T) {
	shared, ok := dumptest.Shared(t)
	if !ok {
		t.Skip("no shared reference data")
	}
	dir := filepath.Join(shared, "formats")
	want := expected(t, dir)
	path := filepath.Join(dir, "features_labels.safetensors")
	m, _, _ := readAll(t, path, dump.Options{}, 333)
	if got := sha(t, m.Data); got != want["sha256_f32_le_c_order"] {
		t.Errorf("features: SHA-256 %s", got)
	}
	if got := sha(t, dumptest.Labels(t, path)); got != want["sha256_labels_i64_le"] {
		t.Errorf("labels: SHA-256 %s", got)
	}
	path = filepath.Join(dir, "half_bf16_first100.safetensors")
	wantError(t, readFeatures(path, dump.Options{}), "holds more than one 2-D float array: f16 (F16 (100, 256)), bf16 (BF16 (100, 256)) (say which, by name)")
	half, _, _ := readAll(t, path, dump.Options{Array: "f16"}, 33)
	whole, _, _ := readAll(t, filepath.Join(dir, "f16.npy"), dump.Options{}, 1000)
	if !slices.Equal(half.Data, whole.Data[:100*256]) {
		t.Error("f16 differs from f16.npy")
	}
	brain, _, _ := readAll(t, path, dump.Options{Array: "bf16"}, 33)
	bits := make([]uint16, len(brain.Data))
	for i, v := range brain.Data {
		if math.Float32bits(v)&0xffff != 0 {
			t.Fatalf("element %d of bf16 has bits that bfloat16 has not", i)
		}
		bits[i] = uint16(math.Float32bits(v) >> 16)
	}
	if got := sha(t, bits); got != want["sha256_first100_bf16"] {
		t.Errorf("bf16: SHA-256 %s", got)
	}
}

func TestSafetensorsByHand(t *testing.T) {
	data := binary.LittleEndian.AppendUint32(nil, math.Float32bits(1.5))
	data = binary.LittleEndian.AppendUint32(data, math.Float32bits(-2))
	data = append(data, 0x80, 0x3f, 0x00, 0xc0, 7, 0xff) // bf16 1 and -2, two int8
	path := write(t, "x.safetensors", tensors(`{"f":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}, "b":{"dtype":"BF16","shape":[1,2],"data_offsets":[8,12]},
		"l":{"shape":[2],"data_offsets":[12,14],"dtype":"I8"},"e":{"dtype":"F8_E4M3","shape":[0],"data_offsets":[14,14]},"__metadata__":{"a":"b"}}   `, data))
	for name, want := range map[string][]float32{"f": {1.5, -2}, "b": {1, -2}} {
		if m, _, _ := readAll(t, path, dump.Options{Array: name}, 1); !slices.Equal(m.Data, want) {
			t.Errorf("%s: %v", name, m.Data)
		}
	}
	if got := labelsOf(t, path, dump.Options{}, 5); !slices.Equal(got, []int64{7, dump.NoLabel}) {
		t.Errorf("labels %v", got)
	}
	wantError(t, readFeatures(path, dump.Options{Array: "e"}), `x.safetensors[e]: has elements of type "F8_E4M3"`)
	wantError(t, readFeatures(path, dump.Options{Array: "x"}), `holds no tensor "x" (it holds f (F32 (1, 2)), b (BF16 (1, 2)), l (I8 (2,)), e (F8_E4M3 (0,)))`)
}

// malformedTensors are safetensors files that must be refused, and by which words.
var malformedTensors = map[string]struct {
	body []byte
	want string
}{
	"cut in the length":  {[]byte("\x10\x00\x00"), "ends after 3 bytes, inside the length"},
	"table of 2^63":      {[]byte("\xff\xff\xff\xff\xff\xff\xff\x7f{}"), "claims a safetensors table of 9223372036854775807 bytes"},
	"cut in the table":   {append(binary.LittleEndian.AppendUint64(nil, 100), "{}"...), "ends after 2 of 100 bytes of its safetensors table"},
	"not JSON":           {tensors(`{"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}`, nil), "is not JSON"},
	"an array":           {tensors(`[1]     `, nil), "does not begin with {"},
	"not UTF-8":          {tensors("{\"\xff\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[0,4]}}", make([]byte, 4)), "is not UTF-8"},
	"twice":              {tensors(`{"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1,1],"data_offsets":[4,8]}}`, make([]byte, 8)), `holds "a" twice`},
	"overlap":            {tensors(`{"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1,1],"data_offsets":[2,6]}}`, make([]byte, 6)), `lets "b" begin at byte 2, and the tensor before it ends at 4`},
	"hole":               {tensors(`{"a":{"dtype":"F32","shape":[1,1],"data_offsets":[4,8]}}`, make([]byte, 8)), `lets "a" begin at byte 4`},
	"too little":         {tensors(`{"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}`, make([]byte, 7)), "promises 8 bytes of data, 7 are there"},
	"too much":           {tensors(`{"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}`, make([]byte, 9)), "has 1 bytes after its last tensor"},
	"wrong size":         {tensors(`{"a":{"dtype":"F32","shape":[3,1],"data_offsets":[0,8]}}`, make([]byte, 8)), `gives "a" 8 bytes for (3, 1) of F32`},
	"negative":           {tensors(`{"a":{"dtype":"F32","shape":[-1,1],"data_offsets":[0,4]}}`, make([]byte, 4)), "the shape (-1, 1)"},
	"backwards":          {tensors(`{"a":{"dtype":"F32","shape":[1,1],"data_offsets":[4,0]}}`, make([]byte, 4)), "the bytes 4 to 0"},
	"impossible":         {tensors(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}`, make([]byte, 4)), "impossible shape"},
	"too large a number": {tensors(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,99999999999999999999]}}`, make([]byte, 4)), "by what is no dtype"},
	"dtype twice":        {tensors(`{"a":{"dtype":"F32","dtype":"F64","shape":[1],"data_offsets":[0,4]}}`, make([]byte, 4)), "by what is no dtype"},
	"no shape":           {tensors(`{"a":{"dtype":"F32","data_offsets":[0,4]}}`, make([]byte, 4)), "by what is no dtype"},
	"F8":                 {tensors(`{"a":{"dtype":"F8_E5M2","shape":[2,2],"data_offsets":[0,4]}}`, make([]byte, 4)), `has elements of type "F8_E5M2"`},
	"metadata":           {tensors(`{"__metadata__":{"a":1},"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}`, make([]byte, 4)), "metadata that are not strings"},
	"no tensors":         {tensors(`{}`, nil), "holds no tensors"},
	"no rows":            {tensors(`{"a":{"dtype":"F32","shape":[0,4],"data_offsets":[0,0]}}`, nil), "holds no rows"},
	"more after":         {tensors(`{"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}} x`, make([]byte, 4)), "goes on after its end"},
}

func TestMalformedSafetensors(t *testing.T) {
	for name, c := range malformedTensors {
		t.Run(name, func(t *testing.T) {
			path := write(t, "x.safetensors", c.body)
			var err error
			if n := allocated(func() { err = readFeatures(path, dump.Options{}) }); n > 1<<20 {
				t.Errorf("%d bytes allocated", n)
			}
			wantError(t, err, c.want)
		})
	}
}

func TestWrittenSafetensorsAreReadBack(t *testing.T) {
	var b bytes.Buffer
	features, labels := []float32{1, 2, 3, -0.5, float32(math.Inf(1)), 1e-40}, []int64{math.MinInt64 + 1, 9}
	err := dump.WriteSafetensors(&b, []dump.Tensor{{"labels", []int64{2}, labels}, {"features \"x\"", []int64{2, 3}, features}, {"half", []int64{1, 2}, []uint16{0x3c00, 0xc000}}},
		map[string]string{"format": "np"})
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, "x.safetensors", b.Bytes())
	if m, _, _ := readAll(t, path, dump.Options{Array: `features "x"`}, 2); !slices.Equal(m.Data, features) {
		t.Errorf("%v", m.Data)
	}
	if m, _, _ := readAll(t, path, dump.Options{Array: "half"}, 2); !slices.Equal(m.Data, []float32{1, -2}) {
		t.Errorf("%v", m.Data)
	}
	if got := labelsOf(t, path, dump.Options{}, 2); !slices.Equal(got, labels) {
		t.Errorf("%v", got)
	}
	for what, list := range map[string][]dump.Tensor{
		"two of a name": {{"a", []int64{1}, []int64{1}}, {"a", []int64{1}, []int64{1}}},
		"a wrong shape": {{"a", []int64{2}, []int64{1}}},
		"another type":  {{"a", []int64{1}, []int8{1}}},
		"the metadata":  {{"__metadata__", []int64{1}, []int64{1}}},
	} {
		if err := dump.WriteSafetensors(io.Discard, list, nil); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

func FuzzSafetensors(f *testing.F) {
	for _, c := range malformedTensors {
		f.Add(c.body)
	}
	f.Add(tensors(`{"f":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]},"l":{"dtype":"I8","shape":[2],"data_offsets":[8,10]}}`, make([]byte, 10)))
	fuzzFile(f, "x.safetensors", func(path string) error { return drain(path, dump.Options{}) })
}

// drainStream reads all arrays of a stream as whatever they are.
func drainStream(r io.Reader) error {
	s, err := dump.NewStream("body", r, dump.StreamOptions{Limit: 1 << 22})
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		x, err := s.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch small := x.Len() <= 1<<16 && x.Size() <= 1<<20; {
		case i%4 == 3: // passed over
		case x.Kind() == 'f' && len(x.Shape()) == 2:
			r, err := x.Embeddings()
			if err != nil {
				return err
			}
			m := simd.NewMatrix(max(1, 4096/r.Dim()), r.Dim())
			for {
				if _, err := r.Next(context.Background(), m); err == io.EOF {
					break
				} else if err != nil {
					return err
				}
			}
		case small && strings.ContainsRune("iub", rune(x.Kind())):
			if _, err := x.AllInts(-1); err != nil {
				return err
			}
		case small && strings.ContainsRune("US", rune(x.Kind())):
			if _, err := x.AllStrings(); err != nil {
				return err
			}
		}
	}
}

func FuzzStream(f *testing.F) {
	for _, c := range malformedTensors {
		f.Add(c.body)
	}
	for _, body := range streamBodies(f) {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var err error
		if n := allocated(func() { err = drainStream(bytes.NewReader(body)) }); n > 48<<20+uint64(len(body))*64 {
			t.Errorf("%d bytes allocated for %d", n, len(body))
		}
		if err != nil && !isFormat(err) {
			t.Errorf("%v (%T) is not an error about the format", err, err)
		}
	})
}
