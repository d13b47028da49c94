package dump

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
)

// A signature tells a format that is not read here, and the line of Python that
// turns such a file into one that is. PATH stands for the file's name without
// extension.
type signature struct {
	offset int
	magic  string
	what   string
	remedy string
}

const (
	unzip      = "unpack it first: gunzip, unzstd, unxz or bunzip2"
	fromTorch  = "in Python: np.save('PATH.npy', torch.load('PATH', map_location='cpu').float().numpy())"
	fromPickle = "in Python: np.save('PATH.npy', np.asarray(pickle.load(open('PATH', 'rb')), np.float32)); for torch.save files use torch.load"
)

var signatures = []signature{
	{0, "\x1f\x8b", "is compressed with gzip", unzip},
	{0, "\x28\xb5\x2f\xfd", "is compressed with zstd", unzip},
	{0, "\xfd7zXZ\x00", "is compressed with xz", unzip},
	{0, "BZh", "is compressed with bzip2", unzip},
	{0, "PAR1", "is a Parquet file", "in Python: np.save('PATH.npy', np.stack(pd.read_parquet('PATH')['embedding']).astype(np.float32))"},
	{0, "\x89HDF\r\n\x1a\n", "is an HDF5 file", "in Python: np.save('PATH.npy', h5py.File('PATH')['features'][:].astype(np.float32))"},
	{0, "ARROW1", "is an Arrow (Feather) file", "in Python: np.save('PATH.npy', np.stack(pd.read_feather('PATH')['embedding']).astype(np.float32))"},
	{0, "MATLAB 5.0", "is a MATLAB file", "in Python: np.save('PATH.npy', scipy.io.loadmat('PATH')['features'].astype(np.float32))"},
	{0, "\x80\x02", "is a Python pickle", fromPickle},
	{0, "\x80\x03", "is a Python pickle", fromPickle},
	{0, "\x80\x04", "is a Python pickle", fromPickle},
	{0, "\x80\x05", "is a Python pickle", fromPickle},
	{257, "ustar", "is a tar archive", "unpack it first, and bring the features as .npy"},
	{0, "\x89PNG", "is an image", "bring features, not images: one vector an image, saved with np.save"},
	{0, "\xff\xd8\xff", "is an image", "bring features, not images: one vector an image, saved with np.save"},
	{0, "SQLite format 3\x00", "is an SQLite database", "in Python: np.save('PATH.npy', np.stack([np.frombuffer(b, np.float32) for b, in con.execute('SELECT …')]))"},
	{0, "\xff\xfe", "is UTF-16 text", "save it as UTF-8"},
	{0, "\xfe\xff", "is UTF-16 text", "save it as UTF-8"},
}

// extensions are formats without a magic of their own.
var extensions = []struct {
	exts         []string
	what, remedy string
}{
	{[]string{".npy", ".npz"}, "does not begin as its extension promises", "save it again with np.save or np.savez"},
	{[]string{".pt", ".pth", ".ckpt"}, "is in a format that is not read here", fromTorch},
	{[]string{".json", ".jsonl", ".ndjson"}, "is JSON", "in Python: np.save('PATH.npy', np.array([json.loads(s)['embedding'] for s in open('PATH')], np.float32))"},
	{[]string{".fvecs", ".ivecs"}, "is a vecs file", "in Python: a = np.fromfile('PATH', np.float32); np.save('PATH.npy', a.reshape(-1, a[:1].view(np.int32)[0] + 1)[:, 1:].copy())"},
	{[]string{".pkl", ".pickle"}, "is a Python pickle", fromPickle},
}

// foreign says what a file is that is neither .npy nor .npz nor .safetensors nor text; nil if it
// may be text.
func foreign(in input, lead []byte) error {
	tell := func(what, remedy string) error {
		name := filepath.Base(in.path)
		remedy = strings.ReplaceAll(remedy, "'PATH.npy'", "'"+strings.TrimSuffix(name, filepath.Ext(name))+".npy'")
		return bad("%s", what).fix("%s", strings.ReplaceAll(remedy, "'PATH'", "'"+name+"'"))
	}
	for _, s := range signatures {
		if len(lead) > s.offset && bytes.HasPrefix(lead[s.offset:], []byte(s.magic)) {
			if strings.HasPrefix(s.magic, "\x80") && slices.Contains([]string{".pt", ".pth", ".ckpt"}, in.ext) {
				return tell("is a torch file of the old format", fromTorch)
			}
			return tell(s.what, s.remedy)
		}
	}
	for _, e := range extensions {
		if slices.Contains(e.exts, in.ext) {
			return tell(e.what, e.remedy)
		}
	}
	if bytes.IndexByte(lead, 0) >= 0 {
		return tell("is a binary file of a kind that is not read here", "save the features with np.save; raw float32: np.save('PATH.npy', np.fromfile('PATH', np.float32).reshape(-1, dim))")
	}
	return nil
}

// torch is the error for a zip that torch.save wrote.
func torch() error {
	return bad("is a torch.save file").
		fix("in Python: x = torch.load(path, map_location='cpu'); np.save('features.npy', x.float().numpy()), and pick the tensor first if x is a dict")
}
