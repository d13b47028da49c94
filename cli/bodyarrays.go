package cli

import (
	"context"
	"io"
	"path"
	"slices"
	"strings"

	"membank/simd"
	"membank/store"
	"membank/store/dump"

	ucli "github.com/urfave/cli/v2"
)

// bodyArrays are the arrays of a request's body that stand for the files of a
// command: an array is called as the flag that would name its file, ids, and of a
// flag that may be given again vectors, vectors_1, …
type bodyArrays map[string]*bodyArray

// bodyArray is an array in memory: a batch, not a bank.
type bodyArray struct {
	name   string // for errors
	matrix simd.Matrix
	ints   []int64
	floats []float64
	texts  []string
}

// readBodyArrays reads a body whole. Its arrays together may take a quarter of a
// request's share of memory, which is weighed before any of them is read.
func readBodyArrays(ctx context.Context, stream *dump.Stream, command *spareCommand, memory int64) (bodyArrays, []string, error) {
	arrays, order, left := bodyArrays{}, []string{}, memory/4
	for {
		x, err := stream.Next()
		if err == io.EOF {
			return arrays, order, nil
		}
		if err != nil {
			return nil, nil, err
		}
		name := path.Base(x.Member())
		if x.Member() == "" {
			name = "vectors" // a bare .npy
			if x.Kind() != 'f' {
				name = "ids"
			}
		}
		flag := command.fileFlag(name)
		if flag == "" {
			return nil, nil, usage("%s: array %.80q stands for no file of membank %s (arrays are called as its flags)", x.Name(), name, command.title())
		}
		if arrays[name] != nil {
			return nil, nil, badInput("%s: array %.80q comes twice", x.Name(), name)
		}
		if left -= x.Size() + 16*x.Len(); left < 0 || x.Len() > memory {
			return nil, nil, badInput("%s: more than %s at once (send it in several batches)", x.Name(), size(memory/4))
		}
		a := &bodyArray{name: x.Name()}
		switch kind := x.Kind(); {
		case kind == 'f' && len(x.Shape()) == 2:
			err = a.readMatrix(ctx, x)
		case kind == 'f':
			err = a.readFloats(x)
		case strings.ContainsRune("iub", rune(kind)):
			a.ints, err = x.AllInts(dump.NoLabel)
		default:
			a.texts, err = x.AllStrings()
		}
		if err != nil {
			return nil, nil, err
		}
		arrays[name], order = a, append(order, name)
	}
}

func (a *bodyArray) readMatrix(ctx context.Context, x *dump.Array) error {
	r, err := x.Embeddings()
	if err != nil {
		return err
	}
	a.matrix = simd.NewMatrix(int(r.Rows()), r.Dim())
	for at := 0; at < a.matrix.Rows; {
		n, err := r.Next(ctx, a.matrix.Slice(at, a.matrix.Rows))
		if err != nil {
			return err
		}
		at += n
	}
	return nil
}

func (a *bodyArray) readFloats(x *dump.Array) error {
	part := make([]float32, x.Len())
	for at := 0; at < len(part); {
		n, err := x.Floats(part[at:])
		if err != nil {
			return err
		}
		at += n
	}
	for _, v := range part {
		a.floats = append(a.floats, float64(v))
	}
	return nil
}

// attach reads the body of a call whose command reads several files, and sets the
// flags that would have named them.
func (sv *served) attach(ctx context.Context, command *spareCommand) error {
	call := sv.call
	if !call.Named || call.Body == nil {
		return nil
	}
	stream, err := sv.body()
	if err != nil {
		return err
	}
	var order []string
	if sv.arrays, order, err = readBodyArrays(ctx, stream, command, sv.memory); err != nil {
		return err
	}
	slices.Sort(order)
	for _, name := range order {
		flag := command.fileFlag(name)
		call.Flags[flag] = append(call.Flags[flag], name)
	}
	return nil
}

// array is the array that stands for a file. What a client names is never opened.
func (sv *served) array(name, flag string) (*bodyArray, error) {
	if a := sv.arrays[name]; a != nil {
		return a, nil
	}
	return nil, usage("%.80q: the body holds no such array (send it as %s)", name, flag)
}

func (a *bodyArray) wrong(want string) error {
	return badInput("%s: is not %s", a.name, want)
}

// labels are a list of labels, -1 being none.
func (a *bodyArray) labels() ([]int64, error) {
	if a.ints == nil {
		return nil, a.wrong("an array of integers")
	}
	labels := slices.Clone(a.ints)
	for i, l := range labels {
		if l == -1 {
			labels[i] = store.NoLabel
		}
	}
	return labels, nil
}

// usageOf is the help of a flag.
func usageOf(f ucli.Flag) string {
	if d, ok := f.(ucli.DocGenerationFlag); ok {
		return d.GetUsage()
	}
	return ""
}
