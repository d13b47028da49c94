package dump_test

import (
	"archive/zip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"membank/simd"
	"membank/store/dump"
)

// fuzzFile runs read over a file of the fuzzed bytes. A failure must be a
// *dump.Error about the format, and nothing may be allocated beyond some megabytes
// of buffers and a multiple of the file.
func fuzzFile(f *testing.F, name string, read func(path string) error) {
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, body []byte) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
		var err error
		n := allocated(func() { err = read(path) })
		// 32 MiB: the batch of a Fortran-order array and its chunks. Deflate unpacks
		// up to 1030:1, and a small Fortran-order array is unpacked whole.
		if n > 32<<20+uint64(len(body))*4096 {
			t.Errorf("%d bytes allocated for a file of %d", n, len(body))
		}
		if err != nil && !errors.Is(err, dump.ErrFormat) {
			t.Errorf("%v (%T) is not an error about the format", err, err)
		}
	})
}

// drain reads embeddings to the end, few rows at once when rows are wide.
func drain(path string, o dump.Options) error {
	r, err := dump.Open(path, o)
	if err != nil {
		return err
	}
	defer r.Close()
	m := simd.NewMatrix(max(1, 4096/r.Dim()), r.Dim())
	rows := int64(0)
	for {
		n, err := r.Next(context.Background(), m)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		rows += int64(n)
	}
	if rows != r.Rows() {
		return errors.New("the rows that came are not those that were promised")
	}
	return nil
}

func FuzzNPY(f *testing.F) {
	f.Add(npy(1, f4("(2, 2)"), make([]byte, 16)))
	f.Add(npy(2, "{'descr': '>f2', 'fortran_order': True, 'shape': (3, 2), }", make([]byte, 12)))
	f.Add(npy(3, "{'descr': '<f8', 'fortran_order': False, 'shape': (1L, 1L), }", make([]byte, 8)))
	f.Add(npy(1, f4("(4294967296, 4294967296)"), nil))
	f.Add(npy(1, "{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (2,), }", make([]byte, 8)))
	fuzzFile(f, "x.npy", func(path string) error { return drain(path, dump.Options{}) })
}

func FuzzNPZ(f *testing.F) {
	x := npy(1, f4("(2, 2)"), make([]byte, 16))
	y := npy(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }", make([]byte, 16))
	f.Add(npz(zip.Store, member{"x.npy", x}))
	f.Add(npz(zip.Deflate, member{"x.npy", x}, member{"l.npy", npy(1, "{'descr': '|i1', 'fortran_order': False, 'shape': (2,), }", make([]byte, 2))}))
	f.Add(npz(zip.Deflate, member{"x.npy", y}))
	f.Add(npz(zip.Store, member{"x.npy", y}, member{"x.npy", x}))
	fuzzFile(f, "x.npz", func(path string) error { return drain(path, dump.Options{}) })
}

func FuzzCSV(f *testing.F) {
	for _, s := range []string{"1,2\n3,4\n", "key,label,f0\n\"a\"\"\n\",cat,1e9\n", ",0,1\n0,1,2\n", "\xef\xbb\xbff0\r\nnan\r\n", "a\n\n1\n"} {
		f.Add([]byte(s))
	}
	fuzzFile(f, "x.csv", func(path string) error {
		table, err := dump.OpenTable(path)
		if err == nil {
			table.Close()
		} else if !errors.Is(err, dump.ErrFormat) {
			return err
		}
		return drain(path, dump.Options{})
	})
}

func FuzzLabels(f *testing.F) {
	f.Add([]byte("1\n2\n-1\n"))
	f.Add([]byte("cat\r\n\r\ndog"))
	f.Add(npy(1, "{'descr': '>i2', 'fortran_order': False, 'shape': (2,), }", make([]byte, 4)))
	f.Add(npy(1, "{'descr': '<U2', 'fortran_order': False, 'shape': (2, 1), }", make([]byte, 16)))
	f.Add(npz(zip.Deflate, member{"l.npy", npy(1, "{'descr': '|b1', 'fortran_order': False, 'shape': (2,), }", make([]byte, 2))}))
	fuzzFile(f, "y.txt", func(path string) error {
		l, err := dump.OpenLabels(path, dump.Options{})
		if err != nil {
			return err
		}
		defer l.Close()
		rows := int64(0)
		for part := make([]int64, 100); ; {
			n, err := l.Next(part)
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			for _, v := range part[:n] {
				if l.Names() != nil && v != dump.NoLabel && uint64(v) >= uint64(len(l.Names())) {
					return errors.New("a label without a name")
				}
			}
			rows += int64(n)
		}
		if rows != l.Rows() {
			return errors.New("the labels that came are not those that were promised")
		}
		return nil
	})
}

func FuzzKeys(f *testing.F) {
	f.Add([]byte("a\nb\n"))
	f.Add([]byte("a\r\n\r\nb"))
	f.Add(npy(1, "{'descr': '|S3', 'fortran_order': False, 'shape': (2,), }", []byte("abcdef")))
	fuzzFile(f, "k.txt", func(path string) error {
		k, err := dump.OpenKeys(path)
		if err != nil {
			return err
		}
		defer k.Close()
		for part := make([]string, 100); ; {
			if _, err := k.Next(part); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
		}
	})
}
