package dump

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// torch.save writes a zip, its members stored as they are:
//
//	NAME/data.pkl    the pickle: dicts, lists, numbers, and tensors as views of storages
//	NAME/data/0      the elements of storage "0", one after another
//	NAME/byteorder   "little" or "big"; without it little
//
// and before torch 1.6 one file (legacy.go). Either way what a file holds is a list of
// entries: every tensor, and every list of texts or of integers, by its path through
// the dicts and lists around it: "features", "model.queue", "0"; a tensor alone has
// the name "".

// entry is something in a torch file that can be read as an array.
type entry struct {
	name string
	header
	view  *tensorView // of elements in the file; nil: a list
	texts []string
	ints  []int64
}

const (
	entryLimit = 1 << 15
	visitLimit = 1 << 16  // dicts, lists and tensors
	depthLimit = 64       // dicts inside dicts
	nameLimit  = 4096     // bytes of a name
	namesBytes = 16 << 20 // of all
)

// torchFile is a torch file whose pickle has been read.
type torchFile struct {
	in      input
	entries []entry
	order   binary.ByteOrder
	// run opens the elements of a storage.
	run func(s *storage) (run, error)
}

// run is where the elements of a storage lie.
type run struct {
	at io.ReaderAt
	// whole reads all of it once, and compares a checksum where there is one; nil:
	// there is none.
	whole func() (io.ReadCloser, error)
}

// torchZip reads the pickle of a zip that torch.save wrote.
func (in input) torchZip(z *zip.Reader, pkl *zip.File) (*torchFile, error) {
	prefix := strings.TrimSuffix(pkl.Name, "data.pkl")
	members := map[string]*zip.File{}
	for _, f := range z.File {
		name, ours := strings.CutPrefix(f.Name, prefix)
		if !ours {
			continue
		}
		if members[name] != nil {
			return nil, bad("holds two members named %s", quote(f.Name)).fix("copy or save it again")
		}
		members[name] = f
	}
	order, err := torchOrder(members["byteorder"])
	if err != nil {
		return nil, err
	}
	file := &torchFile{in: in, order: order}
	r, err := openMemberReader(pkl)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	persistent := func(id any) (any, error) {
		s, err := reference(id)
		if err != nil {
			return nil, err
		}
		f := members["data/"+s.key]
		switch {
		case len(id.(pickleTuple)) != 5:
			return nil, errPickle("a view of a storage, as in the old format")
		case f == nil:
			return nil, bad("refers to storage %s, which it does not hold", quote(s.key)).fix("copy or save it again")
		case uint64(s.count)*uint64(s.size) != f.UncompressedSize64:
			return nil, bad("promises %d elements of %s in storage %s, which has %d bytes", s.count, s.descr, quote(s.key), f.UncompressedSize64).
				fix("copy or save it again")
		}
		return s, nil
	}
	value, _, err := unpickle(r, int64(pkl.UncompressedSize64), persistent)
	if err == nil {
		// To the end, where the checksum is compared.
		_, err = io.Copy(io.Discard, r)
	}
	if err != nil {
		return nil, err
	}
	file.run = func(s *storage) (run, error) { return in.torchMember(members["data/"+s.key]) }
	file.entries, err = listEntries(value, order)
	return file, err
}

func torchOrder(f *zip.File) (binary.ByteOrder, error) {
	if f == nil {
		return binary.LittleEndian, nil
	}
	r, err := openMemberReader(f)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, 16))
	switch {
	case err != nil:
		return nil, err
	case string(text) == "little":
		return binary.LittleEndian, nil
	case string(text) == "big":
		return binary.BigEndian, nil
	}
	return nil, bad("says its byte order is %s", quote(string(text))).fix("copy or save it again")
}

// torchMember opens a storage. torch stores them; one that somebody compressed later is
// unpacked in memory if it is small.
func (in input) torchMember(f *zip.File) (run, error) {
	if err := checkMember(f); err != nil {
		return run{}, err
	}
	if f.Method == zip.Store {
		start, err := f.DataOffset()
		if err != nil {
			return run{}, zipFault(err)
		}
		size := int64(f.UncompressedSize64)
		if start > in.size || size > in.size-start {
			return run{}, zipFault(zip.ErrFormat)
		}
		return run{
			at:    io.NewSectionReader(in.f, start, size),
			whole: func() (io.ReadCloser, error) { return openMemberReader(f) },
		}, nil
	}
	if f.UncompressedSize64 > spoolLimit {
		return run{}, bad("has compressed storages, which torch.save does not write and torch.load does not read").fix("unzip it and zip it again with -0")
	}
	r, err := openMemberReader(f)
	if err != nil {
		return run{}, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, int64(f.UncompressedSize64)+1))
	if err != nil {
		return run{}, err
	}
	if uint64(len(data)) != f.UncompressedSize64 {
		return run{}, bad("holds %d bytes where %d are promised", len(data), f.UncompressedSize64).fix("the archive is damaged: copy or save it again")
	}
	return run{at: bytes.NewReader(data)}, nil
}

// listEntries finds the arrays in what a pickle held, in its order.
func listEntries(value any, order binary.ByteOrder) ([]entry, error) {
	l := lister{order: order, seen: map[any]bool{}}
	if err := l.walk("", value, 0); err != nil {
		return nil, err
	}
	if len(l.entries) == 0 {
		return nil, bad("holds no tensors").fix(savePlain)
	}
	return l.entries, nil
}

type lister struct {
	order   binary.ByteOrder
	entries []entry
	seen    map[any]bool // containers: one inside itself is followed once
	visits  int          // tuples have no identity, so what they repeat is counted instead
	items   int          // of all sequences
	names   int          // bytes
}

func (l *lister) walk(name string, value any, depth int) error {
	if l.visits++; depth > depthLimit || l.visits > visitLimit || l.items > pickleSteps || len(name) > nameLimit {
		return bad("has dicts and lists inside one another deeper or more often than makes sense").fix(savePlain)
	}
	inside := func(key string) string {
		if name == "" {
			return key
		}
		return name + "." + key
	}
	switch v := value.(type) {
	case *tensorView:
		h := v.tensorHeader()
		h.order = l.order
		return l.add(entry{name: name, header: h, view: v})
	case *pickleDict:
		if l.seen[v] {
			return nil
		}
		l.seen[v] = true
		for i, key := range v.keys {
			text, ok := key.(string)
			if n, whole := key.(int64); whole {
				text, ok = strconv.FormatInt(n, 10), true
			}
			if ok {
				if err := l.walk(inside(text), v.values[i], depth+1); err != nil {
					return err
				}
			}
		}
	case *pickleList:
		if l.seen[v] {
			return nil
		}
		l.seen[v] = true
		return l.sequence(name, inside, v.items, depth)
	case pickleTuple:
		return l.sequence(name, inside, v, depth)
	}
	return nil
}

// sequence is a list of texts or integers, which is an array, or one of other things.
func (l *lister) sequence(name string, inside func(string) string, items []any, depth int) error {
	l.items += len(items)
	if e, ok := listEntry(items); ok {
		e.name, e.order = name, binary.LittleEndian
		return l.add(e)
	}
	for i, item := range items {
		switch item.(type) {
		case *tensorView, *pickleDict, *pickleList, pickleTuple:
			if err := l.walk(inside(strconv.Itoa(i)), item, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *lister) add(e entry) error {
	if l.names += len(e.name); len(l.entries) == entryLimit || l.names > namesBytes {
		return bad("holds more than %d tensors", entryLimit).fix(savePlain)
	}
	l.entries = append(l.entries, e)
	return nil
}

// listEntry takes items as an array if all are texts or all are integers.
func listEntry(items []any) (entry, bool) {
	if len(items) == 0 {
		return entry{}, false
	}
	h := header{shape: []int64{int64(len(items))}}
	switch items[0].(type) {
	case string:
		texts := make([]string, len(items))
		for i, v := range items {
			text, ok := v.(string)
			if !ok {
				return entry{}, false
			}
			texts[i] = text
		}
		h.kind, h.size, h.descr = 'U', 1, "strings"
		return entry{header: h, texts: texts}, true
	case int64, bool:
		ints := make([]int64, len(items))
		for i, v := range items {
			switch v := v.(type) {
			case int64:
				ints[i] = v
			case bool:
				if v {
					ints[i] = 1
				}
			default:
				return entry{}, false
			}
		}
		h.kind, h.size, h.descr = 'i', 8, "integers"
		return entry{header: h, ints: ints}, true
	}
	return entry{}, false
}

// array opens the named or only fitting entry.
func (t *torchFile) array(name string, w want) (*array, error) {
	var named, fitting []int
	for i, e := range t.entries {
		if name != "" && e.name == name {
			named = append(named, i)
		}
		if name == "" && w.fits(e.header) {
			fitting = append(fitting, i)
		}
	}
	switch {
	case name != "" && len(named) == 1:
		return t.open(named[0])
	case name != "" && len(named) > 1:
		return nil, bad("holds %d arrays named %s", len(named), quote(name)).fix(savePlain)
	case name != "":
		return nil, bad("holds no array %s", quote(name)).fix("it holds %s", t.list(nil))
	case len(fitting) == 1:
		return t.open(fitting[0])
	case len(fitting) > 1:
		return nil, bad("holds more than one %s: %s", w, t.list(fitting)).fix("say which, by name")
	case len(t.entries) == 1: // say what is wrong with it
		return t.open(0)
	}
	return nil, bad("holds no %s, only %s", w, t.list(nil)).fix("say which array, by name, or save the right one")
}

// list names up to eight entries, those at the places given or from the first on.
func (t *torchFile) list(places []int) string {
	if places == nil {
		for i := range t.entries {
			places = append(places, i)
		}
	}
	var s []string
	for n, i := range places {
		if n == 8 {
			s = append(s, fmt.Sprintf("and %d more", len(places)-n))
			break
		}
		e := t.entries[i]
		s = append(s, fmt.Sprintf("%s (%s %s)", strings.Trim(quote(e.name), `"`), e.descr, e.shapeString()))
	}
	return strings.Join(s, ", ")
}

func (t *torchFile) open(i int) (*array, error) {
	e := t.entries[i]
	path := t.in.path
	if e.name != "" {
		path += "[" + strings.Trim(quote(e.name), `"`) + "]"
	}
	a, err := t.openEntry(e)
	if err != nil {
		return nil, at(path, err)
	}
	a.path = path
	return a, nil
}

func (t *torchFile) openEntry(e entry) (*array, error) {
	a := &array{header: e.header, close: t.in.f.Close}
	switch {
	case e.texts != nil:
		a.texts = e.texts
		return a, nil
	case e.view == nil:
		data := make([]byte, 0, 8*len(e.ints))
		for _, v := range e.ints {
			data = binary.LittleEndian.AppendUint64(data, uint64(v))
		}
		a.seq = bytes.NewReader(data)
		return a, nil
	case e.kind == otherTensor:
		return nil, bad("has elements of type %s", e.descr).fix("torch.save(x.float(), path)")
	}
	n, _ := e.elements()
	if n == 0 {
		a.seq = bytes.NewReader(nil)
		return a, nil
	}
	elements, err := t.run(e.view.storage)
	if err != nil {
		return nil, err
	}
	return a, a.takeView(e.view, elements)
}

// takeView reads the elements of a tensor from its storage: as they lie if they lie
// in C order, else gathered run by run, columns first where those lie closer.
func (a *array) takeView(v *tensorView, from run) error {
	n, _ := a.elements()
	start := (v.first + v.offset) * v.size
	if v.contiguous() && from.whole != nil && start == 0 && n == v.count {
		seq, err := from.whole()
		if err != nil {
			return err
		}
		a.seq, a.close = seq, closeBoth(seq, a.close)
		return nil
	}
	if from.whole != nil { // parts are read, so the checksum is compared before
		all, err := from.whole()
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, all)
		all.Close()
		if err != nil {
			return err
		}
	}
	if v.contiguous() {
		a.seq = io.NewSectionReader(from.at, start, n*v.size)
		return nil
	}
	s := &strided{src: from.at, start: start, size: v.size, outer: 1, outerStride: 0, inner: v.shape[0]}
	switch len(v.shape) {
	case 1:
		s.innerStride = v.strides[0]
	case 2:
		s.outer, s.inner = v.shape[0], v.shape[1]
		s.outerStride, s.innerStride = v.strides[0], v.strides[1]
		if a.fortran = s.outerStride < s.innerStride; a.fortran {
			s.outer, s.inner = s.inner, s.outer
			s.outerStride, s.innerStride = s.innerStride, s.outerStride
		}
	default:
		return bad("holds a view of shape %s that does not lie in one piece", shapeString(v.shape)).fix("torch.save(x.contiguous(), path)")
	}
	a.at, a.seq = s, io.NewSectionReader(s, 0, n*v.size)
	return nil
}

// contiguous reports whether the elements lie one after another in C order.
func (v *tensorView) contiguous() bool {
	next := int64(1)
	for i := len(v.shape) - 1; i >= 0; i-- {
		if v.shape[i] != 1 && v.strides[i] != next {
			return false
		}
		next *= v.shape[i]
	}
	return true
}

func closeBoth(first io.Closer, then func() error) func() error {
	return func() error {
		err := first.Close()
		if later := then(); err == nil {
			err = later
		}
		return err
	}
}

// findTorch gives the pickle of a zip that torch.save wrote, nil for another zip.
func findTorch(z *zip.Reader) *zip.File {
	at := slices.IndexFunc(z.File, func(f *zip.File) bool { return f.Name == "data.pkl" || strings.HasSuffix(f.Name, "/data.pkl") })
	if at < 0 {
		return nil
	}
	return z.File[at]
}
