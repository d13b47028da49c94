package dump_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"membank/simd"
	"membank/store/dump"
	"membank/store/dump/dumptest"
)

// npy builds a file from a header text, which it pads as numpy does.
func npy(version int, text string, payload []byte) []byte {
	b := []byte("\x93NUMPY")
	b = append(b, byte(version), 0)
	lead := 10
	if version > 1 {
		lead = 12
	}
	text += strings.Repeat(" ", 63-(lead+len(text))%64) + "\n"
	if version > 1 {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	} else {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(text)))
	}
	return append(append(b, text...), payload...)
}

func f4(shape string) string {
	return "{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + ", }"
}

type member struct {
	name string
	body []byte
}

func npz(method uint16, members ...member) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, m := range members {
		w, _ := z.CreateHeader(&zip.FileHeader{Name: m.name, Method: method})
		w.Write(m.body)
	}
	z.Close()
	return b.Bytes()
}

// write puts a file with the extension of name into a directory of the test.
func write(t testing.TB, name string, body []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantError checks that err is one of ours, about content, and says what.
func wantError(t testing.TB, err error, what string) {
	t.Helper()
	var e *dump.Error
	switch {
	case err == nil:
		t.Errorf("no error, want %q", what)
	case !errors.As(err, &e) || !errors.Is(err, dump.ErrFormat):
		t.Errorf("%v is not a *dump.Error about the format", err)
	case !strings.Contains(err.Error(), what):
		t.Errorf("the error is\n\t%v\nwant in it\n\t%s", err, what)
	case e.Path == "" || strings.Contains(e.Error(), "\n"):
		t.Errorf("%q is not one line with the path first", err)
	}
}

// readFeatures opens and reads to the end.
func readFeatures(path string, o dump.Options) error {
	r, err := dump.Open(path, o)
	if err != nil {
		return err
	}
	defer r.Close()
	m := simd.NewMatrix(max(1, min(100, 1<<20/r.Dim())), r.Dim())
	for {
		if _, err := r.Next(context.Background(), m); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

const cast = "(np.save(path, x.astype(np.float32)))"

func TestMalformedArrays(t *testing.T) {
	good := npy(1, f4("(2, 2)"), make([]byte, 16))
	lead := func(version byte, length ...byte) []byte {
		return append([]byte("\x93NUMPY"), append([]byte{version, 0}, length...)...)
	}
	cases := map[string]struct {
		body []byte
		want string
	}{
		"1 byte":                   {good[:1], "ends after 1 bytes, inside the .npy magic (the file is cut short"},
		"5 bytes":                  {good[:5], "ends after 5 bytes, inside the .npy magic"},
		"6 bytes":                  {good[:6], "ends after 6 bytes, inside the .npy magic"},
		"7 bytes":                  {good[:7], "ends after 7 bytes, inside the .npy magic"},
		"8 bytes":                  {good[:8], "ends inside the .npy header (the file is cut short"},
		"9 bytes":                  {good[:9], "ends inside the .npy header"},
		"half a header":            {good[:60], "ends after 50 of 118 bytes of the .npy header"},
		"version 4":                {lead(4, 0, 0, 0, 0), "is .npy version 4.0, and 1.0, 2.0 and 3.0 are known"},
		"version 0":                {lead(0, 0, 0, 0, 0), "is .npy version 0.0"},
		"parentheses":              {append(lead(1, 0xff, 0xff), strings.Repeat("(", 65535)...), "the .npy header does not end in a newline"},
		"parentheses newline":      {append(lead(1, 0xff, 0xff), strings.Repeat("(", 65534)+"\n"...), "the .npy header has \"((((((((((((((((((((((((((((((((((((((((\"… where '{' belongs"},
		"nested shape":             {npy(1, f4(strings.Repeat("(", 1000)), nil), "where a size belongs"},
		"4 GiB header":             {append(lead(2, 0xff, 0xff, 0xff, 0xff), "{}"...), "claims an .npy header of 4294967295 bytes, and 65536 is the most"},
		"empty header":             {lead(1, 0, 0), "the .npy header does not end in a newline"},
		"empty dict":               {npy(1, "{}", nil), "the .npy header lacks \"descr\""},
		"no shape":                 {npy(1, "{'descr': '<f4', 'fortran_order': False}", nil), "the .npy header lacks \"shape\""},
		"two shapes":               {npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1), 'shape': (2, 2)}", nil), "the .npy header has \"shape\" twice"},
		"unknown key":              {npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1), 'x': 1}", nil), "the .npy header has the unknown key \"x\""},
		"code":                     {npy(1, "__import__('os').system('true')", nil), "where '{' belongs"},
		"code in shape":            {npy(1, f4("(1, len('x'))"), nil), "where a size belongs"},
		"expression":               {npy(1, f4("(1+1, 2)"), nil), "where ',' or ')' belongs"},
		"after the end":            {npy(1, f4("(1, 1)")+"{", nil), "the .npy header goes on after its end: \"{\""},
		"no comma":                 {npy(1, "{'descr': '<f4' 'fortran_order': False, 'shape': (1, 1)}", nil), "where ',' belongs"},
		"escape":                   {npy(1, `{'d\x65scr': '<f4'}`, nil), "where a plain string belongs"},
		"fortran_order 1":          {npy(1, "{'descr': '<f4', 'fortran_order': 1, 'shape': (1, 1)}", nil), "where True or False belongs"},
		"float size":               {npy(1, f4("(1.0, 2)"), nil), "where ',' or ')' belongs"},
		"a number for a shape":     {npy(1, f4("5"), nil), "where '(' belongs"},
		"no tuple":                 {npy(1, f4("(5)"), nil), "the shape is a number, not a tuple"},
		"unfinished":               {npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,", nil), "where a size belongs"},
		"33 dimensions":            {npy(1, f4("("+strings.Repeat("1, ", 33)+")"), nil), "claims more than 32 dimensions"},
		"(2^32, 2^32)":             {npy(1, f4("(4294967296, 4294967296)"), make([]byte, 100)), "claims the impossible shape (4294967296, 4294967296) (the header is damaged"},
		"(2^61, 1)":                {npy(1, f4("(2305843009213693952, 1)"), make([]byte, 100)), "claims the impossible shape (2305843009213693952, 1)"},
		"(2^64, 1)":                {npy(1, f4("(18446744073709551616, 1)"), nil), "claims the impossible size \"18446744073709551616\" in its shape"},
		"(-5, 4)":                  {npy(1, f4("(-5, 4)"), make([]byte, 80)), "claims the negative size -5 in its shape"},
		"(1e9, 1e6)":               {npy(1, f4("(1000000000, 1000000)"), make([]byte, 100)), "the header promises 1000000000 rows of 4000000 bytes, 0 are there"},
		"2 GiB in 100 bytes":       {npy(1, f4("(2097152, 256)"), make([]byte, 100)), "the header promises 2097152 rows of 1024 bytes, 0 are there (the file is cut short: copy or save it again)"},
		"Fortran 2 GiB":            {npy(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (2097152, 256), }", make([]byte, 100)), "the header promises 2147483648 bytes of data, 100 are there"},
		"(0, d)":                   {npy(1, f4("(0, 128)"), nil), "holds no rows"},
		"(n, 0)":                   {npy(1, f4("(9, 0)"), nil), "holds 9 rows of 0 numbers"},
		"(0, 2^62)":                {npy(1, f4("(0, 4611686018427387904)"), nil), "holds no rows"},
		"(n,)":                     {npy(1, f4("(4,)"), make([]byte, 16)), "has the shape (4,), and embeddings have rows and columns (one embedding: np.save(path, x[None, :]); embeddings of one number: np.save(path, x[:, None]))"},
		"()":                       {npy(1, f4("()"), make([]byte, 4)), "holds one number, and embeddings have rows and columns"},
		"65,537 dimensions":        {npy(1, f4("(1, 65537)"), make([]byte, 4*65537)), "holds embeddings of 65537 dimensions, and 65536 is the most"},
		"short by 1":               {good[:len(good)-1], "the header promises 2 rows of 8 bytes, 1 are there"},
		"long by 1":                {append(bytes.Clone(good), 0), "has 1 bytes after the last of (2, 2) elements"},
		"two arrays in a file":     {append(bytes.Clone(good), good...), "bytes after the last of (2, 2) elements (save one array a file"},
		"no magic":                 {append([]byte("\x93NUMPX"), good[6:]...), "does not begin as its extension promises"},
		"|O":                       {npy(1, "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", make([]byte, 99)), "is an array of Python objects (pickled), which only Python can read (np.save(path, np.stack(x).astype(np.float32)))"},
		"<c8":                      {npy(1, "{'descr': '<c8', 'fortran_order': False, 'shape': (2, 2), }", make([]byte, 32)), "holds complex numbers (<c8)"},
		"structured":               {npy(1, "{'descr': [('x', '<f4'), ('y', '<i8')], 'fortran_order': False, 'shape': (2,), }", make([]byte, 24)), "is a structured array, with named fields (save the field"},
		"bfloat16":                 {npy(1, "{'descr': '<V2', 'fortran_order': False, 'shape': (2, 2), }", make([]byte, 8)), "has elements of type V2: bfloat16, which numpy has no name for " + cast},
		"void":                     {npy(1, "{'descr': '|V7', 'fortran_order': False, 'shape': (2, 2), }", make([]byte, 28)), "raw bytes"},
		"<f3":                      {npy(1, "{'descr': '<f3', 'fortran_order': False, 'shape': (2, 2), }", make([]byte, 12)), "has the element type \"<f3\""},
		"<f":                       {npy(1, "{'descr': '<f', 'fortran_order': False, 'shape': (2, 2), }", nil), "has the element type \"<f\""},
		"no descr":                 {npy(1, "{'descr': '', 'fortran_order': False, 'shape': (2, 2), }", nil), "has the element type \"\""},
		"U0":                       {npy(1, "{'descr': '<U0', 'fortran_order': False, 'shape': (9223372036854775807,), }", nil), "has the element type \"<U0\""},
		"U of 2^31":                {npy(1, "{'descr': '<U2147483648', 'fortran_order': False, 'shape': (1,), }", nil), "has the element type"},
		"int features":             {npy(1, "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 2), }", make([]byte, 16)), "holds int32 (<i4), and embeddings are float16, float32 or float64 " + cast},
		"uint8 features":           {npy(1, "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), }", make([]byte, 4)), "holds uint8 (|u1)"},
		"non-UTF-8 name":           {npy(3, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1), '\xff': 1}", nil), "the unknown key \"\\xff\""},
		"control bytes in a value": {npy(1, "{'descr': '\x1b[2J\x00', 'fortran_order': False, 'shape': (2, 2), }", nil), `has the element type "\x1b[2J\x00"`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var err error
			path := write(t, "x.npy", c.body)
			if n := allocated(func() { err = readFeatures(path, dump.Options{}) }); n > 4<<20+2*uint64(len(c.body)) {
				t.Errorf("allocated %d bytes for a file of %d", n, len(c.body))
			}
			wantError(t, err, c.want)
		})
	}
}

// allocated is the number of bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestWhatNumpyWritesAndWeRefuse(t *testing.T) {
	for file, want := range map[string]string{
		"bad_object.npy":     "is an array of Python objects",
		"bad_structured.npy": "is a structured array",
		"bad_complex.npy":    "holds complex numbers (<c8)",
		"bad_uint8.npy":      "holds uint8 (|u1)",
		"bad_longdouble.npy": "holds long doubles (<f16) " + cast,
		"bad_datetime.npy":   "has the element type \"<M8[D]\"",
		"bad_0d.npy":         "holds one number",
		"bad_1d.npy":         "has the shape (256,)",
		"bad_3d.npy":         "has the shape (2, 2, 4), and embeddings have two dimensions, rows and columns (np.save(path, x.reshape(len(x), -1)))",
		"bad_no_rows.npy":    "holds no rows",
		"bad_no_dims.npy":    "holds 4 rows of 0 numbers",
		"bad_two_arrays.npz": "holds more than one 2-D float array: train (<f4 (2, 4)), test (<f4 (2, 4)) (say which, by name)",
		"labels_int64.npy":   "holds int64 (<i8), and embeddings are float16, float32 or float64",
	} {
		wantError(t, readFeatures(dumptest.Testdata(t, "formats", file), dump.Options{}), want)
	}
	for file, want := range map[string]string{
		"bad_object.npy": "is an array of Python objects",
		"f32_c.npy":      "holds float32 (<f4), and labels are integers or names (np.save(path, y.astype(np.int64)), or y.argmax(axis=1) for one-hot rows)",
		"bad_1d.npy":     "holds float32 (<f4), and labels are integers or names",
		"bad_uint8.npy":  "has the shape (2, 4), and there is one label a row (one-hot labels: np.save(path, y.argmax(axis=1))",
	} {
		_, err := dump.OpenLabels(dumptest.Testdata(t, "formats", file), dump.Options{})
		wantError(t, err, want)
	}
	_, err := dump.OpenKeys(dumptest.Testdata(t, "formats", "labels_int64.npy"))
	wantError(t, err, "holds int64 (<i8), and keys are strings (np.save(path, np.array(names)))")
}

func TestFilesThatAreSomethingElse(t *testing.T) {
	for name, c := range map[string]struct{ body, want string }{
		"empty.npy": {"", "is empty, 0 bytes"},
		"empty.csv": {"", "is empty, 0 bytes"},
		"x.npy.gz":  {"\x1f\x8b\x08\x00rest", "is compressed with gzip (unpack it first"},
		"x.zst":     {"\x28\xb5\x2f\xfdrest", "is compressed with zstd"},
		"model.pth": {"\x80\x02}q\x00.", "is a torch file of the old format (in Python: np.save('model.npy', torch.load('model.pth', map_location='cpu').float().numpy()))"},
		"x.pkl":     {"\x80\x04K\x01.", "is a Python pickle"},
		"x.parquet": {"PAR1........PAR1", "is a Parquet file (in Python: np.save('x.npy', np.stack(pd.read_parquet('x.parquet')['embedding']).astype(np.float32)))"},
		"x.h5":      {"\x89HDF\r\n\x1a\nrest", "is an HDF5 file"},
		"x.jsonl":   {"{\"a\": 1}\n", "is JSON"},
		"x.png":     {"\x89PNG\r\n\x1a\n", "is an image (bring features, not images"},
		"x.csv":     {"\xff\xfea\x00,\x00", "is UTF-16 text (save it as UTF-8)"},
		"x.bin":     {"\x01\x00\x02\x00", "is a binary file of a kind that is not read here"},
		"text.npy":  {"1 2 3\n", "does not begin as its extension promises"},
		"x.tar":     {strings.Repeat("a", 257) + "ustar\x0000", "is a tar archive"},
	} {
		path := write(t, name, []byte(c.body))
		wantError(t, readFeatures(path, dump.Options{}), c.want)
		if _, err := dump.OpenLabels(path, dump.Options{}); err == nil {
			t.Errorf("%s passes for labels", name)
		}
		if _, err := dump.OpenKeys(path); err == nil {
			t.Errorf("%s passes for keys", name)
		}
		if _, err := dump.OpenTable(path); err == nil {
			t.Errorf("%s passes for attributes", name)
		}
	}
	wantError(t, readFeatures(t.TempDir(), dump.Options{}), "is a directory (name the files in it)")
	err := readFeatures(filepath.Join(t.TempDir(), "absent.npy"), dump.Options{})
	var e *dump.Error
	if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, dump.ErrFormat) || !errors.As(err, &e) || !strings.HasSuffix(err.Error(), "absent.npy: cannot be opened: no such file or directory") {
		t.Errorf("an absent file: %v", err)
	}
	wantError(t, readFeatures("/dev/zero", dump.Options{}), "is not a regular file")
}

func TestMalformedArchives(t *testing.T) {
	x := npy(1, f4("(2, 2)"), make([]byte, 16))
	stored, deflated := npz(zip.Store, member{"x.npy", x}), npz(zip.Deflate, member{"x.npy", x})
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 0x40
		return b
	}
	central := bytes.LastIndex(stored, []byte("PK\x01\x02"))
	encrypted := bytes.Clone(stored)
	encrypted[central+8] |= 1
	method := bytes.Clone(stored)
	method[central+10] = 14
	var many []member
	for i := range 1 << 16 {
		many = append(many, member{fmt.Sprint(i, ".npy"), nil})
	}
	zeros := npy(1, f4("(1000, 1000)"), make([]byte, 4<<20)) // deflates 1000:1, and is longer than it says
	cases := map[string]struct {
		body  []byte
		array string
		want  string
	}{
		"cut":                      {stored[:len(stored)-10], "", "is not a whole zip archive: its directory, at the end, is missing or damaged"},
		"cut at 4":                 {stored[:4], "", "is not a whole zip archive"},
		"empty archive":            {npz(zip.Store), "", "is a zip archive without .npy members"},
		"other members":            {npz(zip.Store, member{"a.txt", []byte("a")}), "", "is a zip archive without .npy members"},
		"torch":                    {npz(zip.Store, member{"archive/data.pkl", []byte("a")}), "", "has a damaged pickle: an instruction that lacks its operand at byte 0 of it"},
		"duplicate names":          {npz(zip.Store, member{"x.npy", x}, member{"x.npy", x}), "", "holds two members named \"x.npy\""},
		"encrypted":                {encrypted, "", "x.npz[x]: is encrypted"},
		"method 14":                {method, "", "is compressed by zip method 14"},
		"65,536 members":           {npz(zip.Store, many...), "", "holds 65536 members, and 16384 is the most"},
		"no such array":            {stored, "y", "holds no array \"y\" (it holds x (<f4 (2, 2)))"},
		"none fits":                {npz(zip.Store, member{"a.npy", npy(1, f4("(2,)"), make([]byte, 8))}, member{"b.npy", npy(1, f4("()"), make([]byte, 4))}), "", "holds no 2-D float array, only a (<f4 (2,)), b (<f4 ()) (say which array"},
		"single that fits not":     {npz(zip.Store, member{"a.npy", npy(1, f4("(2,)"), make([]byte, 8))}), "", "x.npz[a]: has the shape (2,)"},
		"data flipped":             {flip(stored, bytes.Index(stored, []byte("NUMPY"))+130), "", "x.npz[x]: does not match its checksum"},
		"deflated data flipped":    {flip(deflated, 60), "", "x.npz[x]: "},
		"header claims more":       {npz(zip.Deflate, member{"x.npy", npy(1, f4("(1000000000, 256)"), make([]byte, 1000))}), "", "x.npz[x]: the header promises 1000000000 rows of 1024 bytes, 0 are there"},
		"bomb":                     {npz(zip.Deflate, member{"x.npy", zeros}), "", "x.npz[x]: has 194304 bytes after the last of (1000, 1000) elements"},
		"pickled object array":     {npz(zip.Store, member{"x.npy", npy(1, "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", make([]byte, 9))}), "", "x.npz[x]: is an array of Python objects"},
		"large, deflated, Fortran": {claiming(40_000_000, "{'descr': '<f4', 'fortran_order': True, 'shape': (10000, 1000), }"), "", "too large to be turned around in memory (np.savez_compressed(path, np.ascontiguousarray(x)))"},
		"terminal codes in names":  {npz(zip.Store, member{"\x1b[2J.npy", x}, member{"b.npy", x}), "", `more than one 2-D float array: \x1b[2J (`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var err error
			path := write(t, "x.npz", c.body)
			// The directory of a zip is read into memory: some 300 bytes a member.
			if n := allocated(func() { err = readFeatures(path, dump.Options{Array: c.array}) }); n > 8<<20+16*uint64(len(c.body)) {
				t.Errorf("allocated %d bytes for a file of %d", n, len(c.body))
			}
			wantError(t, err, c.want)
		})
	}
	for name, body := range map[string][]byte{
		"a name that climbs":   npz(zip.Store, member{"../../x.npy", x}),
		"an absolute name":     npz(zip.Store, member{"/etc/x.npy", x}),
		"labels beside":        npz(zip.Deflate, member{"x.npy", x}, member{"y.npy", npy(1, "{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }", make([]byte, 16))}),
		"a good 1000:1 member": npz(zip.Deflate, member{"x.npy", npy(1, f4("(1000, 1000)"), make([]byte, 4_000_000))}),
	} {
		path := write(t, "x.npz", body)
		if err := readFeatures(path, dump.Options{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(left) != 1 {
			t.Errorf("%s wrote %v", name, left)
		}
	}
	wantError(t, readFeatures(write(t, "x.npy", x), dump.Options{Array: "x"}), "is a single array, and array \"x\" was asked for")
}

// claiming is an .npz with a deflated member that says it unpacks to a header and n
// bytes, and holds 100 of them.
func claiming(n int, header string) []byte {
	x := npy(1, header, nil)
	body := npz(zip.Deflate, member{"x.npy", append(bytes.Clone(x), make([]byte, 100)...)})
	central := bytes.LastIndex(body, []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint32(body[central+24:], uint32(len(x)+n))
	return body
}

// A compressed member that claims much and holds little must not cost much either.
func TestArchiveThatLiesAboutItsSize(t *testing.T) {
	body := claiming(2<<30, f4("(2097152, 256)"))
	path := write(t, "x.npz", body)
	var err error
	if n := allocated(func() { err = readFeatures(path, dump.Options{}) }); n > 8<<20 {
		t.Errorf("allocated %d bytes for a file of %d", n, len(body))
	}
	wantError(t, err, "x.npz[x]: is damaged inside the archive")
}
