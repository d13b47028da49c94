package dump_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"membank/store/dump"
	"membank/store/dump/dumptest"
)

var written = []struct {
	name  string
	data  any
	shape []int64
}{
	{"rows", []int64{3, 1, -1, 0, 2, 7}, []int64{2, 3}},
	{"scores", []float32{.5, .25, float32(math.Inf(-1)), 1, 2, 3}, []int64{2, 3}},
	{"keys", []string{"a", "été", "日本語", ""}, []int64{2, 2}},
	{"half", []uint16{0x3c00, 0x4100, 0xc200, 0x7bff}, []int64{2, 2}},
	{"double", []float64{0.1, 1e300}, nil},
	{"flags", []bool{true, false}, nil},
	{"small", []int32{-5, 9}, nil},
}

// Each member has the bytes that numpy's has.
func TestWritersWriteWhatNumpyWrites(t *testing.T) {
	var b bytes.Buffer
	z := dump.NewNPZWriter(&b)
	for _, a := range written {
		if err := z.Write(a.name, a.data, a.shape...); err != nil {
			t.Fatal(err)
		}
	}
	w, err := z.Array("scalar", "<f8")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Float64([]float64{2.5}), w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	ours := members(t, b.Bytes())
	text, err := os.ReadFile(dumptest.Testdata(t, "formats", "writer.npz"))
	if err != nil {
		t.Fatal(err)
	}
	theirs := members(t, text)
	for name, want := range theirs {
		if !bytes.Equal(ours[name], want) {
			t.Errorf("%s is\n%q, numpy writes\n%q", name, ours[name], want)
		}
	}
	if len(ours) != len(theirs) {
		t.Errorf("%d members, numpy has %d", len(ours), len(theirs))
	}
}

func members(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	m := map[string][]byte{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if m[f.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// numpy.save of numpy.array(b"csr") and of numpy.array([b"a", b"bcd"]).
func TestBytesAreWrittenAsNumpyDoes(t *testing.T) {
	var b bytes.Buffer
	w, err := dump.NewNPYWriter(&b, "|S3")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Bytes([]string{"csr"}), w.Close()); err != nil {
		t.Fatal(err)
	}
	want := "\x93NUMPY\x01\x00v\x00{'descr': '|S3', 'fortran_order': False, 'shape': (), }" + strings.Repeat(" ", 62) + "\ncsr"
	if b.String() != want {
		t.Errorf("got  %q\nwant %q", b.String(), want)
	}
	b.Reset()
	if w, err = dump.NewNPYWriter(&b, "|S3", 2); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Bytes([]string{"a", "bcd"}), w.Close()); err != nil || !strings.HasSuffix(b.String(), "\na\x00\x00bcd") {
		t.Errorf("%v %q", err, b.String())
	}
	for _, bad := range []string{"long", "a\x00"} {
		if w, err = dump.NewNPYWriter(io.Discard, "|S3", 1); err != nil || w.Bytes([]string{bad}) == nil {
			t.Errorf("%q passes (%v)", bad, err)
		}
	}
	if w, err = dump.NewNPYWriter(io.Discard, "|S3", 1); err != nil || w.Strings([]string{"a"}) == nil {
		t.Errorf("characters pass for bytes (%v)", err)
	}
}

func TestWrittenIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.npy")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := dump.NewNPYWriter(f, "<f4", 1000, 37)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]float32, 37000)
	for i := range want {
		want[i] = float32(i) * 0.1
	}
	for i := 0; i < len(want); i += 370 {
		if err := w.Float32(want[i : i+370]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if m, _, _ := readAll(t, path, dump.Options{}, 64); m.Rows != 1000 || !slices.Equal(m.Data, want) {
		t.Errorf("%d rows came back changed", m.Rows)
	}
}

// Floats pass the buffer by where they are many; in whatever pieces they come, the
// bytes are those of a loop.
func TestFloatsInPiecesOfEverySize(t *testing.T) {
	x := make([]float32, 50_000)
	for i := range x {
		x[i] = float32(i) * 0.7
	}
	for _, pieces := range [][]int{{50_000}, {1, 49_999}, {16_300, 100, 33_600}, {0, 25_000, 25_000}, {16_352, 16_384, 17_264}} {
		var b bytes.Buffer
		w, err := dump.NewNPYWriter(&b, "<f4", 50_000)
		at := 0
		for _, n := range pieces {
			if err == nil {
				err = w.Float32(x[at : at+n])
			}
			at += n
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		data := b.Bytes()[b.Len()-4*len(x):]
		for i, v := range x {
			if got := math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:])); got != v {
				t.Fatalf("pieces %v: element %d is %v, want %v", pieces, i, got, v)
			}
		}
	}
}

func TestWriterHoldsToItsShape(t *testing.T) {
	start := func(descr string, shape ...int64) *dump.NPYWriter {
		w, err := dump.NewNPYWriter(io.Discard, descr, shape...)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	if w := start("<f4", 2, 2); w.Float32(make([]float32, 3)) != nil || w.Close() == nil {
		t.Error("too few elements pass")
	}
	if start("<f4", 2).Float32(make([]float32, 3)) == nil {
		t.Error("too many elements pass")
	}
	if start("<f4", 2).Int64(make([]int64, 2)) == nil {
		t.Error("another type passes")
	}
	if start("<U2", 2).Strings([]string{"ab", "abc"}) == nil || start("<U2", 1).Strings([]string{"\xff"}) == nil {
		t.Error("a string that does not fit passes")
	}
	for _, shape := range [][]int64{{-1}, {1 << 40, 1 << 40}} {
		if _, err := dump.NewNPYWriter(io.Discard, "<f4", shape...); err == nil {
			t.Errorf("the shape %v passes", shape)
		}
	}
	if _, err := dump.NewNPYWriter(io.Discard, "<c8", 1); err == nil {
		t.Error("<c8 passes")
	}
	full := errors.New("full")
	if w, err := dump.NewNPYWriter(failing{full}, "<f4", 1<<20); err != nil || !errors.Is(w.Float32(make([]float32, 1<<20)), full) || !errors.Is(w.Close(), full) {
		t.Error("a failed write is not told")
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
