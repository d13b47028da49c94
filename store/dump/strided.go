package dump

import "io"

// strided makes elements that lie apart readable as if they lay together: outer runs
// of inner elements, element j of run i at start + (i·outerStride + j·innerStride)·size
// of src. It implements io.ReaderAt over outer·inner·size bytes.
type strided struct {
	src                      io.ReaderAt
	start, size              int64
	outer, inner             int64
	outerStride, innerStride int64 // in elements
	span                     []byte
}

const spanBytes = 1 << 20 // read at once of elements that lie apart

func (s *strided) ReadAt(p []byte, off int64) (int, error) {
	total := s.outer * s.inner * s.size
	done := 0
	for done < len(p) {
		at := off + int64(done)
		if at >= total {
			return done, io.EOF
		}
		n, err := s.part(p[done:], at)
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// part reads from one run, or whole runs where those lie close.
func (s *strided) part(p []byte, at int64) (int, error) {
	element := at / s.size
	if skip := at % s.size; skip != 0 || int64(len(p)) < s.size { // not at the bounds of an element
		one := make([]byte, s.size)
		if err := s.read(one, element/s.inner, element%s.inner, 1, 1); err != nil {
			return 0, err
		}
		return copy(p, one[skip:]), nil
	}
	room := int64(len(p)) / s.size
	i, j := element/s.inner, element%s.inner
	if j == 0 && s.innerStride == 1 && room >= s.inner {
		// Rows with gaps: as many as lie within one span.
		each := max(1, s.outerStride) * s.size
		runs := max(1, min(room/s.inner, s.outer-i, spanBytes/each))
		n := runs * s.inner * s.size
		return int(n), s.read(p[:n], i, 0, runs, s.inner)
	}
	n := min(room, s.inner-j, max(1, spanBytes/(s.size*max(1, s.innerStride))))
	return int(n * s.size), s.read(p[:n*s.size], i, j, 1, n)
}

// read gathers elements j … j+n-1 of each of some runs from i on. All of them lie
// within one span, or in one run without gaps.
func (s *strided) read(p []byte, i, j, runs, n int64) error {
	first := s.start + (i*s.outerStride+j*s.innerStride)*s.size
	if runs == 1 && (s.innerStride == 1 || n == 1) {
		return s.exactly(p, first)
	}
	extent := ((runs-1)*s.outerStride + (n-1)*s.innerStride + 1) * s.size
	if int64(cap(s.span)) < extent {
		s.span = make([]byte, extent)
	}
	span := s.span[:extent]
	if err := s.exactly(span, first); err != nil {
		return err
	}
	if s.innerStride == 1 {
		for run := range runs {
			copy(p[run*n*s.size:][:n*s.size], span[run*s.outerStride*s.size:])
		}
		return nil
	}
	for k := range n {
		copy(p[k*s.size:][:s.size], span[k*s.innerStride*s.size:])
	}
	return nil
}

func (s *strided) exactly(p []byte, at int64) error {
	n, err := s.src.ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	return shrunk(err)
}
