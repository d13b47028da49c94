package dump

import "io"

// Keys gives the key of each row of a file, in row order, once.
type Keys struct {
	path  string
	close func() error
	rows  int64
	text  strs
	err   error
}

// OpenKeys opens keys: a .txt of one key a line, a .csv with a column called key,
// path, filename, file, image, id or name (else its first column, without a
// header), or an .npy or .npz of strings in one dimension. The file is read through
// once: an empty key is an error that names its line.
func OpenKeys(path string) (*Keys, error) {
	k, err := openKeys(path)
	return k, at(path, err)
}

func openKeys(path string) (*Keys, error) {
	in, err := identify(path)
	if err != nil {
		return nil, err
	}
	k := &Keys{path: path, close: in.f.Close}
	if err := k.open(in); err != nil {
		in.f.Close()
		return nil, err
	}
	return k, nil
}

func (k *Keys) open(in input) error {
	pass := func() (strs, error) {
		text, err := openStrings(in, "", wantKeys, keyColumn)
		if a, ok := text.(*arrayStrings); ok && err == nil {
			k.path, k.close = a.path, a.close
			if a.kind != 'U' && a.kind != 'S' {
				return nil, at(a.path, bad("holds %s (%s), and keys are strings", a.kindName(), a.descr).fix("np.save(path, np.array(names))"))
			}
		}
		return text, err
	}
	text, err := pass()
	if err != nil {
		return err
	}
	for {
		s, err := text.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if s == "" {
			return bad("%s is empty, and every row has a key", text.where()).row(k.rows).fix("is there a blank line?")
		}
		k.rows++
	}
	if k.rows == 0 {
		return bad("holds no keys")
	}
	k.text, err = pass()
	return err
}

// keyColumn finds the keys in a table.
func keyColumn(first []string) (int, bool, error) {
	if c := named(first, keyNames); c >= 0 {
		return c, true, nil
	}
	return 0, false, nil
}

// Rows is the number of keys in the file.
func (k *Keys) Rows() int64 { return k.rows }

// Name is the path, and for an .npz the member.
func (k *Keys) Name() string { return k.path }

// Close closes the file.
func (k *Keys) Close() error { return k.close() }

// Next fills dst with the next keys and returns how many; it returns 0 and io.EOF
// after the last.
func (k *Keys) Next(dst []string) (int, error) {
	if k.err != nil {
		return 0, k.err
	}
	for i := range dst {
		s, err := k.text.next()
		if err == io.EOF && i > 0 {
			return i, nil
		}
		if err != nil {
			k.err = err
			if err != io.EOF {
				k.err = at(k.path, err)
			}
			return 0, k.err
		}
		dst[i] = s
	}
	return len(dst), nil
}
