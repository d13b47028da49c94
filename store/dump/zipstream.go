package dump

import (
	"archive/zip"
	"bufio"
	"compress/flate"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"
	"strings"
)

// zipStream reads a zip archive from front to back. Each member stands behind a
// local header:
//
//	offset  bytes  field
//	0       4      "PK\3\4"
//	6       2      flags: bit 0 encrypted, bit 3 checksum and sizes follow the data
//	8       2      method: 0 stored, 8 deflated
//	14      4      CRC32
//	18      4      packed size, 0xffffffff: in the extra field
//	22      4      size
//	26      2+2    length of name and extra field, which follow
//
// Where sizes follow the data (bit 3), deflated data end by themselves and stored
// ones where the header of the array inside says. Behind the last member stands the
// directory, of which the number of members and the end are compared.
type zipStream struct {
	name    string
	r       *bufio.Reader
	members int
	seen    map[string]bool
	limited bool
	names   int   // bytes of names seen
	left    int64 // bytes that may still be unpacked
}

// localHeader is what stands before a member.
type localHeader struct {
	name         string
	method       uint16
	trailing     bool // crc and sizes follow the data
	wide         bool // there is a zip64 field, so those sizes have eight bytes
	crc          uint32
	packed, size int64
}

const (
	streamMemberLimit = 1 << 20
	namesLimit        = 32 << 20 // bytes of them, kept to notice a name that comes twice
)

// nextArray gives the next member that is an .npy.
func (z *zipStream) nextArray() (*Array, error) {
	for {
		lead, err := z.r.Peek(4)
		if err != nil {
			if readFault(err) {
				return nil, err
			}
			return nil, z.cut("before its directory")
		}
		switch string(lead) {
		case "PK\x03\x04":
		case "PK\x01\x02", "PK\x05\x06", "PK\x06\x06":
			return nil, z.directory()
		default:
			return nil, bad("holds %s where a member or the directory of the archive belongs", quote(string(lead))).fix("it was damaged on its way: send it again")
		}
		h, err := z.local()
		if err != nil {
			return nil, err
		}
		if z.members++; z.members > streamMemberLimit {
			return nil, bad("holds more than %d members", streamMemberLimit).fix("send the embeddings as one array")
		}
		x, err := z.member(h)
		if err != nil || x != nil {
			return x, err
		}
	}
}

func (z *zipStream) cut(where string) error {
	return bad("ends %s, inside the zip archive", where).fix("it was cut short: send it again")
}

// local reads a local header.
func (z *zipStream) local() (h localHeader, err error) {
	var b [30]byte
	if _, err := io.ReadFull(z.r, b[:]); err != nil {
		return h, z.ended(err)
	}
	u16, u32 := binary.LittleEndian.Uint16, binary.LittleEndian.Uint32
	rest := make([]byte, int(u16(b[26:]))+int(u16(b[28:])))
	if _, err := io.ReadFull(z.r, rest); err != nil {
		return h, z.ended(err)
	}
	flags := u16(b[6:])
	h.name = string(rest[:u16(b[26:])])
	h.method, h.crc, h.packed, h.size = u16(b[8:]), u32(b[14:]), int64(u32(b[18:])), int64(u32(b[22:]))
	h.trailing = flags&8 != 0
	path := z.path(h)
	switch {
	case flags&1 != 0:
		return h, bad("is encrypted").fix("save it again with np.savez").in(path)
	case h.method != zip.Store && h.method != zip.Deflate:
		return h, bad("is compressed by zip method %d", h.method).fix("save it again with np.savez or np.savez_compressed").in(path)
	case strings.HasSuffix(h.name, "data.pkl"):
		return h, torch()
	case z.seen[h.name]:
		return h, bad("holds two members named %s", quote(h.name)).fix("save it again with np.savez")
	}
	z.seen[h.name] = true
	if z.names += len(h.name); z.names > namesLimit {
		return h, bad("has more than %d bytes of member names", namesLimit).fix("send the embeddings as one array")
	}
	for extra := rest[u16(b[26:]):]; len(extra) >= 4; {
		id, n := u16(extra), int(u16(extra[2:]))
		if n > len(extra)-4 {
			break
		}
		field := extra[4 : 4+n]
		extra = extra[4+n:]
		if id != 1 { // zip64: size, then packed size, where those above are all ones
			continue
		}
		h.wide = true
		for _, at := range []*int64{&h.size, &h.packed} {
			if *at == math.MaxUint32 && len(field) >= 8 {
				*at = int64(binary.LittleEndian.Uint64(field) &^ (1 << 63))
				field = field[8:]
			}
		}
	}
	if h.method == zip.Store && !h.trailing && h.packed != h.size {
		return h, bad("is stored in %d bytes and claims %d", h.packed, h.size).fix("the archive is damaged: save it again").in(path)
	}
	return h, nil
}

func (z *zipStream) ended(err error) error {
	if readFault(err) {
		return err
	}
	return z.cut("inside a header")
}

func (z *zipStream) path(h localHeader) string {
	return z.name + "[" + strings.Trim(quote(strings.TrimSuffix(h.name, ".npy")), `"`) + "]"
}

// member opens an array; nil for a member that is none, which is passed over.
func (z *zipStream) member(h localHeader) (*Array, error) {
	data := &zipMember{z: z, h: h, sum: crc32.NewIEEE()}
	switch {
	case h.method == zip.Deflate && h.trailing:
		data.r = flate.NewReader(z.r) // *bufio.Reader is an io.ByteReader: not a byte too many is read
	case h.method == zip.Deflate:
		data.packed = &exactly{r: z.r, left: h.packed}
		data.r = flate.NewReader(bufio.NewReaderSize(data.packed, 1<<15))
	case !h.trailing:
		data.packed = &exactly{r: z.r, left: h.packed}
		data.r = data.packed
	default:
		data.r = z.r // until the array's header has said how much
	}
	path := z.path(h)
	if !strings.HasSuffix(h.name, ".npy") {
		if data.r == io.Reader(z.r) {
			return nil, bad("is no array and does not say how long it is").fix("send np.savez's bytes").in(path)
		}
		_, err := io.Copy(io.Discard, data)
		return nil, at(path, err)
	}
	head, err := readHeader(data)
	if err != nil {
		return nil, at(path, err)
	}
	n, ok := head.elements()
	if !ok {
		return nil, bad("claims the impossible shape %s", head.shapeString()).fix("the header is damaged: save the array again").in(path)
	}
	if data.r == io.Reader(z.r) {
		data.r = &exactly{r: z.r, left: n * head.size}
	} else if !h.trailing {
		if err := head.checkSize(h.size - head.offset); err != nil {
			return nil, at(path, err)
		}
	}
	return newStreamed(h.name, path, head, data)
}

// zipMember is the unpacked bytes of a member; at their end it compares size and
// checksum.
type zipMember struct {
	z      *zipStream
	h      localHeader
	r      io.Reader
	packed *exactly // nil where its length is not known beforehand
	sum    interface {
		io.Writer
		Sum32() uint32
	}
	read int64
	done error
}

func (m *zipMember) Read(p []byte) (int, error) {
	if m.done != nil {
		return 0, m.done
	}
	n, err := m.r.Read(p)
	m.sum.Write(p[:n])
	m.read += int64(n)
	if m.h.method == zip.Deflate && m.z.limited {
		if m.z.left -= int64(n); m.z.left < 0 {
			err = bad("unpacks to more bytes than are allowed").fix("send it in several parts, or without compression")
		}
	}
	switch {
	case err == io.EOF:
		if err = m.end(); err == nil {
			err = io.EOF
		}
		m.done = err
	case err == io.ErrUnexpectedEOF:
		err = m.z.cut("inside the member " + quote(m.h.name))
		m.done = err
	case err != nil:
		err = zipFault(err)
		m.done = err
	}
	return n, err
}

// end reads what follows the data of a member and compares.
func (m *zipMember) end() error {
	h := m.h
	if h.trailing {
		wide := h.wide || m.read > math.MaxUint32
		var b [24]byte
		if _, err := io.ReadFull(m.z.r, b[:4]); err != nil {
			return m.z.ended(err)
		}
		at := 0 // the signature before the checksum may be missing
		if string(b[:4]) == "PK\x07\x08" {
			at = 4
		}
		end := at + 12
		if wide {
			end = at + 20
		}
		if _, err := io.ReadFull(m.z.r, b[4:end]); err != nil {
			return m.z.ended(err)
		}
		h.crc = binary.LittleEndian.Uint32(b[at:])
		h.size = int64(binary.LittleEndian.Uint32(b[at+8:]))
		if wide {
			h.size = int64(binary.LittleEndian.Uint64(b[at+12:]))
		}
	} else if m.packed != nil {
		// Deflate may end before the bytes that were set aside for it.
		if _, err := io.Copy(io.Discard, m.packed); err != nil {
			return m.z.ended(err)
		}
	}
	switch {
	case m.read != h.size:
		return bad("unpacks to %d bytes and claims %d", m.read, h.size).fix("the archive is damaged: send it again")
	case m.sum.Sum32() != h.crc:
		return zipFault(zip.ErrChecksum)
	}
	return nil
}

// directory reads the end of the archive. It returns io.EOF when all is well.
func (z *zipStream) directory() error {
	entries := 0
	for {
		var b [46]byte
		if _, err := io.ReadFull(z.r, b[:4]); err != nil {
			return z.ended(err)
		}
		switch string(b[:4]) {
		case "PK\x01\x02":
			if _, err := io.ReadFull(z.r, b[4:46]); err != nil {
				return z.ended(err)
			}
			n := 0
			for _, at := range []int{28, 30, 32} {
				n += int(binary.LittleEndian.Uint16(b[at:]))
			}
			if _, err := z.r.Discard(n); err != nil {
				return z.ended(err)
			}
			entries++
		case "PK\x06\x06": // zip64: its length, then as many bytes
			if _, err := io.ReadFull(z.r, b[4:12]); err != nil {
				return z.ended(err)
			}
			n := binary.LittleEndian.Uint64(b[4:])
			if n > 1<<16 {
				return bad("has a damaged directory").fix("it was damaged on its way: send it again")
			}
			if _, err := z.r.Discard(int(n)); err != nil {
				return z.ended(err)
			}
		case "PK\x06\x07":
			if _, err := z.r.Discard(16); err != nil {
				return z.ended(err)
			}
		case "PK\x05\x06":
			if _, err := io.ReadFull(z.r, b[4:22]); err != nil {
				return z.ended(err)
			}
			if _, err := z.r.Discard(int(binary.LittleEndian.Uint16(b[20:]))); err != nil {
				return z.ended(err)
			}
			if entries != z.members {
				return bad("has %d members and a directory of %d", z.members, entries).fix("it was damaged on its way: send it again")
			}
			if _, err := z.r.ReadByte(); err == nil {
				return bad("goes on after the end of the zip archive").fix("send one archive")
			} else if err != io.EOF {
				return err
			}
			return io.EOF
		default:
			return bad("has a damaged directory").fix("it was damaged on its way: send it again")
		}
	}
}
