package dump_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"membank/simd"
	"membank/store/dump"
	"membank/store/dump/dumptest"
)

// What torch itself wrote, against the checksums that torch's reader gave.
func TestTorchReference(t *testing.T) {
	shared, ok := dumptest.Shared(t)
	if !ok {
		t.Skip("no reference data")
	}
	dir := filepath.Join(shared, "formats")
	want := expected(t, dir)
	views := want["strided_views_pt"].(map[string]any)
	for _, c := range []struct{ file, array, sha string }{
		{"features_labels.pt", "", want["sha256_f32_le_c_order"].(string)},
		{"features_labels.pt", "features", want["sha256_f32_le_c_order"].(string)},
		{"bare_tensor_first100.pt", "", want["sha256_first100_f32"].(string)},
		{"legacy_format_first100.pt", "", want["sha256_first100_f32"].(string)},
		{"strided_views.pt", "features", views["features_sha256"].(string)},
		{"strided_views.pt", "transposed", views["transposed_sha256"].(string)},
	} {
		for _, batch := range []int{1, 7, 1000} {
			m, _, _ := readAll(t, filepath.Join(dir, c.file), dump.Options{Array: c.array}, batch)
			if got := sha(t, m.Data); got != c.sha {
				t.Errorf("%s[%s], %d rows at once: SHA-256 %s, want %s", c.file, c.array, batch, got, c.sha)
			}
		}
	}
	half, _, _ := readAll(t, filepath.Join(dir, "half_with_strings_first100.pt"), dump.Options{}, 64)
	f16, _, _ := readAll(t, filepath.Join(dir, "f16.npy"), dump.Options{}, 64)
	if half.Rows != 100 || !slices.Equal(half.Data, f16.Data[:100*256]) {
		t.Error("half_with_strings_first100.pt differs from the first rows of f16.npy")
	}
	if got := sha(t, dumptest.Labels(t, filepath.Join(dir, "features_labels.pt"))); got != want["sha256_labels_i64_le"] {
		t.Errorf("labels: SHA-256 %s", got)
	}
	whole := dumptest.Labels(t, filepath.Join(dir, "labels_int64.npy"))
	if got := listOf(t, filepath.Join(dir, "half_with_strings_first100.pt"), "labels"); !slices.Equal(got, whole[:100]) {
		t.Errorf("labels %v …", got[:10])
	}
	if keys := readKeys(t, filepath.Join(dir, "half_with_strings_first100.pt")); !slices.Equal(keys, readKeys(t, filepath.Join(shared, "train_keys.txt"))[:100]) {
		t.Errorf("keys %q …", keys[:3])
	}
	_, err := dump.Open(filepath.Join(dir, "strided_views.pt"), dump.Options{})
	wantError(t, err, "holds more than one 2-D float array: features (float32 (100, 256)), transposed (float32 (256, 50)) (say which, by name)")
	_, err = dump.Open(filepath.Join(dir, "features_labels.pt"), dump.Options{Array: "x"})
	wantError(t, err, `holds no array "x" (it holds features (float32 (1000, 256)), labels (int64 (1000,)))`)
}

// Views of every kind over one storage of 60 numbers, against arithmetic on indices.
func TestTorchViews(t *testing.T) {
	values := make([]float32, 60)
	for i := range values {
		values[i] = float32(i)*0.5 - 7
	}
	type view struct {
		rows, dim, offset, rowStride, colStride int
	}
	var views []view
	for _, rows := range []int{1, 2, 5, 6} {
		for _, dim := range []int{1, 3, 5} {
			for _, offset := range []int{0, 4} {
				for _, strides := range [][2]int{{dim, 1}, {1, rows}, {7, 1}, {1, 8}, {2, 9}, {10, 2}, {0, 1}, {1, 0}, {0, 0}, {3, 3}} {
					v := view{rows, dim, offset, strides[0], strides[1]}
					if offset+(rows-1)*strides[0]+(dim-1)*strides[1] < len(values) {
						views = append(views, v)
					}
				}
			}
		}
	}
	for _, v := range views {
		want := make([]float32, 0, v.rows*v.dim)
		for i := range v.rows {
			for j := range v.dim {
				want = append(want, values[v.offset+i*v.rowStride+j*v.colStride])
			}
		}
		describe := tensor("FloatStorage", "0", 60, v.offset, []int{v.rows, v.dim}, []int{v.rowStride, v.colStride})
		for kind, body := range map[string][]byte{
			"zip":    torchZip(zip.Store, pickled(describe), map[string][]byte{"0": floats(values)}),
			"packed": torchZip(zip.Deflate, pickled(describe), map[string][]byte{"0": floats(values)}),
			"legacy": torchLegacy(describe, floats(values), 60),
		} {
			for _, batch := range []int{1, 4, 100} {
				m, _, _ := readAll(t, write(t, "x.pt", body), dump.Options{}, batch)
				if m.Rows != v.rows || m.Dim != v.dim || !slices.Equal(m.Data, want) {
					t.Fatalf("%s %+v, %d rows at once: %v, want %v", kind, v, batch, m.Data, want)
				}
			}
		}
	}
	if len(views) < 150 {
		t.Fatalf("only %d views fitted", len(views))
	}
}

func TestTorchTypes(t *testing.T) {
	le := binary.LittleEndian
	two := func(bits ...uint16) (b []byte) {
		for _, x := range bits {
			b = le.AppendUint16(b, x)
		}
		return b
	}
	double := le.AppendUint64(le.AppendUint64(nil, math.Float64bits(0.1)), math.Float64bits(-3))
	for name, c := range map[string]struct {
		storage string
		data    []byte
		want    []float32
	}{
		"half":   {"HalfStorage", two(0x3c00, 0xc100), []float32{1, -2.5}},
		"bf16":   {"BFloat16Storage", two(0x3f80, 0xc020), []float32{1, -2.5}},
		"double": {"DoubleStorage", double, []float32{0.1, -3}},
	} {
		body := torchZip(zip.Store, pickled(tensor(c.storage, "0", 2, 0, []int{2, 1}, []int{1, 1})), map[string][]byte{"0": c.data})
		if m, _, _ := readAll(t, write(t, "x.pt", body), dump.Options{}, 2); !slices.Equal(m.Data, c.want) {
			t.Errorf("%s: %v", name, m.Data)
		}
	}
	big := torchZip(zip.Store, pickled(tensor("FloatStorage", "0", 1, 0, []int{1, 1}, []int{1, 1})), map[string][]byte{"0": {0x3f, 0x80, 0, 0}, "/byteorder": []byte("big")})
	if m, _, _ := readAll(t, write(t, "x.pt", big), dump.Options{}, 2); m.Data[0] != 1 {
		t.Errorf("big endian: %v", m.Data)
	}
	for name, c := range map[string]struct {
		storage string
		data    []byte
		want    []int64
	}{
		"long": {"LongStorage", le.AppendUint64(le.AppendUint64(nil, 5), math.MaxUint64), []int64{5, dump.NoLabel}},
		"int":  {"IntStorage", le.AppendUint32(le.AppendUint32(nil, 5), 0xfffffffe), []int64{5, -2}},
		"char": {"CharStorage", []byte{5, 0xfe}, []int64{5, -2}},
		"byte": {"ByteStorage", []byte{5, 0xfe}, []int64{5, 254}},
		"bool": {"BoolStorage", []byte{0, 1}, []int64{0, 1}},
	} {
		body := torchZip(zip.Store, pickled(tensor(c.storage, "0", 2, 0, []int{2}, []int{1})), map[string][]byte{"0": c.data})
		if got := listOf(t, write(t, "y.pt", body), ""); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
	// Every other label of a run, {"model": OrderedDict(queue=…), "list": [7, 8]} and a
	// tensor used twice.
	strided := pickled("}X\x05\x00\x00\x00model" + "ccollections\nOrderedDict\n)RX\x05\x00\x00\x00queue" +
		tensor("LongStorage", "0", 4, 1, []int{2}, []int{2}) + "s" + "s" + "X\x04\x00\x00\x00list](K\x07K\x08es")
	path := write(t, "z.pt", torchZip(zip.Store, strided, map[string][]byte{"0": append(make([]byte, 8), append(le.AppendUint64(nil, 3), append(make([]byte, 8), le.AppendUint64(nil, 9)...)...)...)}))
	if got := listOf(t, path, "model.queue"); !slices.Equal(got, []int64{3, 9}) {
		t.Errorf("model.queue: %v", got)
	}
	if got := listOf(t, path, "list"); !slices.Equal(got, []int64{7, 8}) {
		t.Errorf("list: %v", got)
	}
}

func TestHostilePickles(t *testing.T) {
	dir := t.TempDir()
	canary := filepath.Join(dir, "ran")
	system := fmt.Sprintf("cposix\nsystem\nX%s\x85R.", text("touch "+canary))
	good := pickled(tensor("FloatStorage", "0", 4, 0, []int{2, 2}, []int{2, 1}))
	four := map[string][]byte{"0": make([]byte, 16)}
	sized := func(count, offset int, shape, strides []int) []byte {
		return torchZip(zip.Store, pickled(tensor("FloatStorage", "0", count, offset, shape, strides)), four)
	}
	deep := "\x80\x02" + strings.Repeat("]", 1000) + strings.Repeat("a", 999) + "."
	doubling := "\x80\x02" + ")" + strings.Repeat("2\x86", 60) + "."
	flipped := bytes.Clone(sized(4, 0, []int{2, 2}, []int{2, 1}))
	flipped[bytes.Index(flipped, []byte("data/0"))+len("data/0")+3] ^= 1
	for name, c := range map[string]struct {
		body   []byte
		want   string
		unsafe bool
	}{
		"posix.system":       {torchZip(zip.Store, []byte("\x80\x02"+system), nil), `asks, at byte 2 of its pickle, for "posix.system", which is not run`, true},
		"system, protocol 4": {torchZip(zip.Store, []byte("\x80\x04\x8c\x05posix\x8c\x06system\x93."), nil), `for "posix.system"`, true},
		"builtins.eval":      {torchZip(zip.Store, []byte("c__builtin__\neval\n(S'1'\ntR."), nil), `for "__builtin__.eval"`, true},
		"INST":               {torchZip(zip.Store, []byte("(S'true'\nios\nsystem\n."), nil), `for "os.system"`, true},
		"OBJ":                {torchZip(zip.Store, []byte("(ccollections\nOrderedDict\no."), nil), "for an object of a class", true},
		"EXT1":               {torchZip(zip.Store, []byte("\x80\x02\x82\x01."), nil), "for an extension", true},
		"a model":            {torchZip(zip.Store, []byte("\x80\x02cmodels.resnet\nResNet\n)\x81."), nil), `for "models.resnet.ResNet"`, true},
		"call of a dtype":    {torchZip(zip.Store, []byte("\x80\x02ctorch\nfloat32\n)R."), nil), "for a call of", true},
		"legacy system":      {append(torchLegacy("", nil, 0)[:0:0], legacyLead+"\x80\x02"+system...), `for "posix.system"`, true},

		"empty pickle":          {torchZip(zip.Store, nil, nil), "ends inside its pickle", false},
		"cut pickle":            {torchZip(zip.Store, good[:20], four), "ends inside its pickle", false},
		"text beyond the end":   {torchZip(zip.Store, []byte("\x80\x02X\xff\xff\xff\x7fabc."), nil), "ends inside its pickle", false},
		"bytes of 2^63":         {torchZip(zip.Store, []byte("\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xffabc."), nil), "ends inside its pickle", false},
		"unknown instruction":   {torchZip(zip.Store, []byte("\x80\x02\xee."), nil), "unknown instruction", false},
		"protocol 9":            {torchZip(zip.Store, []byte("\x80\x09N."), nil), "protocol 9", false},
		"empty stack":           {torchZip(zip.Store, []byte("\x80\x02."), nil), "lacks its operand at byte 2", false},
		"no mark":               {torchZip(zip.Store, []byte("\x80\x02t."), nil), "lacks its mark", false},
		"item below the mark":   {torchZip(zip.Store, []byte("\x80\x02]N(a."), nil), "lacks its operand", false},
		"not remembered":        {torchZip(zip.Store, []byte("\x80\x02h\x05."), nil), "not remembered", false},
		"call of a number":      {torchZip(zip.Store, []byte("\x80\x02K\x01)R."), nil), "no function", false},
		"no tensors":            {torchZip(zip.Store, []byte("\x80\x02N."), nil), "holds no tensors", false},
		"1000 lists deep":       {torchZip(zip.Store, []byte(deep), nil), "inside one another", false},
		"a tuple doubled":       {torchZip(zip.Store, []byte(doubling), nil), "inside one another", false},
		"a list inside itself":  {torchZip(zip.Store, []byte("\x80\x02]q\x00h\x00a."), nil), "holds no tensors", false},
		"storage missing":       {torchZip(zip.Store, good, nil), `storage "0", which it does not hold`, false},
		"storage cut":           {torchZip(zip.Store, good, map[string][]byte{"0": make([]byte, 15)}), "which has 15 bytes", false},
		"storage of 2^62":       {sized(1<<62, 0, []int{2, 2}, []int{2, 1}), "impossible size", false},
		"beyond the storage":    {sized(4, 1, []int{2, 2}, []int{2, 1}), "and its storage has 4", false},
		"stride of 2^62":        {sized(4, 0, []int{2, 2}, []int{1 << 62, 1 << 62}), "and its storage has 4", false},
		"shape of 2^62":         {sized(4, 0, []int{1 << 62, 4}, []int{0, 0}), "impossible shape", false},
		"expanded to 2^40":      {sized(4, 0, []int{1 << 40, 1}, []int{0, 0}), "torch.save(x.contiguous(), path)", false},
		"negative size":         {sized(4, 0, []int{-2, 2}, []int{2, 1}), "a size that is none", false},
		"three dimensions":      {sized(4, 0, []int{1, 2, 2}, []int{4, 2, 1}), "embeddings have two dimensions", false},
		"one dimension":         {sized(4, 0, []int{4}, []int{1}), "has the shape (4,)", false},
		"no rows":               {sized(4, 0, []int{0, 4}, []int{4, 1}), "holds no rows", false},
		"complex":               {torchZip(zip.Store, pickled(tensor("ComplexFloatStorage", "0", 2, 0, []int{2, 1}, []int{1, 1})), four), "elements of type complex64", false},
		"data flipped":          {flipped, "does not match its checksum", false},
		"byte order":            {torchZip(zip.Store, good, map[string][]byte{"0": make([]byte, 16), "/byteorder": []byte("middle")}), "byte order", false},
		"legacy cut":            {torchLegacy(tensor("FloatStorage", "0", 4, 0, []int{2, 2}, []int{2, 1}), make([]byte, 15), 4), "15 bytes are left", false},
		"legacy too long":       {torchLegacy(tensor("FloatStorage", "0", 4, 0, []int{2, 2}, []int{2, 1}), make([]byte, 17), 4), "has 1 bytes after its last storage", false},
		"legacy less than said": {torchLegacy(tensor("FloatStorage", "0", 4, 0, []int{2, 2}, []int{2, 1}), make([]byte, 8), 2), "which has 8 bytes", false},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, "x.pt", c.body)
			var err error
			if n := allocated(func() { err = drain(path, dump.Options{}) }); n > 8<<20+4096*uint64(len(c.body)) {
				t.Errorf("allocated %d bytes for a file of %d", n, len(c.body))
			}
			wantError(t, err, c.want)
			if errors.Is(err, dump.ErrForbidden) != c.unsafe {
				t.Errorf("%v: forbidden %v", err, !c.unsafe)
			}
		})
	}
	if _, err := os.Stat(canary); err == nil {
		t.Error("a pickle was run")
	}
}

// Python's own pickler, at every protocol, with stand-ins that have torch's names.
func TestPicklesOfPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	const script = `
import collections, io, pickle, struct, sys, types, zipfile, argparse
for m in ("torch", "torch._utils"):
    sys.modules[m] = types.ModuleType(m)
def named(module, name):
    f = types.FunctionType((lambda *a: None).__code__, {}, name)
    f.__module__, f.__qualname__, f.__name__ = module, name, name
    setattr(sys.modules[module], name, f)
    return f
rebuild, FloatStorage = named("torch._utils", "_rebuild_tensor_v2"), named("torch", "FloatStorage")
class Storage: pass
class Tensor:
    def __reduce__(self): return rebuild, (Storage(), 0, (2, 3), (3, 1), False, collections.OrderedDict())
class Pickler(pickle._Pickler if "slow" in sys.argv else pickle.Pickler):
    def persistent_id(self, o):
        return ("storage", FloatStorage, "0", "cuda:0", 6) if isinstance(o, Storage) else None
x = {"epoch": 300, "best": 76.25, "args": argparse.Namespace(lr=0.1, names=["a"]), "big": 1 << 80, "neg": -129, "none": None, "raw": b"\x00\xff",
     "net": collections.OrderedDict(bank=Tensor()), "labels": [3, -1, 70000], "paths": ["a/ä.png", "b/" + "c" * 300],
     "d": collections.defaultdict(list, {"a": 1}), "s": {1, 2}, "f": frozenset([1])}
b = io.BytesIO()
Pickler(b, protocol=int(sys.argv[1])).dump(x)
with zipfile.ZipFile(sys.argv[2], "w") as z:
    z.writestr("archive/data.pkl", b.getvalue())
    z.writestr("archive/data/0", struct.pack("<6f", 1, 2, 3, 4, 5, 6))
`
	for protocol := 2; protocol <= 5; protocol++ {
		path := filepath.Join(t.TempDir(), "x.pt")
		if out, err := exec.Command(python, "-c", script, fmt.Sprint(protocol), path).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		m, _, _ := readAll(t, path, dump.Options{Array: "net.bank"}, 2)
		if !slices.Equal(m.Data, []float32{1, 2, 3, 4, 5, 6}) {
			t.Errorf("protocol %d: %v", protocol, m.Data)
		}
		if m, _, _ := readAll(t, path, dump.Options{}, 2); m.Rows != 2 || m.Dim != 3 {
			t.Errorf("protocol %d: without a name, %d rows", protocol, m.Rows)
		}
		if got := listOf(t, path, "labels"); !slices.Equal(got, []int64{3, dump.NoLabel, 70000}) {
			t.Errorf("protocol %d: labels %v", protocol, got)
		}
		if keys := readKeys(t, path); !slices.Equal(keys, []string{"a/ä.png", "b/" + strings.Repeat("c", 300)}) {
			t.Errorf("protocol %d: keys %q", protocol, keys)
		}
	}
}

func FuzzTorch(f *testing.F) {
	four := map[string][]byte{"0": make([]byte, 16)}
	x := tensor("FloatStorage", "0", 4, 0, []int{2, 2}, []int{1, 2})
	f.Add(torchZip(zip.Store, pickled(x), four))
	f.Add(torchLegacy(x, make([]byte, 16), 4))
	f.Add(torchZip(zip.Deflate, pickled("}X\x01\x00\x00\x00a"+x+"s"), four))
	f.Add(torchZip(zip.Store, []byte("cposix\nsystem\n(S'id'\ntR."), nil))
	fuzzFile(f, "x.pt", func(path string) error { return drain(path, dump.Options{}) })
}

// FuzzPickle fuzzes the pickle alone: inside a zip its checksum would hide it.
func FuzzPickle(f *testing.F) {
	x := tensor("FloatStorage", "0", 4, 0, []int{2, 2}, []int{2, 1})
	for _, s := range []string{x, "(lp0\nI1\na", "}(K\x01N\x88\x89u", "]\x94(\x8c\x01ae", "G\x00\x00\x00\x00\x00\x00\x00\x00", "ccollections\nOrderedDict\n](]K\x01aK\x02aae\x85R"} {
		f.Add(pickled(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, pickle []byte) {
		path := filepath.Join(dir, "x.pt")
		if err := os.WriteFile(path, torchZip(zip.Store, pickle, map[string][]byte{"0": make([]byte, 16)}), 0o600); err != nil {
			t.Fatal(err)
		}
		var err error
		if n := allocated(func() { err = drain(path, dump.Options{}) }); n > 32<<20+4096*uint64(len(pickle)) {
			t.Errorf("%d bytes allocated for a pickle of %d", n, len(pickle))
		}
		if err != nil && !errors.Is(err, dump.ErrFormat) {
			t.Errorf("%v (%T) is not an error about the format", err, err)
		}
	})
}

// tensor is the pickle of a call of torch._utils._rebuild_tensor_v2.
func tensor(storage, key string, count, offset int, shape, strides []int) string {
	id := fmt.Sprintf("(X%sctorch\n%s\nX%sX%s%st", text("storage"), storage, text(key), text("cpu"), integer(count))
	return "ctorch._utils\n_rebuild_tensor_v2\n(" + id + "Q" + integer(offset) + tuple(shape) + tuple(strides) + "\x89ccollections\nOrderedDict\n)RtR"
}

func text(s string) string { return string(binary.LittleEndian.AppendUint32(nil, uint32(len(s)))) + s }

func integer(v int) string {
	return "\x8a\x08" + string(binary.LittleEndian.AppendUint64(nil, uint64(v)))
}

func tuple(list []int) string {
	s := "("
	for _, v := range list {
		s += integer(v)
	}
	return s + "t"
}

func pickled(value string) []byte { return []byte("\x80\x02" + value + ".") }

// torchZip lays members out as torch.save does; a storage "/x" is the member x.
func torchZip(method uint16, pickle []byte, storages map[string][]byte) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	add := func(name string, body []byte) {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: method})
		if err == nil {
			_, err = w.Write(body)
		}
		if err != nil {
			panic(err)
		}
	}
	add("archive/data.pkl", pickle)
	for key, body := range storages {
		if name, beside := strings.CutPrefix(key, "/"); beside {
			add("archive/"+name, body)
		} else {
			add("archive/data/"+key, body)
		}
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

const legacyLead = "\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + "\x80\x02M\xe9\x03." + "\x80\x02}X\x0d\x00\x00\x00little_endian\x88s."

// torchLegacy is a file of the old format with one storage, "0".
func torchLegacy(value string, data []byte, count int) []byte {
	value = strings.ReplaceAll(value, "tQ", "NtQ") // a storage is no view of another
	b := []byte(legacyLead + string(pickled(value)) + "\x80\x02]X\x01\x00\x00\x000a.")
	return append(binary.LittleEndian.AppendUint64(b, uint64(count)), data...)
}

func floats(list []float32) (b []byte) {
	for _, v := range list {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

func listOf(t testing.TB, path, array string) []int64 {
	t.Helper()
	l, err := dump.OpenLabels(path, dump.Options{Array: array})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	labels := make([]int64, l.Rows())
	if n, err := l.Next(labels); err != nil || n != len(labels) {
		t.Fatal(n, err)
	}
	if _, err := l.Next(make([]int64, 1)); err != io.EOF {
		t.Fatal(err)
	}
	return labels
}

// A reader of a tensor stops when it is told to.
func TestTorchCancelled(t *testing.T) {
	body := torchZip(zip.Store, pickled(tensor("FloatStorage", "0", 4, 0, []int{2, 2}, []int{1, 2})), map[string][]byte{"0": make([]byte, 16)})
	r, err := dump.Open(write(t, "x.pt", body), dump.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.Next(ctx, simd.NewMatrix(2, 2)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
