package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

const (
	fileMagic   = "MBJOURNL"
	fileVersion = 1
	fileHeader  = 16

	recordMagic  = "mbjr"
	recordHeader = 40

	kindHead   = 0
	kindClosed = 255

	flagMore = 1
)

// MaxRecord is the largest payload of one record. Larger changes take several.
const MaxRecord = 64 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Record is one record as Replay hands it out. Payload is borrowed until the
// function that got it returns.
type Record struct {
	Kind    uint8
	Step    int64
	More    bool // the next record belongs to the same change
	Payload []byte
}

// header is the fixed part of a record.
type header struct {
	bytes    uint32
	kind     uint8
	more     bool
	sequence uint64
	step     int64
	synced   int64
	crc      uint32
}

func encodeFileHeader() []byte {
	b := append(make([]byte, 0, fileHeader), fileMagic...)
	b = binary.LittleEndian.AppendUint32(b, fileVersion)
	return binary.LittleEndian.AppendUint32(b, 0)
}

func checkFileHeader(b []byte) error {
	switch {
	case len(b) < fileHeader || string(b[:8]) != fileMagic:
		return fmt.Errorf("does not begin with %q", fileMagic)
	case binary.LittleEndian.Uint32(b[8:]) > fileVersion:
		return fmt.Errorf("%w: version %d, this one reads up to %d", ErrNewer, binary.LittleEndian.Uint32(b[8:]), fileVersion)
	case !bytes.Equal(b[:fileHeader], encodeFileHeader()):
		return fmt.Errorf("its header is %x", b[:fileHeader])
	}
	return nil
}

// sealRecord fills the header of a record whose payload is in place behind it.
func sealRecord(b []byte, h header) {
	copy(b, recordMagic)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(b)-recordHeader))
	b[12], b[13], b[14], b[15] = h.kind, 0, 0, 0
	if h.more {
		b[13] = flagMore
	}
	binary.LittleEndian.PutUint64(b[16:], h.sequence)
	binary.LittleEndian.PutUint64(b[24:], uint64(h.step))
	binary.LittleEndian.PutUint64(b[32:], uint64(h.synced))
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
}

// openHeader is the inverse for the fixed part; left is how many bytes of the file
// follow it. The checksum is checkRecord's.
func openHeader(b []byte, left int64) (header, error) {
	if string(b[:4]) != recordMagic {
		return header{}, fmt.Errorf("no record begins there")
	}
	h := header{
		crc: binary.LittleEndian.Uint32(b[4:]), bytes: binary.LittleEndian.Uint32(b[8:]), kind: b[12], more: b[13] == flagMore,
		sequence: binary.LittleEndian.Uint64(b[16:]), step: int64(binary.LittleEndian.Uint64(b[24:])), synced: int64(binary.LittleEndian.Uint64(b[32:])),
	}
	if h.bytes > MaxRecord || int64(h.bytes) > left {
		return h, fmt.Errorf("a record of %d bytes where %d are left", h.bytes, left)
	}
	return h, nil
}

func checkRecord(h header, head, payload []byte) error {
	sum := crc32.Update(crc32.Checksum(head[8:recordHeader], castagnoli), castagnoli, payload)
	if sum != h.crc {
		return fmt.Errorf("its checksum is %08x, %08x expected", sum, h.crc)
	}
	return nil
}
