package dump_test

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"membank/store/dump"
)

func TestFeaturesInText(t *testing.T) {
	for _, c := range []struct {
		name, file, text string
		rows             [][]float32
		keys             []string
		labels           []int64
	}{
		{"no header", "x.csv", "1,2\n3,4\n", [][]float32{{1, 2}, {3, 4}}, nil, nil},
		{"no last newline", "x.csv", "1,2\n3,4", [][]float32{{1, 2}, {3, 4}}, nil, nil},
		{"CRLF and a byte order mark", "x.csv", "\xef\xbb\xbfkey,f0\r\na,1\r\nb,2\r\n", [][]float32{{1}, {2}}, []string{"a", "b"}, nil},
		{"header", "x.csv", "f0,f1\n1,2\n", [][]float32{{1, 2}}, nil, nil},
		{"keys and labels anywhere", "x.csv", "f0,Label,f1,Path\n1,5,2,a.jpg\n3,-1,4,\"b,c.jpg\"\n", [][]float32{{1, 2}, {3, 4}}, []string{"a.jpg", "b,c.jpg"}, []int64{5, dump.NoLabel}},
		{"names of classes", "x.csv", "label,f0\ndog,1\ncat,2\n,3\n", [][]float32{{1}, {2}, {3}}, nil, []int64{1, 0, dump.NoLabel}},
		{"pandas with its index", "x.csv", ",0,1,2\n0,1.5,2,3\n1,4,5,6\n", [][]float32{{1.5, 2, 3}, {4, 5, 6}}, []string{"0", "1"}, nil},
		{"pandas without it", "x.csv", "0,1,2\n1.5,2,3\n", [][]float32{{1.5, 2, 3}}, nil, nil},
		{"quoted line break", "x.csv", "key,f0\n\"a\nb\",1\nc,2\n", [][]float32{{1}, {2}}, []string{"a\nb", "c"}, nil},
		{"tabs", "x.tsv", "key\tf0\na,b\t1\n", [][]float32{{1}}, []string{"a,b"}, nil},
		{"blanks", "x.txt", "# comment\n1 2\t3\n  4  5 6 # end\n\n", [][]float32{{1, 2, 3}, {4, 5, 6}}, nil, nil},
		{"no extension", "x", "1 2\n", [][]float32{{1, 2}}, nil, nil},
		{"to the nearest float32", "x.csv", "16777217,0.1,1e-46,-1e39,nan,+Inf\n", [][]float32{{16777216, 0.1, 0, float32(math.Inf(-1)), float32(math.NaN()), float32(math.Inf(1))}}, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, keys, labels := readAll(t, write(t, c.file, []byte(c.text)), dump.Options{}, 2)
			if m.Rows != len(c.rows) {
				t.Fatalf("%d rows, want %d", m.Rows, len(c.rows))
			}
			for i := range m.Rows {
				if got, want := fmt.Sprint(m.Row(i)), fmt.Sprint(c.rows[i]); got != want {
					t.Errorf("row %d is %s, want %s", i, got, want)
				}
			}
			if !slices.Equal(keys, c.keys) || !slices.Equal(labels, c.labels) {
				t.Errorf("keys %q, labels %v", keys, labels)
			}
		})
	}
	r, err := dump.Open(write(t, "x.csv", []byte("label,f0\ndog,1\ncat,2\n")), dump.Options{})
	if err != nil || !slices.Equal(r.ClassNames(), []string{"cat", "dog"}) || !r.HasLabels() || r.HasKeys() || r.Rows() != 2 || r.DType() != "text" {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestMalformedText(t *testing.T) {
	numbers := strings.Repeat("1,", 65536) + "1\n"
	for name, c := range map[string]struct{ file, text, want string }{
		"not a number":        {"x.csv", "key,f0,f1\na,1,2\nb,3,x\n", "x.csv: row 1: line 3, column \"f1\": \"x\" is not a number"},
		"no header":           {"x.csv", "1,2\n3,4x\n", "row 1: line 2, column 2: \"4x\" is not a number (every cell of an embedding is a number; take other columns out)"},
		"empty cell":          {"x.csv", "f0,f1\n1,\n", "row 0: line 2, column \"f1\": no number"},
		"too few columns":     {"x.csv", "1,2\n3\n", "line 2 has 1 column, the first has 2"},
		"too many columns":    {"x.csv", "1,2\n3,4,5\n", "line 2 has 3 columns, the first has 2"},
		"empty line":          {"x.csv", "1,2\n\n3,4\n", "line 2 is empty (take it out"},
		"empty line, blanks":  {"x.txt", "1 2\n\n3 4\n", "line 2 is empty"},
		"half a header":       {"x.csv", "a.jpg,0.5,0.25\nb.jpg,1,2\n", "line 1 has names and numbers (give the table a header line such as key,label,f0,f1,…)"},
		"only a header":       {"x.csv", "key,f0\n", "holds no rows"},
		"no numbers":          {"x.csv", "key,label\na,1\n", "has no columns of numbers beside key, label"},
		"open quote":          {"x.csv", "key,f0\n\"a,1\nb,2\n", "line 2: extraneous or missing \" in quoted-field"},
		"open quote, large":   {"x.csv", "key,f0\n\"a,1\n" + strings.Repeat("b,2\n", 9<<18), "holds a record of more than 8388608 bytes (is a closing quote missing"},
		"65,537 columns":      {"x.csv", numbers, "holds embeddings of 65537 dimensions, and 65536 is the most"},
		"NUL":                 {"x.txt", "1 2\n" + strings.Repeat("3 4\n", 200) + "\x00\n", "line 202 is not UTF-8 text"},
		"label in the middle": {"x.csv", "label,f0\n1,2\ncat,3\n", "line 3: the label \"cat\" is a name, the one on line 2 is an integer (write all labels as integers, or all as names)"},
		"long line":           {"x.txt", strings.Repeat("1 ", 5<<20), "line 1 is longer than 8388608 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, readFeatures(write(t, c.file, []byte(c.text)), dump.Options{}), c.want)
		})
	}
}

func TestLabelsInText(t *testing.T) {
	for _, c := range []struct {
		name, file, text string
		want             []int64
		names            []string
	}{
		{"integers", "y.txt", "3\n-1\n 7 \n\n-5", []int64{3, dump.NoLabel, 7, dump.NoLabel, -5}, nil},
		{"pandas floats", "y.csv", "label\n3.0\n\"\"\n7.0\n", []int64{3, dump.NoLabel, 7}, nil},
		{"names", "y.txt", "dog\r\ncat\r\n\r\nété\r\nDog\r\ncat", []int64{2, 1, dump.NoLabel, 3, 0, 1}, []string{"Dog", "cat", "dog", "été"}},
		{"one column, no header", "y.csv", "5\n6\n", []int64{5, 6}, nil},
		{"one column of names", "y.csv", "cat\ndog\n", []int64{0, 1}, []string{"cat", "dog"}},
		{"a column", "y.csv", "path,class\na.jpg,cat\nb.jpg,ant\n", []int64{1, 0}, []string{"ant", "cat"}},
		{"label before class", "y.csv", "class,label\ncat,4\n", []int64{4}, nil},
		{"64 bits", "y.txt", "9223372036854775807\n-9223372036854775808\n", []int64{math.MaxInt64, math.MinInt64}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, c.file, []byte(c.text))
			if got := labelsOf(t, path, dump.Options{}, 2); !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
			l, _ := dump.OpenLabels(path, dump.Options{})
			if !slices.Equal(l.Names(), c.names) {
				t.Errorf("names %q, want %q", l.Names(), c.names)
			}
		})
	}
	for name, c := range map[string]struct{ file, text, want string }{
		"a name among integers":  {"y.txt", "3\n4\ncat\n", "y.txt: line 3: the label \"cat\" is a name, the one on line 1 is an integer"},
		"an integer among names": {"y.txt", "cat\n4\n", "line 2: the label \"4\" is an integer, those before are names"},
		"beyond 64 bits":         {"y.txt", "9223372036854775808\n", "line 1: the label \"9223372036854775808\" does not fit a signed 64-bit integer"},
		"no label column":        {"y.csv", "path,x\na,1\n", "has 2 columns and none is called label"},
		"only a header":          {"y.csv", "label\n", "holds no labels"},
		"latin-1":                {"y.txt", "\xe9t\xe9\n", "line 1 is not UTF-8 text: \"\\xe9t\\xe9\""},
		"uint64":                 {"y.npy", string(npy(1, "{'descr': '<u8', 'fortran_order': False, 'shape': (2,), }", []byte("\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80"))), "y.npy: row 1: the label 9223372036854775808 does not fit a signed 64-bit integer"},
		"bad Unicode":            {"y.npy", string(npy(1, "{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }", []byte("\x00\xd8\x00\x00"))), "y.npy: row 0: is not a Unicode string"},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, c.file, []byte(c.text))
			l, err := dump.OpenLabels(path, dump.Options{})
			for err == nil {
				_, err = l.Next(make([]int64, 2))
			}
			wantError(t, err, c.want)
		})
	}
}

func TestKeysInText(t *testing.T) {
	for _, c := range []struct {
		name, file, text string
		want             []string
	}{
		{"lines", "k.txt", "a b\nc,d\n\"e\"\n", []string{"a b", "c,d", `"e"`}},
		{"CRLF, mark, no last newline", "k.txt", "\xef\xbb\xbfa\r\nb", []string{"a", "b"}},
		{"first column", "k.csv", "a,1\n\"b,c\",2\n", []string{"a", "b,c"}},
		{"by name", "k.csv", "label,Path\n1,a\n2,b\n", []string{"a", "b"}},
	} {
		if got := readKeys(t, write(t, c.file, []byte(c.text))); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	for name, c := range map[string]struct{ file, text, want string }{
		"empty line":         {"k.txt", "a\n\nb\n", "k.txt: row 1: line 2 is empty, and every row has a key"},
		"empty line at last": {"k.txt", "a\n\n", "row 1: line 2 is empty"},
		"empty cell":         {"k.csv", "key,x\na,1\n,2\n", "row 1: line 3 is empty"},
		"only a header":      {"k.csv", "key\n", "holds no keys"},
		"latin-1":            {"k.txt", "a\n\xe9\n", "line 2 is not UTF-8 text"},
		"long":               {"k.txt", strings.Repeat("a", 3<<20), "line 1 is longer than 1048576 bytes"},
	} {
		_, err := dump.OpenKeys(write(t, c.file, []byte(c.text)))
		t.Run(name, func(t *testing.T) { wantError(t, err, c.want) })
	}
}

func TestTable(t *testing.T) {
	table, err := dump.OpenTable(write(t, "a.csv", []byte("i,f,s,zip,big,empty,mixed,gap\n"+
		"1,0.5,x,007,99999999999999999999,,1,1\n"+
		"-2,,\" y\",123,1,,2024-01-01,\n"+
		",nan,\"z,\"\"\",,,,,3\n")))
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	wantColumns := []dump.Column{
		{Name: "i", Kind: dump.Int}, {Name: "f", Kind: dump.Float}, {Name: "s", Kind: dump.String}, {Name: "zip", Kind: dump.String},
		{Name: "big", Kind: dump.String}, {Name: "empty", Kind: dump.String}, {Name: "mixed", Kind: dump.String}, {Name: "gap", Kind: dump.Int},
	}
	if !slices.Equal(table.Columns(), wantColumns) || table.Rows() != 3 {
		t.Errorf("%d rows of %v", table.Rows(), table.Columns())
	}
	i, f, s, null := func(v int64) dump.Value { return dump.Value{Kind: dump.Int, Int: v} }, func(v float64) dump.Value { return dump.Value{Kind: dump.Float, Float: v} },
		func(v string) dump.Value { return dump.Value{Kind: dump.String, Text: v} }, dump.Value{}
	want := [][]dump.Value{
		{i(1), i(-2), null}, {f(0.5), null, null}, {s("x"), s(" y"), s(`z,"`)}, {s("007"), s("123"), null},
		{s("99999999999999999999"), s("1"), null}, {null, null, null}, {s("1"), s("2024-01-01"), null}, {i(1), null, i(3)},
	}
	got := make([][]dump.Value, len(want))
	for c := range got {
		got[c] = make([]dump.Value, 3)
	}
	if n, err := table.Next(got); n != 3 || err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%d rows, %v:\n%v\nwant\n%v", n, err, got, want)
	}
	for name, c := range map[string]struct{ file, text, want string }{
		"no name":    {"a.csv", ",x\n0,1\n", "has a column without a name"},
		"no header":  {"a.csv", "1,2\n3,4\n", "has a column named \"1\": is the header line missing?"},
		"two alike":  {"a.csv", "x,x\n1,2\n", "has two columns named \"x\""},
		"no rows":    {"a.csv", "x,y\n", "holds no rows under its header line"},
		"not a .csv": {"a.txt", "x\n1\n", "is not a .csv or .tsv"},
		"ragged":     {"a.csv", "x,y\n1,2\n3\n", "line 3 has 1 column, the first has 2"},
	} {
		_, err := dump.OpenTable(write(t, c.file, []byte(c.text)))
		t.Run(name, func(t *testing.T) { wantError(t, err, c.want) })
	}
}
