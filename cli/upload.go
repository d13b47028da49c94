package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"membank/simd"
	"membank/store"
	"membank/store/dump"
)

// upload is the rows of a request's body: an .npy of vectors, or an .npz or
// .safetensors in which the arrays of a piece of rows stand together, the vectors
// behind the others:
//
//	sources      what the rows come from, JSON (only membank itself sends it)
//	class_names  names of labels 0, 1, …, once, before the first vectors
//	labels       integers (−1: none) or, where one piece is all, names
//	keys         strings
//	attributes   strings, a JSON object a row
//	features     the vectors: any array of floats in two dimensions
//
// Names may have a part before a slash, 000/features, so that a body can hold any
// number of pieces; neither side needs to hold more than one. The body is read once.
type upload struct {
	s      *session
	arrays *dump.Stream
	array  string // the vectors' name; "": any
	labels string // the labels' name; "": labels

	head       *dump.Reader // vectors of the piece that is next; nil: none
	piece      piece
	dims       int
	classNames []string
	from       uploadSources
	received   int64 // rows before this piece
}

// piece is what stands before the vectors it belongs to.
type piece struct {
	labels     []int64
	keys       []string
	attributes []store.Attribute
}

// uploadSources is the array called sources.
type uploadSources struct {
	Command    string             `json:"command"`
	Files      []store.SourceFile `json:"files"` // of vectors, labels, keys and attributes
	Rows       []uploadFile       `json:"rows"`  // the files of vectors
	Keys       string             `json:"keys,omitempty"`
	Attributes string             `json:"attributes,omitempty"`
}

type uploadFile struct {
	Name string `json:"name"`
	Rows int64  `json:"rows"`
}

// check reads up to the first vectors.
func (u *upload) check() (err error) {
	if u.arrays, err = u.s.served.body(); err != nil {
		return err
	}
	if err := u.advance(); err != nil {
		return err
	}
	if u.head == nil {
		return badInput("%s: holds no vectors (send floats in two dimensions)", u.name())
	}
	u.dims = u.head.Dim()
	return nil
}

func (u *upload) name() string { return u.s.served.call.BodyName }

// advance goes to the next vectors, taking what stands before them; head is nil
// at the end of the body.
func (u *upload) advance() error {
	u.head, u.piece = nil, piece{}
	for {
		x, err := u.arrays.Next()
		if err == io.EOF {
			if u.piece.labels != nil || u.piece.keys != nil || u.piece.attributes != nil {
				return badInput("%s: labels, keys or attributes come after the vectors they belong to (send them first: np.savez(f, labels=y, keys=k, features=x))", u.name())
			}
			return nil
		}
		if err != nil {
			return err
		}
		is, err := u.take(x)
		if err != nil || is {
			return err
		}
	}
}

// take puts an array where it belongs; is reports that it is the vectors.
func (u *upload) take(x *dump.Array) (is bool, err error) {
	name := path.Base(x.Member())
	labels := u.labels
	if labels == "" {
		labels = "labels"
	}
	vectors := x.Kind() == 'f' && len(x.Shape()) == 2
	switch {
	case u.array != "" && (name == u.array || x.Member() == u.array), u.array == "" && vectors, x.Member() == "":
		u.head, err = x.Embeddings()
		return true, err
	case name == labels:
		return false, u.takeLabels(x)
	case name == "keys":
		u.piece.keys, err = u.strings(x)
	case name == "class_names":
		if u.received > 0 || u.classNames != nil {
			return false, badInput("%s: class_names stand behind vectors (send them first)", u.name())
		}
		u.classNames, err = u.strings(x)
	case name == "attributes":
		err = u.takeAttributes(x)
	case name == "sources":
		var text []string
		if text, err = u.strings(x); err == nil && len(text) == 1 {
			err = json.Unmarshal([]byte(text[0]), &u.from)
		}
	}
	return false, err
}

// room refuses what would not fit this request's share of memory.
func (u *upload) room(x *dump.Array, each int64) error {
	if n := x.Len(); n > u.s.served.memory/4/each || x.Size() > u.s.served.memory/4 {
		return badInput("%s: %s elements beside the vectors are more than this server holds at once (send the rows in several pieces)", x.Name(), count(n))
	}
	return nil
}

func (u *upload) strings(x *dump.Array) ([]string, error) {
	if err := u.room(x, 48); err != nil {
		return nil, err
	}
	return x.AllStrings()
}

func (u *upload) takeLabels(x *dump.Array) (err error) {
	if x.Kind() != 'U' && x.Kind() != 'S' {
		if err := u.room(x, 8); err != nil {
			return err
		}
		u.piece.labels, err = x.AllInts(-1)
		return err
	}
	texts, err := u.strings(x)
	if err != nil {
		return err
	}
	if u.received > 0 || u.classNames != nil {
		return badInput("%s: names of classes in a body of several pieces (send integers, and their names as class_names)", x.Name())
	}
	u.classNames = slices.Compact(slices.Sorted(slices.Values(texts)))
	u.classNames = slices.DeleteFunc(u.classNames, func(name string) bool { return name == "" })
	u.piece.labels = make([]int64, len(texts))
	for i, text := range texts {
		if u.piece.labels[i] = store.NoLabel; text != "" {
			at, _ := slices.BinarySearch(u.classNames, text)
			u.piece.labels[i] = int64(at)
		}
	}
	return nil
}

// takeAttributes reads a JSON object a row. A number with a point or an exponent is
// a float, any other an integer.
func (u *upload) takeAttributes(x *dump.Array) error {
	texts, err := u.strings(x)
	if err != nil {
		return err
	}
	at := map[string]int{}
	list := []store.Attribute{}
	for row, text := range texts {
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		var cells map[string]any
		if err := d.Decode(&cells); err != nil {
			return badInput("%s: row %d: is not a JSON object (json.dumps a dict for each row)", x.Name(), row)
		}
		for name, cell := range cells {
			if slices.Contains(reserved, name) {
				return badInput("%s: row %d: an attribute cannot be called %s (rename it)", x.Name(), row, name)
			}
			i, known := at[name]
			if !known {
				if len(list) == 1024 {
					return badInput("%s: row %d: more than 1024 attributes (one object a row, with the same names in each)", x.Name(), row)
				}
				i = len(list)
				at[name] = i
				list = append(list, store.Attribute{Name: name, Values: make([]store.Value, len(texts))})
			}
			if list[i].Values[row], err = cellValue(cell); err != nil {
				return badInput("%s: row %d: attribute %q: %v (a number, a text or null)", x.Name(), row, name, err)
			}
		}
	}
	slices.SortFunc(list, func(a, b store.Attribute) int { return strings.Compare(a.Name, b.Name) })
	u.piece.attributes = list
	return nil
}

func cellValue(cell any) (store.Value, error) {
	switch v := cell.(type) {
	case nil:
		return store.Value{}, nil
	case string:
		return store.Text(v), nil
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return store.Int(n), nil
		}
		f, err := v.Float64()
		return store.Float(f), err
	}
	return store.Value{}, fmt.Errorf("is a %T", cell)
}

func (u *upload) shape() (rows int64, dim int) { return -1, u.dims }
func (u *upload) names() []string              { return u.classNames }
func (u *upload) first() string                { name, _ := u.place(0); return name }

// place names the file and its row for a position in the body, if it says so.
func (u *upload) place(position int64) (string, int64) {
	row := position
	for _, f := range u.from.Rows {
		if row < f.Rows {
			return f.Name, row
		}
		row -= f.Rows
	}
	return u.name(), position
}

func (u *upload) provenance(context.Context) ([]store.SourceFile, func() error) {
	files := u.from.Files
	if len(files) == 0 {
		files = []store.SourceFile{{Name: u.name()}}
	}
	return files, func() error { return nil }
}

// rowError words an error about a row of the body.
func (u *upload) rowError(err error) error {
	return wordRowError(err, u.place, u.from.Keys, u.from.Attributes)
}

// stream calls fn with the rows of the body in order.
func (u *upload) stream(ctx context.Context, fn func(store.Rows) error) error {
	for u.head != nil {
		if u.head.Dim() != u.dims {
			return badInput("%s: %d dimensions, and those before have %d (send features of one model at a time)", u.head.Name(), u.head.Dim(), u.dims)
		}
		n := u.head.Rows()
		for what, have := range map[string]int{"labels": len(u.piece.labels), "keys": len(u.piece.keys), "attributes": u.piece.attributeRows()} {
			if have > 0 && int64(have) != n {
				return badInput("%s: %d %s for %s (every row needs exactly one, in the same order)", u.head.Name(), have, what, plural(n, "row"))
			}
		}
		if err := u.rowsOfPiece(ctx, fn); err != nil {
			return err
		}
		u.received += n
		if err := u.advance(); err != nil {
			return err
		}
	}
	return nil
}

func (p *piece) attributeRows() int {
	if len(p.attributes) == 0 {
		return 0
	}
	return len(p.attributes[0].Values)
}

func (u *upload) rowsOfPiece(ctx context.Context, fn func(store.Rows) error) error {
	vectors := simd.NewMatrix(int(max(1, min(8192, batchBytes/int64(4*u.dims), u.head.Rows()))), u.dims)
	for done := 0; ; {
		n, err := u.head.Next(ctx, vectors)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		rows := store.Rows{Vectors: vectors.Slice(0, n)}
		if u.piece.labels != nil {
			rows.Labels = u.piece.labels[done : done+n]
		}
		if u.piece.keys != nil {
			rows.Keys = u.piece.keys[done : done+n]
		}
		for _, a := range u.piece.attributes {
			rows.Attributes = append(rows.Attributes, store.Attribute{Name: a.Name, Values: a.Values[done : done+n]})
		}
		if err := fn(rows); err != nil {
			return err
		}
		done += n
	}
}

// send writes sources as an upload: the other end of what upload reads. Pieces
// hold a batch of rows each.
func (in *sources) send(ctx context.Context, w io.Writer, command string, progress func(rows int64)) error {
	z := dump.NewNPZWriter(w)
	from := uploadSources{Command: command, Keys: in.keys, Attributes: in.attributes}
	for _, f := range in.files {
		from.Rows = append(from.Rows, uploadFile{f.path, f.rows})
	}
	for i := range in.files {
		in.files[i].sumsUp = false // sources go first: their checksums cannot wait for the rows
	}
	files, wait := in.provenance(ctx)
	if err := wait(); err != nil {
		return err
	}
	from.Files = files
	text, err := json.Marshal(from)
	if err != nil {
		return err
	}
	if err := sendStrings(z, "sources", []string{string(text)}); err != nil {
		return err
	}
	if len(in.classNames) > 0 {
		if err := sendStrings(z, "class_names", in.classNames); err != nil {
			return err
		}
	}
	number, rows := 0, int64(0)
	err = in.stream(ctx, func(r store.Rows) error {
		prefix := fmt.Sprintf("%06d/", number)
		number++
		rows += int64(r.Vectors.Rows)
		defer func() { progress(rows) }()
		return sendPiece(z, prefix, r)
	})
	if err != nil {
		return err
	}
	return z.Close()
}

func sendPiece(z *dump.NPZWriter, prefix string, r store.Rows) error {
	if r.Labels != nil {
		labels := slices.Clone(r.Labels)
		for i, l := range labels {
			if l == store.NoLabel {
				labels[i] = -1
			}
		}
		if err := z.Write(prefix+"labels", labels); err != nil {
			return err
		}
	}
	if r.Keys != nil {
		if err := sendStrings(z, prefix+"keys", r.Keys); err != nil {
			return err
		}
	}
	if len(r.Attributes) > 0 {
		texts := make([]string, r.Vectors.Rows)
		for i := range texts {
			texts[i] = attributesText(r.Attributes, i)
		}
		if err := sendStrings(z, prefix+"attributes", texts); err != nil {
			return err
		}
	}
	return z.Write(prefix+"features", r.Vectors.Data[:r.Vectors.Rows*r.Vectors.Dim], int64(r.Vectors.Rows), int64(r.Vectors.Dim))
}

// attributesText is the attributes of a row as a JSON object. Floats keep a point.
func attributesText(list []store.Attribute, row int) string {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, a := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		name, _ := json.Marshal(a.Name)
		value, _ := json.Marshal(a.Values[row])
		if a.Values[row].Kind() == store.KindFloat && !bytes.ContainsAny(value, ".en") {
			value = append(value, ".0"...)
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.String()
}

// sendStrings writes strings as bytes of UTF-8, a quarter of what numpy's own type
// for strings takes.
func sendStrings(z *dump.NPZWriter, name string, list []string) error {
	width := 1
	for _, s := range list {
		width = max(width, len(s))
	}
	w, err := z.Array(name, "|S"+strconv.Itoa(width), int64(len(list)))
	if err == nil {
		err = w.Bytes(list)
	}
	if err == nil {
		err = w.Close()
	}
	return err
}
