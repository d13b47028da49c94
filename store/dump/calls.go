package dump

import (
	"fmt"
	"math"
	"strings"
)

// ErrForbidden is wrapped by the error about a pickle that asks for a function to be
// called, or a class to be made, that plain tensors do not need. It was not run. It
// wraps ErrFormat.
var ErrForbidden = fmt.Errorf("forbidden in a pickle: %w", ErrFormat)

func forbidden(what string, at int64) error {
	e := bad("asks, at byte %d of its pickle, for %s, which is not run: only tensors, numbers, texts and what holds them are read", at, what)
	e.Err = ErrForbidden
	return e.fix("if you trust whoever made it, in Python: x = torch.load(path, weights_only=False); torch.save({'features': x[…].float()}, new)")
}

// storage is a run of elements of one type, that tensors are views of.
type storage struct {
	key    string
	header // kind, size, descr, brain
	count  int64
	first  int64 // elements of the stored run before this one, a view of it
}

// tensorView is what a call of torch's says of a tensor: its element i, j, … is
// number offset + i·strides[0] + j·strides[1] + … of the storage.
type tensorView struct {
	*storage
	offset  int64
	shape   []int64
	strides []int64
}

// storageTypes are torch's names of element types: of storages, and of dtypes.
var storageTypes = map[string]header{
	"torch.FloatStorage":    {kind: 'f', size: 4, descr: "float32"},
	"torch.DoubleStorage":   {kind: 'f', size: 8, descr: "float64"},
	"torch.HalfStorage":     {kind: 'f', size: 2, descr: "float16"},
	"torch.BFloat16Storage": {kind: 'f', size: 2, descr: "bfloat16", brain: true},
	"torch.LongStorage":     {kind: 'i', size: 8, descr: "int64"},
	"torch.IntStorage":      {kind: 'i', size: 4, descr: "int32"},
	"torch.ShortStorage":    {kind: 'i', size: 2, descr: "int16"},
	"torch.CharStorage":     {kind: 'i', size: 1, descr: "int8"},
	"torch.ByteStorage":     {kind: 'u', size: 1, descr: "uint8"},
	"torch.BoolStorage":     {kind: 'b', size: 1, descr: "bool"},

	"torch.ComplexFloatStorage":  {kind: otherTensor, size: 8, descr: "complex64"},
	"torch.ComplexDoubleStorage": {kind: otherTensor, size: 16, descr: "complex128"},

	// A storage without a type; the tensor's is told by torch._utils._rebuild_tensor_v3.
	"torch.UntypedStorage":         {kind: otherTensor, size: 1, descr: "bytes"},
	"torch.storage.UntypedStorage": {kind: otherTensor, size: 1, descr: "bytes"},
}

var dtypes = map[string]header{
	"torch.float32": storageTypes["torch.FloatStorage"], "torch.float64": storageTypes["torch.DoubleStorage"],
	"torch.float16": storageTypes["torch.HalfStorage"], "torch.bfloat16": storageTypes["torch.BFloat16Storage"],
	"torch.int64": storageTypes["torch.LongStorage"], "torch.int32": storageTypes["torch.IntStorage"],
	"torch.int16": storageTypes["torch.ShortStorage"], "torch.int8": storageTypes["torch.CharStorage"],
	"torch.uint8": storageTypes["torch.ByteStorage"], "torch.bool": storageTypes["torch.BoolStorage"],
	"torch.uint16":        {kind: 'u', size: 2, descr: "uint16"},
	"torch.uint32":        {kind: 'u', size: 4, descr: "uint32"},
	"torch.uint64":        {kind: 'u', size: 8, descr: "uint64"},
	"torch.complex64":     storageTypes["torch.ComplexFloatStorage"],
	"torch.complex128":    storageTypes["torch.ComplexDoubleStorage"],
	"torch.float8_e4m3fn": {kind: otherTensor, size: 1, descr: "float8_e4m3fn"},
	"torch.float8_e5m2":   {kind: otherTensor, size: 1, descr: "float8_e5m2"},
}

// calls are the functions and classes by whose names torch.save writes tensors and
// what people keep beside them. A name that is not here is refused.
var calls = map[string]func(args pickleTuple) (any, error){
	"torch._utils._rebuild_tensor":    rebuildTensor,
	"torch._utils._rebuild_tensor_v2": rebuildTensor,
	"torch._utils._rebuild_tensor_v3": rebuildTyped,
	"torch._utils._rebuild_parameter": rebuildParameter,
	"torch.Size":                      callTuple,
	"collections.OrderedDict":         callDict,
	"collections.defaultdict":         func(pickleTuple) (any, error) { return &pickleDict{}, nil },
	"builtins.dict":                   callDict,
	"__builtin__.dict":                callDict,
	"builtins.set":                    opaque("set"),
	"__builtin__.set":                 opaque("set"),
	"__builtin__.frozenset":           opaque("set"),
	"builtins.frozenset":              opaque("set"),
	"_codecs.encode":                  opaque("bytes"),
	"argparse.Namespace":              opaque("argparse.Namespace"),
	"torch.device":                    opaque("torch.device"),
	"numpy.dtype":                     opaque("numpy.dtype"),
	"numpy.core.multiarray.scalar":    opaque("numpy number"),
	"numpy._core.multiarray.scalar":   opaque("numpy number"),

	"numpy.core.multiarray._reconstruct":  opaque("numpy array"),
	"numpy._core.multiarray._reconstruct": opaque("numpy array"),
	"numpy.ndarray":                       opaque("numpy array"),
	"torch._utils._rebuild_sparse_tensor": opaque("sparse tensor"),
}

func opaque(is string) func(pickleTuple) (any, error) {
	return func(pickleTuple) (any, error) { return pickleOpaque{is}, nil }
}

// known reports whether a name may stand in a pickle.
func known(name string) bool {
	_, call := calls[name]
	_, kept := storageTypes[name]
	_, dtype := dtypes[name]
	return call || kept || dtype || factories[name]
}

// factories are named by a defaultdict, and never called here.
var factories = map[string]bool{
	"builtins.int": true, "builtins.float": true, "builtins.list": true,
	"__builtin__.int": true, "__builtin__.float": true, "__builtin__.list": true,
}

// name obeys the instructions that name functions and call them.
func (p *unpickler) name(op byte) error {
	at := p.at - 1
	switch op {
	case 'c', 'i': // GLOBAL, INST: the name as two lines
		module, err := p.line()
		if err != nil {
			return err
		}
		name, err := p.line()
		if err != nil {
			return err
		}
		if op == 'i' {
			return forbidden(quote(module+"."+name), at)
		}
		return p.global(module, name, at)
	case 0x93: // STACK_GLOBAL
		names, err := p.popN(2)
		if err != nil {
			return err
		}
		module, ok1 := names[0].(string)
		name, ok2 := names[1].(string)
		if !ok1 || !ok2 {
			return errPickle("a name that is no text")
		}
		return p.global(module, name, at)
	case 'Q':
		id, err := p.pop()
		if err != nil {
			return err
		}
		v, err := p.persistent(id)
		if err == nil {
			p.push(v)
		}
		return err
	case 'b': // BUILD: attributes of what was made; of no use here, and of tensors none
		_, err := p.popN(1)
		if err != nil {
			return err
		}
		_, err = p.top()
		return err
	case 'R', 0x81: // REDUCE, NEWOBJ
		pair, err := p.popN(2)
		if err != nil {
			return err
		}
		return p.call(pair[0], pair[1], at)
	case 0x92: // NEWOBJ_EX: with arguments by name
		three, err := p.popN(3)
		if err != nil {
			return err
		}
		return p.call(three[0], three[1], at)
	}
	return forbidden("an object of a class on the stack", at) // OBJ
}

func (p *unpickler) global(module, name string, at int64) error {
	full := module + "." + name
	if !known(full) {
		return forbidden(quote(full), at)
	}
	p.push(pickleGlobal(full))
	return nil
}

func (p *unpickler) call(callee, arguments any, at int64) error {
	name, ok := callee.(pickleGlobal)
	args, tuple := arguments.(pickleTuple)
	if !ok || !tuple {
		return errPickle("a call of what is no function")
	}
	call, ok := calls[string(name)]
	if !ok {
		return forbidden("a call of "+quote(string(name)), at)
	}
	p.steps += 16 * pickleLen(args) // so that copying one long list over and over ends
	v, err := call(args)
	if err == nil {
		p.push(v)
	}
	return err
}

// pickleLen is how many items the sequences among the arguments have.
func pickleLen(args pickleTuple) int {
	n := 0
	for _, v := range args {
		switch v := v.(type) {
		case pickleTuple:
			n += len(v)
		case *pickleList:
			n += len(v.items)
		}
	}
	return n
}

func callTuple(args pickleTuple) (any, error) {
	if len(args) == 1 {
		switch v := args[0].(type) {
		case pickleTuple:
			return v, nil
		case *pickleList:
			return pickleTuple(v.items), nil
		}
	}
	return nil, errPickle("a tuple of what is no sequence")
}

// callDict is dict(x), where x are pairs.
func callDict(args pickleTuple) (any, error) {
	d := &pickleDict{}
	if len(args) == 0 {
		return d, nil
	}
	pairs, err := callTuple(args)
	if err != nil {
		return nil, err
	}
	for _, pair := range pairs.(pickleTuple) {
		v, err := callTuple(pickleTuple{pair})
		if err != nil {
			return nil, err
		}
		kv := v.(pickleTuple)
		if len(kv) != 2 {
			return nil, errPickle("a dict of what are no pairs")
		}
		d.keys, d.values = append(d.keys, kv[0]), append(d.values, kv[1])
	}
	return d, nil
}

// rebuildParameter is (data, requires_grad, hooks).
func rebuildParameter(args pickleTuple) (any, error) {
	if len(args) > 0 {
		if t, ok := args[0].(*tensorView); ok {
			return t, nil
		}
	}
	return nil, errPickle("a parameter without a tensor")
}

// rebuildTensor is (storage, offset, size, stride, …). What follows is about
// gradients, and where the elements are to be taken negative or conjugate.
func rebuildTensor(args pickleTuple) (any, error) {
	if len(args) < 4 {
		return nil, errPickle("a tensor without storage, offset, size and stride")
	}
	s, ok := args[0].(*storage)
	offset, whole := args[1].(int64)
	shape, err := sizes(args[2])
	if err != nil {
		return nil, err
	}
	strides, err := sizes(args[3])
	if err != nil {
		return nil, err
	}
	if !ok || !whole || offset < 0 || len(strides) != len(shape) || len(shape) > maxDims {
		return nil, errPickle("a tensor that describes no view of a storage")
	}
	if len(args) > 6 {
		if bits, ok := args[6].(*pickleDict); ok {
			for _, v := range bits.values {
				if set, ok := v.(bool); ok && set {
					return nil, bad("holds a lazily negated or conjugated view").fix("torch.save(x.clone(), path)")
				}
			}
		}
	}
	t := &tensorView{storage: s, offset: offset, shape: shape, strides: strides}
	return t, t.check()
}

// rebuildTyped is (storage, offset, size, stride, requires_grad, hooks, dtype, …) over
// a storage of bytes.
func rebuildTyped(args pickleTuple) (any, error) {
	if len(args) < 7 {
		return nil, errPickle("a tensor without its type")
	}
	name, _ := args[6].(pickleGlobal)
	as, ok := dtypes[string(name)]
	s, stored := args[0].(*storage)
	if !ok || !stored || s.size != 1 || s.count%as.size != 0 || s.first != 0 {
		return nil, errPickle("a tensor of no known type")
	}
	typed := *s
	typed.kind, typed.size, typed.descr, typed.brain = as.kind, as.size, as.descr, as.brain
	typed.count = s.count / as.size
	return rebuildTensor(append(pickleTuple{&typed}, args[1:6]...))
}

// sizes are the elements of a shape or of strides.
func sizes(v any) ([]int64, error) {
	t, ok := v.(pickleTuple)
	if !ok || len(t) > maxDims {
		return nil, errPickle("a shape that is no tuple of sizes")
	}
	list := make([]int64, len(t))
	for i, v := range t {
		n, ok := v.(int64)
		if !ok || n < 0 {
			return nil, errPickle("a size that is none")
		}
		list[i] = n
	}
	return list, nil
}

// check holds the view against its storage: every element of it must be there.
func (t *tensorView) check() error {
	h := header{shape: t.shape, size: t.size}
	n, ok := h.elements()
	if !ok {
		return bad("holds a tensor of the impossible shape %s", shapeString(t.shape)).fix("the file is damaged: save it again")
	}
	if n == 0 {
		return nil
	}
	last := t.offset
	for i, d := range t.shape {
		if d > 1 && t.strides[i] > (math.MaxInt64-last)/(d-1) {
			return t.outside()
		}
		last += (d - 1) * t.strides[i]
	}
	// An expanded tensor (a stride of 0) repeats its elements; it may be no larger
	// than what a file could hold of it.
	if last >= t.count {
		return t.outside()
	}
	if n > t.count && n-t.count > expandLimit {
		return bad("holds a tensor of shape %s over %d elements", shapeString(t.shape), t.count).fix("torch.save(x.contiguous(), path)")
	}
	return nil
}

const expandLimit = 1 << 30 // elements that a view may have beyond its storage's

func (t *tensorView) outside() error {
	return bad("holds a tensor of shape %s and strides %s from element %d on, and its storage has %d", shapeString(t.shape), shapeString(t.strides), t.offset, t.count).
		fix("the file is damaged: save it again")
}

// tensorHeader is the view as the header of an array.
func (t *tensorView) tensorHeader() header {
	h := t.header
	h.shape = t.shape
	return h
}

// reference reads the persistent id of a storage: ("storage", type, key, place,
// count), and in files of the old format a view of it: (key, first, count) or None.
func reference(id any) (*storage, error) {
	t, ok := id.(pickleTuple)
	if !ok || len(t) < 5 || len(t) > 6 {
		return nil, errPickle("a reference that is none to a storage")
	}
	word, _ := t[0].(string)
	kind, _ := t[1].(pickleGlobal)
	key, isText := t[2].(string)
	count, isCount := t[4].(int64)
	h, isType := storageTypes[string(kind)]
	switch {
	case word != "storage" || !isText || !isCount || count < 0 || strings.ContainsAny(key, "/\\"):
		return nil, errPickle("a reference that is none to a storage")
	case !isType:
		return nil, errPickle("a storage of no known type")
	case count > math.MaxInt64/h.size:
		return nil, errPickle("a storage of impossible size")
	}
	s := &storage{key: key, header: h, count: count}
	if len(t) == 6 && t[5] != nil {
		view, ok := t[5].(pickleTuple)
		if !ok || len(view) != 3 {
			return nil, errPickle("a view of a storage that describes none")
		}
		first, ok1 := view[1].(int64)
		n, ok2 := view[2].(int64)
		if !ok1 || !ok2 || first < 0 || n < 0 || first > count || n > count-first {
			return nil, errPickle("a view outside of its storage")
		}
		s.first, s.count = first, n
	}
	return s, nil
}
