package dump

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
)

const (
	memberLimit = 1 << 14  // members of an .npz
	spoolLimit  = 32 << 20 // bytes of a compressed Fortran-order array
)

// member opens an array of an .npz, or of what torch.save wrote. The file is a zip of .npy members; names are
// only compared, never used as paths.
func (in input) member(name string, w want) (*array, error) {
	z, err := zip.NewReader(in.f, in.size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		if errno := syscall.Errno(0); errors.As(err, &errno) {
			return nil, err
		}
		return nil, bad("is not a whole zip archive: its directory, at the end, is missing or damaged").
			fix("the file is cut short: copy or save it again")
	}
	if len(z.File) > memberLimit {
		return nil, bad("holds %d members, and %d is the most", len(z.File), memberLimit).fix("save the embeddings as one array")
	}
	if pkl := findTorch(z); pkl != nil {
		file, err := in.torchZip(z, pkl)
		if err != nil {
			return nil, err
		}
		return file.array(name, w)
	}
	var members []*zip.File
	seen := map[string]bool{}
	for _, f := range z.File {
		if !strings.HasSuffix(f.Name, ".npy") {
			continue
		}
		if seen[f.Name] {
			return nil, bad("holds two members named %s", quote(f.Name)).fix("save it again with np.savez")
		}
		seen[f.Name] = true
		members = append(members, f)
	}
	if len(members) == 0 {
		return nil, bad("is a zip archive without .npy members").fix("save the arrays with np.savez")
	}
	if name != "" {
		for _, f := range members {
			if f.Name == name || f.Name == name+".npy" {
				return in.openMember(f)
			}
		}
		return nil, bad("holds no array %s", quote(name)).fix("it holds %s", listMembers(members))
	}
	var fitting []*zip.File
	for _, f := range members {
		if h, err := memberHeader(f); err == nil && w.fits(h) {
			fitting = append(fitting, f)
		}
	}
	switch {
	case len(fitting) == 1:
		return in.openMember(fitting[0])
	case len(fitting) > 1:
		return nil, bad("holds more than one %s: %s", w, listMembers(fitting)).fix("say which, by name")
	case len(members) == 1: // say what is wrong with it
		return in.openMember(members[0])
	}
	return nil, bad("holds no %s, only %s", w, listMembers(members)).fix("say which array, by name, or save the right one")
}

// listMembers names up to eight members with their shapes.
func listMembers(members []*zip.File) string {
	var s []string
	for i, f := range members {
		if i == 8 {
			s = append(s, fmt.Sprintf("and %d more", len(members)-i))
			break
		}
		what := "unreadable"
		if h, err := memberHeader(f); err == nil {
			what = h.descr + " " + h.shapeString()
		}
		s = append(s, memberName(f)+" ("+what+")")
	}
	return strings.Join(s, ", ")
}

// memberName is what numpy calls the member, without control characters.
func memberName(f *zip.File) string {
	name := strings.TrimSuffix(f.Name, ".npy")
	return strings.Trim(quote(name), `"`)
}

func (in input) memberPath(f *zip.File) string {
	return in.path + "[" + memberName(f) + "]"
}

// checkMember refuses what archive/zip would fail on later, or worse, not notice.
func checkMember(f *zip.File) error {
	switch {
	case f.Flags&1 != 0:
		return bad("is encrypted").fix("save it again with np.savez")
	case f.Method != zip.Store && f.Method != zip.Deflate:
		return bad("is compressed by zip method %d", f.Method).fix("save it again with np.savez or np.savez_compressed")
	case f.Method == zip.Store && f.CompressedSize64 != f.UncompressedSize64:
		return bad("is stored in %d bytes and claims %d", f.CompressedSize64, f.UncompressedSize64).fix("the archive is damaged: save it again")
	case f.UncompressedSize64 > 1<<62:
		return bad("claims %d bytes", f.UncompressedSize64).fix("the archive is damaged: save it again")
	}
	return nil
}

// zipFault turns what archive/zip and compress/flate say into our words; what the
// operating system says stays as it is.
func zipFault(err error) error {
	var mine *Error
	var errno syscall.Errno
	switch {
	case err == nil || err == io.EOF || errors.As(err, &mine) || errors.As(err, &errno):
		return err
	case errors.Is(err, zip.ErrChecksum):
		return bad("does not match its checksum").fix("the archive is damaged: copy or save it again")
	}
	return bad("is damaged inside the archive").fix("copy or save it again")
}

// memberReader reads a member from its start, with our errors.
type memberReader struct{ io.ReadCloser }

func (r memberReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	return n, zipFault(err)
}

func openMemberReader(f *zip.File) (io.ReadCloser, error) {
	if err := checkMember(f); err != nil {
		return nil, err
	}
	r, err := f.Open()
	if err != nil {
		if err == io.EOF { // the local header lies beyond the end
			err = zip.ErrFormat
		}
		return nil, zipFault(err)
	}
	return memberReader{r}, nil
}

func memberHeader(f *zip.File) (header, error) {
	r, err := openMemberReader(f)
	if err != nil {
		return header{}, err
	}
	defer r.Close()
	return readHeader(r)
}

// openMember opens the array in f. The length its header implies must be the
// member's: then what the archive unpacks to is no surprise, however well it is
// compressed, and it is unpacked piece by piece.
func (in input) openMember(f *zip.File) (*array, error) {
	a, err := in.openMemberArray(f)
	return a, at(in.memberPath(f), err)
}

func (in input) openMemberArray(f *zip.File) (*array, error) {
	r, err := openMemberReader(f)
	if err != nil {
		return nil, err
	}
	h, err := readHeader(r)
	if err == nil {
		err = h.checkSize(int64(f.UncompressedSize64) - h.offset)
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	a := &array{header: h, path: in.memberPath(f), seq: r, close: func() error {
		return errors.Join(r.Close(), in.f.Close())
	}}
	if h.fortran && len(h.shape) == 2 {
		err = a.addressable(in, f)
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return a, nil
}

// addressable makes the elements of a Fortran-order member readable at any offset:
// in place if they are stored as they are, after one pass that compares the
// checksum; in memory if they are compressed and small.
func (a *array) addressable(in input, f *zip.File) error {
	size := int64(f.UncompressedSize64) - a.offset
	if f.Method == zip.Store {
		if _, err := io.Copy(io.Discard, a.seq); err != nil {
			return err
		}
		start, err := f.DataOffset()
		if err != nil {
			return zipFault(err)
		}
		data := io.NewSectionReader(in.f, start+a.offset, size)
		a.at, a.seq = data, data
		return nil
	}
	if size > spoolLimit {
		return bad("is compressed and in Fortran order, column after column, and too large to be turned around in memory").
			fix("np.savez_compressed(path, np.ascontiguousarray(x))")
	}
	var data strings.Builder
	if n, err := io.Copy(&data, io.LimitReader(a.seq, size+1)); err != nil {
		return err
	} else if n != size {
		return bad("holds %d bytes where its header promises %d", n, size).fix("the archive is damaged: save it again")
	}
	whole := strings.NewReader(data.String())
	a.at, a.seq = whole, whole
	return nil
}
