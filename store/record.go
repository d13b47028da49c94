package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Every value in Badger is a record: a header of 48 bytes, drawn in doc.go, and a
// payload. Badger can return an empty or altered value with a nil error after disk
// damage, so length, identity and checksum are all ours to check.
const (
	recordMagic = "mbnk"
	// recordVersion is that of all records but manifests with a layout, which an
	// older membank must not take for one in row order.
	recordVersion = 1
	layoutVersion = 2
	headerSize    = 48
	crcOffset     = 44
)

// recordKind says what a payload is.
type recordKind uint8

const (
	kindState recordKind = 1 + iota
	kindManifest
	kindPanels
	kindColumns
	kindAttribute
	kindDeleted
	kindClasses
	kindBasis
	kindCodes
	kindLists
	kindPlaces
	kindDeadLanes
	kindRuns
)

var kindNames = [...]string{kindState: "state", kindManifest: "manifest", kindPanels: "panels",
	kindColumns: "columns", kindAttribute: "attribute", kindDeleted: "deleted rows", kindClasses: "classes", kindBasis: "basis", kindCodes: "codes",
	kindLists: "lists", kindPlaces: "places", kindDeadLanes: "dead lanes", kindRuns: "runs"}

func (k recordKind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// header is the decoded first 48 bytes of a record, without magic.
type header struct {
	version uint8 // 0 stands for 1 when a record is sealed
	kind    recordKind
	dtype   DType
	number  uint64
	bank    uint64
	rows    uint32
	dim     uint32
	bytes   uint64
	crc     uint32
}

// recordRef is how a manifest names a record: all that is needed to know that
// what Badger returns is what was written.
type recordRef struct {
	number uint64 // 0: no such record
	bytes  uint64 // of the whole value, header included
	crc    uint32
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// recordChecksum is the CRC32C that belongs into a record's header.
func recordChecksum(value []byte) uint32 {
	crc := crc32.Update(0, castagnoli, value[:crcOffset])
	return crc32.Update(crc, castagnoli, value[headerSize:])
}

// sealRecord fills in the header of a value whose payload is in place behind it,
// and returns the reference that a manifest keeps. bytes and crc of h are ignored.
func sealRecord(value []byte, h header) recordRef {
	copy(value, recordMagic)
	value[4], value[5], value[6], value[7] = max(h.version, recordVersion), byte(h.kind), byte(h.dtype), 0
	binary.LittleEndian.PutUint64(value[8:], h.number)
	binary.LittleEndian.PutUint64(value[16:], h.bank)
	binary.LittleEndian.PutUint32(value[24:], h.rows)
	binary.LittleEndian.PutUint32(value[28:], h.dim)
	binary.LittleEndian.PutUint64(value[32:], uint64(len(value)-headerSize))
	binary.LittleEndian.PutUint32(value[40:], 0)
	crc := recordChecksum(value)
	binary.LittleEndian.PutUint32(value[crcOffset:], crc)
	return recordRef{number: h.number, bytes: uint64(len(value)), crc: crc}
}

// openRecord is the inverse of sealRecord. It checks all but the checksum, which
// costs a pass over the payload: see recordChecksum.
func openRecord(value []byte) (h header, payload []byte, err error) {
	switch {
	case len(value) == 0:
		return h, nil, fmt.Errorf("it is empty")
	case len(value) < headerSize:
		return h, nil, fmt.Errorf("it has %d bytes, a header alone has %d", len(value), headerSize)
	case string(value[:4]) != recordMagic:
		return h, nil, fmt.Errorf("it begins with %x, not %q", value[:4], recordMagic)
	case value[4] != recordVersion && (value[4] != layoutVersion || recordKind(value[5]) != kindManifest):
		return h, nil, fmt.Errorf("it has format version %d, which records of its kind do not have", value[4])
	case value[6] > byte(F16):
		return h, nil, fmt.Errorf("it has element type %d", value[6])
	case value[7] != 0 || binary.LittleEndian.Uint32(value[40:]) != 0:
		return h, nil, fmt.Errorf("its reserved bytes are not zero")
	}
	h = header{
		version: value[4],
		kind:    recordKind(value[5]),
		dtype:   DType(value[6]),
		number:  binary.LittleEndian.Uint64(value[8:]),
		bank:    binary.LittleEndian.Uint64(value[16:]),
		rows:    binary.LittleEndian.Uint32(value[24:]),
		dim:     binary.LittleEndian.Uint32(value[28:]),
		bytes:   binary.LittleEndian.Uint64(value[32:]),
		crc:     binary.LittleEndian.Uint32(value[crcOffset:]),
	}
	if h.bytes != uint64(len(value)-headerSize) {
		return h, nil, fmt.Errorf("its payload has %d bytes, its header says %d", len(value)-headerSize, h.bytes)
	}
	return h, value[headerSize:], nil
}

// laterVersion returns the format version of a whole record that only a newer
// membank can have written, otherwise 0.
func laterVersion(value []byte) uint8 {
	if len(value) < headerSize || string(value[:4]) != recordMagic || value[4] <= layoutVersion ||
		recordChecksum(value) != binary.LittleEndian.Uint32(value[crcOffset:]) {
		return 0
	}
	return value[4]
}

// checkRecord opens a value and compares it with what was asked for: kind,
// number, and if want.bytes is set length and checksum as the manifest names
// them. With whole set it computes the checksum too.
func checkRecord(value []byte, kind recordKind, want recordRef, whole bool) (h header, payload []byte, err error) {
	if want.bytes != 0 && want.bytes != uint64(len(value)) {
		return h, nil, fmt.Errorf("it has %d bytes, %d were written", len(value), want.bytes)
	}
	h, payload, err = openRecord(value)
	if err != nil {
		return h, nil, err
	}
	switch {
	case h.kind != kind:
		return h, nil, fmt.Errorf("it is a record of %v, not of %v", h.kind, kind)
	case want.bytes != 0 && h.number != want.number:
		return h, nil, fmt.Errorf("it is record %d, not %d", h.number, want.number)
	case want.bytes != 0 && h.crc != want.crc:
		return h, nil, fmt.Errorf("its checksum is %08x, %08x was written", h.crc, want.crc)
	}
	if whole {
		if crc := recordChecksum(value); crc != h.crc && !faultNoChecksum {
			return h, nil, fmt.Errorf("its bytes have checksum %08x, its header says %08x", crc, h.crc)
		}
	}
	return h, payload, nil
}
