package dump_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"membank/simd"
	"membank/store/dump"
	"membank/store/dump/dumptest"
)

// readAll reads a file of embeddings in batches of the given size.
func readAll(t testing.TB, path string, o dump.Options, batch int) (m simd.Matrix, keys []string, labels []int64) {
	t.Helper()
	r, err := dump.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	part := simd.NewMatrix(batch, r.Dim())
	m.Dim = r.Dim()
	for {
		n, err := r.Next(context.Background(), part)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		m.Data = append(m.Data, part.Data[:n*m.Dim]...)
		m.Rows += n
		keys = append(keys, r.Keys()...)
		labels = append(labels, r.Labels()...)
	}
	if int64(m.Rows) != r.Rows() {
		t.Fatalf("%s: %d rows came of %d", path, m.Rows, r.Rows())
	}
	return m, keys, labels
}

func sha(t testing.TB, data any) string {
	t.Helper()
	h := sha256.New()
	if err := binary.Write(h, binary.LittleEndian, data); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func halves(m simd.Matrix) []uint16 {
	h := make([]uint16, len(m.Data))
	simd.NarrowHalf(h, m.Data)
	return h
}

func expected(t testing.TB, dir string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var e map[string]any
	if err := json.Unmarshal(text, &e); err != nil {
		t.Fatal(err)
	}
	return e
}

// Every layout of the same numbers gives the same numbers, for any batch size.
func TestFormats(t *testing.T) {
	dir := dumptest.Testdata(t, "formats")
	want := expected(t, dir)
	for file, key := range map[string]string{
		"f32_c.npy":                 "sha256_f32_le_c_order",
		"f32_fortran.npy":           "sha256_f32_le_c_order",
		"f32_bigendian.npy":         "sha256_f32_le_c_order",
		"f64.npy":                   "sha256_f32_le_c_order",
		"compressed.npz":            "sha256_f32_le_c_order",
		"uncompressed.npz":          "sha256_f32_le_c_order",
		"f32_header_v2.npy":         "sha256_first16_f32",
		"f32_header_v3.npy":         "sha256_first16_f32",
		"f64_bigendian_fortran.npy": "sha256_first16_f32",
		"compressed_fortran.npz":    "sha256_first16_f32",
		"uncompressed_fortran.npz":  "sha256_first16_f32",
		"features.csv":              "sha256_first16_f32",
		"f16.npy":                   "sha256_f16_as_f32",
		"f16_bigendian.npy":         "sha256_f16_as_f32",
		"f16_fortran.npy":           "sha256_first16_f16_as_f32",
	} {
		for _, batch := range []int{1, 7, 100} {
			t.Run(fmt.Sprint(file, "/", batch), func(t *testing.T) {
				m, _, _ := readAll(t, filepath.Join(dir, file), dump.Options{}, batch)
				if got := sha(t, m.Data); got != want[key] {
					t.Errorf("%d × %d with SHA-256 %s, want %s", m.Rows, m.Dim, got, want[key])
				}
			})
		}
	}
}

func TestSharedFormats(t *testing.T) {
	shared, ok := dumptest.Shared(t)
	if !ok {
		t.Skip("no shared reference data")
	}
	dir := filepath.Join(shared, "formats")
	want := expected(t, dir)
	for _, c := range []struct {
		file, key string
		half      bool
	}{
		{"f32_c.npy", "sha256_f32_le_c_order", false},
		{"f32_fortran.npy", "sha256_f32_le_c_order", false},
		{"f32_bigendian.npy", "sha256_f32_le_c_order", false},
		{"uncompressed.npz", "sha256_f32_le_c_order", false},
		{"compressed.npz", "sha256_f32_le_c_order", false},
		{"f32_header_v2.npy", "sha256_first100_f32", false},
		{"f64_first100.npy", "sha256_first100_f32", false},
		{"f16.npy", "sha256_f16_le", true},
	} {
		t.Run(c.file, func(t *testing.T) {
			m, _, _ := readAll(t, filepath.Join(dir, c.file), dump.Options{}, 333)
			var got string
			if c.half {
				got = sha(t, halves(m))
			} else {
				got = sha(t, m.Data)
			}
			if got != want[c.key] {
				t.Errorf("SHA-256 %s, want %s", got, want[c.key])
			}
		})
	}
	t.Run("first500.csv", func(t *testing.T) {
		whole, _, _ := readAll(t, filepath.Join(dir, "f32_c.npy"), dump.Options{}, 1000)
		m, keys, labels := readAll(t, filepath.Join(dir, "first500.csv"), dump.Options{}, 33)
		if m.Rows != 500 || sha(t, m.Data) != sha(t, whole.Data[:500*256]) {
			t.Errorf("%d rows differ from f32_c.npy", m.Rows)
		}
		if want := readKeys(t, filepath.Join(shared, "train_keys.txt"))[:500]; !slices.Equal(keys, want) {
			t.Errorf("keys %q …", keys[:3])
		}
		if want := dumptest.Labels(t, filepath.Join(dir, "labels_int64.npy"))[:500]; !slices.Equal(labels, want) {
			t.Errorf("labels %v …", labels[:10])
		}
	})
	for _, file := range []string{"labels_int8.npy", "labels_int16.npy", "labels_int32.npy", "labels_int32_be.npy", "labels_int64.npy", "labels_int64_be.npy", "labels_uint8.npy", "compressed.npz", "uncompressed.npz"} {
		if got := sha(t, dumptest.Labels(t, filepath.Join(dir, file))); got != want["sha256_labels_i64_le"] {
			t.Errorf("%s: SHA-256 %s, want %s", file, got, want["sha256_labels_i64_le"])
		}
	}
	for file, what := range map[string]string{
		"first500_list_snappy.parquet": "is a Parquet file",
		"first100.jsonl":               "is JSON",
		"first100.fvecs":               "is a vecs file",
		"raw_f32_first100.bin":         "is a binary file of a kind that is not read here",
	} {
		_, err := dump.Open(filepath.Join(dir, file), dump.Options{})
		wantError(t, err, what)
	}
}

func TestLabelsOfEveryWidth(t *testing.T) {
	dir := dumptest.Testdata(t, "formats")
	want := expected(t, dir)
	for _, file := range []string{
		"labels_int8.npy", "labels_int16.npy", "labels_int16_be.npy", "labels_int32.npy", "labels_int32_be.npy",
		"labels_int64.npy", "labels_int64_be.npy", "labels_uint8.npy", "labels_uint16.npy", "labels_uint16_be.npy",
		"labels_uint32.npy", "labels_uint32_be.npy", "labels_uint64.npy", "labels_uint64_be.npy",
		"compressed.npz", "uncompressed.npz",
	} {
		labels := dumptest.Labels(t, filepath.Join(dir, file))
		if got := sha(t, labels); got != want["sha256_labels_i64_le"] {
			t.Errorf("%s: %v", file, labels)
		}
	}
	whole := dumptest.Labels(t, filepath.Join(dir, "labels_int64.npy"))
	for i, v := range dumptest.Labels(t, filepath.Join(dir, "labels_bool.npy")) {
		if (v == 1) != (whole[i] > 4) || v&^1 != 0 {
			t.Fatalf("labels_bool.npy: row %d is %d", i, v)
		}
	}
	for _, c := range []struct {
		file string
		o    dump.Options
		want []int64
	}{
		{"odd_int8_negative.npy", dump.Options{}, []int64{-128, -2, 0, 127}},
		{"odd_int32_column_be.npy", dump.Options{}, []int64{0, -7, -14, -21, -28}},
		{"odd_int64_extremes.npy", dump.Options{}, []int64{math.MinInt64, dump.NoLabel, 0, 1, math.MaxInt64}},
		{"odd_int64_extremes.npy", dump.Options{NoLabel: ptr(dump.NoLabel)}, []int64{math.MinInt64, -1, 0, 1, math.MaxInt64}},
		{"odd_int64_extremes.npy", dump.Options{NoLabel: ptr(1)}, []int64{math.MinInt64, -1, 0, dump.NoLabel, math.MaxInt64}},
	} {
		if got := labelsOf(t, filepath.Join(dir, c.file), c.o, 2); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.file, got, c.want)
		}
	}
}

func ptr(v int64) *int64 { return &v }

func TestOddArrays(t *testing.T) {
	dir := dumptest.Testdata(t, "formats")
	want := expected(t, dir)
	for file, key := range map[string]string{"odd_f16_specials.npy": "f16_specials_as_f32", "odd_f64_rounding.npy": "f64_rounding_as_f32"} {
		m, _, _ := readAll(t, filepath.Join(dir, file), dump.Options{}, 3)
		for i, v := range want[key].([]any) {
			if got := fmt.Sprintf("%08x", math.Float32bits(m.Data[i])); got != v {
				t.Errorf("%s: element %d is %s, numpy says %s", file, i, got, v)
			}
		}
	}
	if m, _, _ := readAll(t, filepath.Join(dir, "odd_one_row_one_dim.npy"), dump.Options{}, 3); !slices.Equal(m.Data, []float32{1.5}) {
		t.Errorf("one number: %v", m)
	}
	if m, _, _ := readAll(t, filepath.Join(dir, "odd_column_fortran.npy"), dump.Options{}, 3); !slices.Equal(m.Data, []float32{0, 1, 2, 3, 4, 5, 6}) {
		t.Errorf("a column: %v", m)
	}
	wantText := []string{"cat", "Zebra", "été", "日本", "cat", "a b"}
	for _, file := range []string{"odd_strings.npy", "odd_strings_be.npy"} {
		if got := readKeys(t, filepath.Join(dir, file)); !slices.Equal(got, wantText) {
			t.Errorf("%s: %q", file, got)
		}
		// Sorted as Python sorts: Zebra, a b, cat, été, 日本.
		if got := labelsOf(t, filepath.Join(dir, file), dump.Options{}, 4); !slices.Equal(got, []int64{2, 0, 3, 4, 2, 1}) {
			t.Errorf("%s as labels: %v", file, got)
		}
	}
	if got := readKeys(t, filepath.Join(dir, "odd_bytes.npy")); !slices.Equal(got, []string{"cat", "dog", "cat"}) {
		t.Errorf("odd_bytes.npy: %q", got)
	}
	for _, file := range []string{"savetxt.txt", "savetxt.csv"} {
		m, _, _ := readAll(t, filepath.Join(dir, file), dump.Options{}, 3)
		whole, _, _ := readAll(t, filepath.Join(dir, "f32_c.npy"), dump.Options{}, 32)
		for i := range m.Rows {
			if m.Rows != 4 || !slices.Equal(m.Row(i), whole.Row(i)[:8]) {
				t.Errorf("%s: row %d of %d is %v", file, i, m.Rows, m.Row(i))
			}
		}
	}
}

// More rows than a batch of columns holds, at the largest dimension.
func TestFortranInSeveralBatches(t *testing.T) {
	const rows, dim = 80, 65536
	path := filepath.Join(t.TempDir(), "wide.npy")
	var b bytes.Buffer
	b.Write(npy(1, fmt.Sprintf("{'descr': '<f2', 'fortran_order': True, 'shape': (%d, %d), }", rows, dim), nil))
	value := func(i, j int) float32 { return float32((i*31 + j*7) % 2048) }
	column := make([]float32, rows)
	half := make([]uint16, rows)
	for j := range dim {
		for i := range column {
			column[i] = value(i, j)
		}
		simd.NarrowHalf(half, column)
		binary.Write(&b, binary.LittleEndian, half)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	m, _, _ := readAll(t, path, dump.Options{}, 23)
	for i := range rows {
		for j, got := range m.Row(i) {
			if got != value(i, j) {
				t.Fatalf("row %d, column %d: %v, want %v", i, j, got, value(i, j))
			}
		}
	}
}

func TestNextStopsWhenCancelled(t *testing.T) {
	for _, file := range []string{"f32_c.npy", "f32_fortran.npy", "compressed.npz", "features.csv"} {
		r, err := dump.Open(dumptest.Testdata(t, "formats", file), dump.Options{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if n, err := r.Next(ctx, simd.NewMatrix(8, r.Dim())); n != 0 || err != context.Canceled {
			t.Errorf("%s: %d, %v", file, n, err)
		}
		r.Close()
	}
}

func readKeys(t testing.TB, path string) []string {
	t.Helper()
	k, err := dump.OpenKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	var keys []string
	for part := make([]string, 3); ; {
		n, err := k.Next(part)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, part[:n]...)
	}
	if int64(len(keys)) != k.Rows() {
		t.Fatalf("%s: %d keys came of %d", path, len(keys), k.Rows())
	}
	return keys
}

func labelsOf(t testing.TB, path string, o dump.Options, batch int) []int64 {
	t.Helper()
	l, err := dump.OpenLabels(path, o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var labels []int64
	for part := make([]int64, batch); ; {
		n, err := l.Next(part)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		labels = append(labels, part[:n]...)
	}
	if int64(len(labels)) != l.Rows() {
		t.Fatalf("%s: %d labels came of %d", path, len(labels), l.Rows())
	}
	return labels
}

// The checksum is that of the file's bytes, whatever the batches and the type; what
// is not read front to back has none.
func TestChecksumOfTheFile(t *testing.T) {
	dir := dumptest.Testdata(t, "formats")
	for file, sums := range map[string]bool{
		"f32_c.npy": true, "f32_bigendian.npy": true, "f64.npy": true, "f16.npy": true, "f32_header_v3.npy": true,
		"f32_fortran.npy": false, "uncompressed.npz": false, "features.csv": false,
	} {
		for _, batch := range []int{1, 7, 100} {
			path := filepath.Join(dir, file)
			r, err := dump.Open(path, dump.Options{Checksum: true})
			if err != nil {
				t.Fatal(err)
			}
			for m := simd.NewMatrix(batch, r.Dim()); err == nil; {
				_, err = r.Next(t.Context(), m)
			}
			if err != io.EOF {
				t.Fatal(err)
			}
			if r.SumsUp() != sums {
				t.Errorf("%s: sums up: %v", file, r.SumsUp())
			}
			if data, _ := os.ReadFile(path); sums {
				if size, crc := r.Checksum(); size != int64(len(data)) || crc != crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)) {
					t.Errorf("%s in batches of %d: %d bytes, %08x", file, batch, size, crc)
				}
			}
			r.Close()
		}
	}
}
