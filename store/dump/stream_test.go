package dump_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/iotest"

	"membank/simd"
	"membank/store/dump"
	"membank/store/dump/dumptest"
)

func isFormat(err error) bool { return errors.Is(err, dump.ErrFormat) }

// known is an .npz's way of saying how long its members are before them, as numpy
// writes it to a file; archive/zip says it after them.
func known(t testing.TB, method uint16, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, m := range members {
		packed := m.body
		if method == zip.Deflate {
			var p bytes.Buffer
			one := zip.NewWriter(&p)
			w, _ := one.CreateHeader(&zip.FileHeader{Name: m.name, Method: method})
			w.Write(m.body)
			one.Close()
			r, err := zip.NewReader(bytes.NewReader(p.Bytes()), int64(p.Len()))
			if err != nil {
				t.Fatal(err)
			}
			raw, _ := r.File[0].OpenRaw()
			packed, _ = io.ReadAll(raw)
		}
		w, err := z.CreateRaw(&zip.FileHeader{Name: m.name, Method: method, CRC32: crc(m.body), CompressedSize64: uint64(len(packed)), UncompressedSize64: uint64(len(m.body))})
		if err != nil {
			t.Fatal(err)
		}
		w.Write(packed)
	}
	z.Close()
	return b.Bytes()
}

// streamBodies are bodies of every shape with the labels 7, −1 beside 2×2 features.
func streamBodies(t testing.TB) map[string][]byte {
	features := npy(1, f4("(2, 2)"), []byte("\x00\x00\x80\x3f\x00\x00\x00\x40\x00\x00\x40\x40\x00\x00\x80\x40"))
	columns := npy(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }", []byte("\x00\x00\x80\x3f\x00\x00\x40\x40\x00\x00\x00\x40\x00\x00\x80\x40"))
	labels := npy(1, "{'descr': '|i1', 'fortran_order': False, 'shape': (2,), }", []byte{7, 0xff})
	keys := npy(1, "{'descr': '|S2', 'fortran_order': False, 'shape': (2,), }", []byte("abc\x00"))
	members := []member{{"labels.npy", labels}, {"keys.npy", keys}, {"features.npy", features}}
	turned := []member{{"labels.npy", labels}, {"keys.npy", keys}, {"features.npy", columns}}
	return map[string][]byte{
		"npz, sizes behind":          npz(zip.Store, members...),
		"npz, deflated, behind":      npz(zip.Deflate, members...),
		"npz, sizes before":          known(t, zip.Store, members...),
		"npz, deflated, before":      known(t, zip.Deflate, members...),
		"npz, Fortran":               npz(zip.Store, turned...),
		"npz, Fortran and deflated":  known(t, zip.Deflate, turned...),
		"npz, with something beside": npz(zip.Deflate, append(members, member{"README.txt", []byte("hello")})...),
		"npz, features first":        npz(zip.Deflate, members[2], members[0], members[1]),
	}
}

func TestStreamsOfEveryShape(t *testing.T) {
	for name, body := range streamBodies(t) {
		for how, r := range map[string]io.Reader{
			"at once": bytes.NewReader(body), "byte by byte": iotest.OneByteReader(bytes.NewReader(body)), "eof with data": iotest.DataErrReader(bytes.NewReader(body)),
		} {
			t.Run(name+"/"+how, func(t *testing.T) {
				s, err := dump.NewStream("body", r, dump.StreamOptions{})
				if err != nil {
					t.Fatal(err)
				}
				seen := 0
				for {
					x, err := s.Next()
					if err == io.EOF {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					seen++
					switch x.Member() {
					case "labels":
						if got, err := x.AllInts(-1); err != nil || !slices.Equal(got, []int64{7, dump.NoLabel}) {
							t.Errorf("labels %v, %v", got, err)
						}
					case "keys":
						if got, err := x.AllStrings(); err != nil || !slices.Equal(got, []string{"ab", "c"}) {
							t.Errorf("keys %q, %v", got, err)
						}
					case "features":
						r, err := x.Embeddings()
						if err != nil {
							t.Fatal(err)
						}
						if m := rest(t, r); !slices.Equal(m.Data, []float32{1, 2, 3, 4}) {
							t.Errorf("features %v", m.Data)
						}
					}
				}
				if seen != 3 {
					t.Errorf("%d arrays", seen)
				}
			})
		}
	}
}

func rest(t testing.TB, r *dump.Reader) simd.Matrix {
	t.Helper()
	m := simd.NewMatrix(int(r.Rows()), r.Dim())
	for done := 0; done < m.Rows; {
		n, err := r.Next(context.Background(), m.Slice(done, min(done+3, m.Rows)))
		if err != nil {
			t.Fatal(err)
		}
		done += n
	}
	if n, err := r.Next(context.Background(), m); n != 0 || err != io.EOF {
		t.Fatalf("after the end %d, %v", n, err)
	}
	return m
}

// Every prefix of a body is an error, whatever was given out before it.
func TestAStreamCutAnywhereIsAnError(t *testing.T) {
	bodies := streamBodies(t)
	bodies["npy"] = npy(1, f4("(2, 2)"), make([]byte, 16))
	bodies["safetensors"] = tensors(`{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}`, make([]byte, 16))
	for name, body := range bodies {
		if err := drainStream(bytes.NewReader(body)); err != nil {
			t.Errorf("%s, whole: %v", name, err)
		}
		for n := range len(body) {
			if err := drainStream(bytes.NewReader(body[:n])); err == nil || !isFormat(err) {
				t.Errorf("%s, %d of %d bytes: %v", name, n, len(body), err)
			}
		}
		if err := drainStream(bytes.NewReader(append(bytes.Clone(body), 'x'))); err == nil || !isFormat(err) {
			t.Errorf("%s and one byte more: %v", name, err)
		}
		broken := errors.New("broken pipe")
		if err := drainStream(io.MultiReader(bytes.NewReader(body[:len(body)-1]), iotest.ErrReader(broken))); !errors.Is(err, broken) {
			t.Errorf("%s from a broken pipe: %v", name, err)
		}
	}
}

func TestMalformedStreams(t *testing.T) {
	x := npy(1, f4("(2, 2)"), make([]byte, 16))
	damaged := known(t, zip.Store, member{"x.npy", x})
	damaged[30+5+len(x)-1] ^= 1
	bomb := npy(1, f4("(4096, 1024)"), make([]byte, 16<<20))
	many := npz(zip.Store, member{"a.npy", x}, member{"b.npy", x})
	entry := bytes.Index(many, []byte("PK\x01\x02"))
	short := slices.Delete(bytes.Clone(many), entry, bytes.LastIndex(many, []byte("PK\x01\x02")))
	encrypted := npz(zip.Store, member{"a.npy", x})
	encrypted[6] |= 1
	for name, c := range map[string]struct {
		body []byte
		want string
	}{
		"nothing":          {nil, "body: is empty, 0 bytes"},
		"text":             {[]byte("hello there, this is no array"), "body: is neither .npy nor .npz nor .safetensors"},
		"gzip":             {[]byte("\x1f\x8b\x08\x00rest"), "is compressed with gzip"},
		"a pickle":         {[]byte("\x80\x04K\x01."), "is a Python pickle"},
		"checksum":         {damaged, "does not match its checksum"},
		"a bomb":           {npz(zip.Deflate, member{"x.npy", bomb}), "unpacks to more bytes than are allowed"},
		"twice":            {npz(zip.Store, member{"x.npy", x}, member{"x.npy", x}), `holds two members named "x.npy"`},
		"directory":        {short, "has 2 members and a directory of 1"},
		"encrypted":        {encrypted, "body[a]: is encrypted"},
		"torch":            {npz(zip.Store, member{"archive/data.pkl", []byte("x")}), "is a torch.save file"},
		"header too large": {npy(2, f4("(2, 2)"), nil)[:12], "ends after 0 of"},
		"impossible":       {npy(1, f4("(4294967296, 4294967296)"), nil), "impossible shape"},
		"huge":             {npy(1, f4("(1000000000, 1000)"), make([]byte, 100)), "promises 4000000000000 bytes of data, 100 are there"},
		"a path":           {npz(zip.Deflate, member{"../../etc/x.npy", x[:20]}), "body[../../etc/x]: ends after"},
		"objects":          {npy(1, "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", nil), "Python objects"},
		"large Fortran":    {npy(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (65536, 1024), }", nil), "is in Fortran order, column after column, and too large"},
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			if n := allocated(func() { err = drainStream(bytes.NewReader(c.body)) }); n > 24<<20 {
				t.Errorf("%d bytes allocated", n)
			}
			wantError(t, err, c.want)
		})
	}
}

// What a stream holds in memory does not grow with it.
func TestAStreamOfAGigabyteCostsMegabytes(t *testing.T) {
	if testing.Short() {
		t.Skip("128 MiB under -short is too much")
	}
	const rows, dim = 1 << 17, 256
	r, w := io.Pipe()
	go func() {
		z := dump.NewNPZWriter(w)
		a, err := z.Array("x", "<f4", rows, dim)
		part := make([]float32, 1024*dim)
		for range rows / 1024 {
			if err == nil {
				err = a.Float32(part)
			}
		}
		if err == nil {
			err = errors.Join(a.Close(), z.Close())
		}
		w.CloseWithError(err)
	}()
	if n := allocated(func() {
		if err := drainStream(r); err != nil {
			t.Error(err)
		}
	}); n > 16<<20 {
		t.Errorf("%d bytes allocated for %d", n, rows*dim*4)
	}
}

func TestStreamsOfTheReference(t *testing.T) {
	shared, ok := dumptest.Shared(t)
	if !ok {
		t.Skip("no shared reference data")
	}
	dir := filepath.Join(shared, "formats")
	want := expected(t, dir)
	for _, file := range []string{"f32_c.npy", "f32_bigendian.npy", "f32_fortran.npy", "uncompressed.npz", "compressed.npz", "features_labels.safetensors"} {
		f, err := os.Open(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		s, err := dump.NewStream(file, f, dump.StreamOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for {
			x, err := s.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if x.Kind() == 'i' {
				labels, err := x.AllInts(math.MinInt64)
				if err != nil || sha(t, labels) != want["sha256_labels_i64_le"] {
					t.Errorf("%s: labels %v", file, err)
				}
				continue
			}
			r, err := x.Embeddings()
			if err != nil {
				t.Fatal(err)
			}
			if got := sha(t, rest(t, r).Data); got != want["sha256_f32_le_c_order"] {
				t.Errorf("%s: SHA-256 %s", file, got)
			}
		}
	}
}

func crc(b []byte) uint32 { return crc32.ChecksumIEEE(b) }

func TestFeaturesOfAStream(t *testing.T) {
	x, y := npy(1, f4("(1, 2)"), make([]byte, 8)), npy(1, "{'descr': '|i1', 'fortran_order': False, 'shape': (1,), }", []byte{3})
	for name, c := range map[string]struct {
		body  []byte
		array string
		want  string // of the error; "": none
	}{
		"npy":        {x, "", ""},
		"npz":        {npz(zip.Store, member{"y.npy", y}, member{"x.npy", x}), "", ""},
		"npz, named": {npz(zip.Deflate, member{"y.npy", y}, member{"x.npy", x}, member{"z.npy", x}), "x", ""},
		"two":        {npz(zip.Store, member{"x.npy", x}, member{"z.npy", x}), "", "holds more than one 2-D float array, z among them"},
		"none":       {npz(zip.Store, member{"y.npy", y}), "", "holds no 2-D float array, only y (|i1 (1,))"},
		"not named":  {npz(zip.Store, member{"x.npy", x}), "z", `holds no array "z", only x (<f4 (1, 2))`},
		"labels":     {y, "", "holds int8 (|i1), and embeddings are"},
		"cut":        {npz(zip.Store, member{"x.npy", x})[:150], "", "zip archive"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := dump.NewStream("body", bytes.NewReader(c.body), dump.StreamOptions{})
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.Features(c.array)
			for m := simd.NewMatrix(2, 2); err == nil; {
				_, err = r.Next(context.Background(), m)
			}
			switch {
			case c.want == "" && err != io.EOF:
				t.Error(err)
			case c.want != "":
				wantError(t, err, c.want)
			}
		})
	}
}
