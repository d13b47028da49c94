// Package dumptest gives tests real embeddings and the answers that independent
// programs computed from them: FAISS's neighbours, the reference code's kNN
// predictions and accuracies.
//
// A clone that stands alone has the two small methods in store/testdata. Where the
// wider reference data is found, beside the repository in ../shared/data or where
// MEMBANK_SHARED says, Methods gives all of its methods. A MEMBANK_SHARED that leads
// nowhere fails the test: whoever sets it wants the data used.
//
// Everything is read once and shared between tests: do not write to it.
package dumptest

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"membank/simd"
	"membank/store/dump"
)

// Method is one SSL method's features with its references. Labels are of the rows
// of Train and Test, in order.
type Method struct {
	Name        string
	Train, Test simd.Matrix
	TrainLabels []int64
	TestLabels  []int64
	// TrainPath and TestPath are the .npy files of the features.
	TrainPath, TestPath string
	// Noise tells a collapsed method: all its cosines lie within 1e-6 of 1, so
	// neighbours and accuracies are rounding noise and must not be asserted.
	Noise bool

	reference string // directory of the reference files
}

// Root is the directory of go.mod.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	t.Fatal("dumptest: no go.mod above the test's directory")
	return ""
}

// Testdata is a path inside store/testdata.
func Testdata(t testing.TB, elem ...string) string {
	t.Helper()
	return filepath.Join(append([]string{Root(t), "store", "testdata"}, elem...)...)
}

// Shared is the directory of the wider reference data, the one that holds
// reference/ and methods/; ok tells whether there is one. MEMBANK_SHARED may name
// it or its parent.
func Shared(t testing.TB) (dir string, ok bool) {
	t.Helper()
	isData := func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, "reference", "simclr_last.json"))
		return err == nil
	}
	if env := os.Getenv("MEMBANK_SHARED"); env != "" {
		for _, dir := range []string{env, filepath.Join(env, "data")} {
			if isData(dir) {
				return dir, true
			}
		}
		t.Fatalf("dumptest: MEMBANK_SHARED=%s holds no reference data", env)
	}
	dir = filepath.Join(Root(t), "..", "shared", "data")
	return dir, isData(dir)
}

var (
	once    sync.Once
	methods []Method
)

// Methods are all methods at hand, by name: those of Shared where it is found, else
// moco_v2 and byol.
func Methods(t testing.TB) []Method {
	t.Helper()
	once.Do(func() { methods = load(t) })
	if len(methods) == 0 {
		t.Fatal("dumptest: the reference data could not be read")
	}
	return slices.Clone(methods)
}

// Lookup is the method of that name; a test that asks for one that is not at hand
// is skipped. moco_v2 and byol always are.
func Lookup(t testing.TB, name string) Method {
	t.Helper()
	for _, m := range Methods(t) {
		if m.Name == name {
			return m
		}
	}
	t.Skipf("dumptest: %s is in the shared reference data only", name)
	return Method{}
}

func load(t testing.TB) []Method {
	t.Helper()
	ssl := Testdata(t, "ssl")
	train, test := Labels(t, filepath.Join(ssl, "train_labels_2000.npy")), Labels(t, filepath.Join(ssl, "test_labels.npy"))
	dirs := map[string]string{"moco_v2": filepath.Join(ssl, "moco_v2"), "byol": filepath.Join(ssl, "byol")}
	reference := filepath.Join(ssl, "reference")
	if shared, ok := Shared(t); ok {
		train, test = Labels(t, filepath.Join(shared, "train_labels.npy")), Labels(t, filepath.Join(shared, "test_labels.npy"))
		reference = filepath.Join(shared, "reference")
		dirs = map[string]string{"simclr_last": shared}
		folders, err := os.ReadDir(filepath.Join(shared, "methods"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range folders {
			dirs[f.Name()] = filepath.Join(shared, "methods", f.Name())
		}
	}
	var all []Method
	for name, dir := range dirs {
		m := Method{
			Name:      name,
			TrainPath: filepath.Join(dir, "train_features.npy"),
			TestPath:  filepath.Join(dir, "test_features.npy"),
			Noise:     name == "collapsed" || name == "nostopgrad_mild",
			reference: reference,
		}
		m.Train, m.Test = Features(t, m.TrainPath), Features(t, m.TestPath)
		m.TrainLabels, m.TestLabels = train[:m.Train.Rows], test[:m.Test.Rows]
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Method) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return all
}

// Features reads a whole file of embeddings.
func Features(t testing.TB, path string) simd.Matrix {
	t.Helper()
	r, err := dump.Open(path, dump.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	m := simd.NewMatrix(int(r.Rows()), r.Dim())
	if n, err := r.Next(context.Background(), m); n != m.Rows || err != nil {
		t.Fatalf("%s: %d of %d rows: %v", path, n, m.Rows, err)
	}
	return m
}

// Labels reads a whole file of labels.
func Labels(t testing.TB, path string) []int64 {
	t.Helper()
	l, err := dump.OpenLabels(path, dump.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	labels := make([]int64, l.Rows())
	if n, err := l.Next(labels); n != len(labels) || err != nil {
		t.Fatalf("%s: %d of %d labels: %v", path, n, len(labels), err)
	}
	return labels
}

// JSON is the method's reference/NAME.json.
func (m Method) JSON(t testing.TB) map[string]any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(m.reference, m.Name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// Figure is one number of JSON by its keys from the outside in, such as
// "knn", "dino_T0.07", "20", "top1". ok is false if there is none.
func (m Method) Figure(t testing.TB, keys ...string) (v float64, ok bool) {
	t.Helper()
	var at any = m.JSON(t)
	for _, key := range keys {
		object, _ := at.(map[string]any)
		at = object[key]
	}
	v, ok = at.(float64)
	return v, ok
}
