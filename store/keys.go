package store

import "encoding/binary"

// Keys are the only thing that Badger sorts for us, and this file is the only
// place that knows their bytes:
//
//	's'             the state: commit sequence, and generation and digest of every bank
//	'm' name        the manifest of a bank
//	'r' number      a numbered record; 8 bytes, big endian, so that they sort by age
const (
	stateByte    = 's'
	manifestByte = 'm'
	recordByte   = 'r'
)

var (
	stateKey     = []byte{stateByte}
	recordPrefix = []byte{recordByte}
)

func manifestKey(bank string) []byte { return append([]byte{manifestByte}, bank...) }

func recordKey(number uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{recordByte}, number)
}

// recordNumber is the inverse of recordKey.
func recordNumber(key []byte) (number uint64, ok bool) {
	if len(key) != 9 || key[0] != recordByte {
		return 0, false
	}
	return binary.BigEndian.Uint64(key[1:]), true
}
