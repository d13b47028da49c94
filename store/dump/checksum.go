package dump

import (
	"hash/crc32"
	"io"
)

// checksummed is a reader of a whole file, and the CRC32C of what was read so far.
type checksummed struct {
	from  io.Reader
	bytes int64
	crc   uint32
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// summed has the elements of a, the array of a file of its own, read through a
// checksum that begins with the header.
func (a *array) summed(in input) (*checksummed, error) {
	s := &checksummed{from: io.NewSectionReader(in.f, 0, a.offset)}
	if _, err := io.Copy(io.Discard, s); err != nil {
		in.f.Close()
		return nil, at(a.path, err)
	}
	s.from, a.seq = a.seq, s
	return s, nil
}

func (s *checksummed) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	s.bytes += int64(n)
	s.crc = crc32.Update(s.crc, castagnoli, p[:n])
	return n, err
}
