package store

import (
	"bytes"
	"reflect"
	"slices"
	"testing"
)

// Every single flipped bit and every cut of a record is noticed.
func TestRecordFlips(t *testing.T) {
	value := append(make([]byte, headerSize), "payload of a record"...)
	ref := sealRecord(value, header{kind: kindColumns, dtype: F16, number: 7, bank: 3, rows: 2, dim: 5})
	h, payload, err := checkRecord(value, kindColumns, ref, true)
	if err != nil || string(payload) != "payload of a record" {
		t.Fatalf("%q %v", payload, err)
	}
	want := header{version: 1, kind: kindColumns, dtype: F16, number: 7, bank: 3, rows: 2, dim: 5, bytes: 19, crc: ref.crc}
	if h != want {
		t.Errorf("header %+v, want %+v", h, want)
	}
	for at := range value {
		for bit := range 8 {
			altered := slices.Clone(value)
			altered[at] ^= 1 << bit
			if _, _, err := checkRecord(altered, kindColumns, ref, true); err == nil {
				t.Errorf("byte %d bit %d is not noticed", at, bit)
			}
			// The state is read without knowing its checksum beforehand.
			if _, _, err := checkRecord(altered, kindColumns, recordRef{}, true); err == nil {
				t.Errorf("byte %d bit %d is not noticed without a reference", at, bit)
			}
		}
		if _, _, err := checkRecord(value[:at], kindColumns, recordRef{}, true); err == nil {
			t.Errorf("a cut at %d is not noticed", at)
		}
	}
}

// The worked example of doc.go.
func TestRecordExample(t *testing.T) {
	value := make([]byte, headerSize+4)
	copy(value[headerSize:], []byte{0xde, 0xad, 0xbe, 0xef})
	sealRecord(value, header{kind: kindAttribute, dtype: F16, number: 258, bank: 1, rows: 2, dim: 3})
	want := []byte{
		'm', 'b', 'n', 'k', 1, 5, 1, 0,
		2, 1, 0, 0, 0, 0, 0, 0,
		1, 0, 0, 0, 0, 0, 0, 0,
		2, 0, 0, 0, 3, 0, 0, 0,
		4, 0, 0, 0, 0, 0, 0, 0,
		0, 0, 0, 0, 0, 0, 0, 0,
		0xde, 0xad, 0xbe, 0xef,
	}
	// The checksum of the other bytes, bit by bit.
	crc := ^uint32(0)
	for i, b := range want {
		if i >= crcOffset && i < headerSize {
			continue
		}
		crc ^= uint32(b)
		for range 8 {
			crc = crc>>1 ^ 0x82f63b78*(crc&1)
		}
	}
	crc = ^crc
	copy(want[crcOffset:], []byte{byte(crc), byte(crc >> 8), byte(crc >> 16), byte(crc >> 24)})
	if !bytes.Equal(value, want) {
		t.Errorf("got  %x\nwant %x", value, want)
	}
}

func FuzzRecord(f *testing.F) {
	value := append(make([]byte, headerSize), "payload"...)
	sealRecord(value, header{kind: kindPanels, number: 1, bank: 2, rows: 3, dim: 4})
	f.Add(value)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, payload, err := openRecord(b)
		if err != nil {
			return
		}
		again := append(make([]byte, headerSize), payload...)
		sealRecord(again, h)
		copy(again[crcOffset:], b[crcOffset:headerSize])
		if !bytes.Equal(again, b) {
			t.Errorf("%x became %x", b, again)
		}
	})
}

func someManifest() *manifest {
	m := &manifest{bank: "a/b", id: 3, generation: 9, dtype: F16, dim: 8, next: 40, dead: 2, zeros: 1, classCount: 4,
		created: 5, deleted: recordRef{number: 8, bytes: 60, crc: 1}, attributes: []string{"size", "split"},
		sources: []Provenance{{Command: "ingest", Files: []SourceFile{{Name: "x.npy", Bytes: 7}}}}}
	m.blocks = []blockRef{
		{first: 0, rows: 32, keyed: true, maxNorm: 1.5, panels: recordRef{1, panelsBytes(32, 8, F16), 2}, columns: recordRef{2, columnsBytes(32) + 900, 3},
			attributes: []attributeRef{{0, recordRef{3, 400, 4}}, {1, recordRef{4, 500, 5}}}},
		{first: 32, rows: 8, maxNorm: 2, panels: recordRef{5, panelsBytes(8, 8, F16), 2}, columns: recordRef{6, columnsBytes(8), 3}},
	}
	return m
}

func TestManifestRoundTrip(t *testing.T) {
	m := someManifest()
	h, payload, err := openRecord(m.encode())
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeManifest(h, payload)
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("%v\ngot  %+v\nwant %+v", err, got, m)
	}
	for cut := range payload {
		if _, err := decodeManifest(h, payload[:cut]); err == nil {
			t.Errorf("a manifest cut at %d decodes", cut)
		}
	}
	for row, block := range map[int64]int{0: 0, 31: 0, 32: 1, 39: 1} {
		if got := m.blockAt(row); got != block {
			t.Errorf("row %d is in block %d, want %d", row, got, block)
		}
	}
}

func FuzzManifest(f *testing.F) {
	h, payload, _ := openRecord(someManifest().encode())
	f.Add(uint16(h.dim), payload)
	f.Fuzz(func(t *testing.T, dim uint16, b []byte) {
		m, err := decodeManifest(header{kind: kindManifest, number: 1, dim: uint32(dim), dtype: F16}, b)
		if err != nil {
			return
		}
		h, payload, err := openRecord(m.encode())
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeManifest(h, payload)
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%v: %+v became %+v", err, m, again)
		}
	})
}

func FuzzState(f *testing.F) {
	s := &state{sequence: 4, nextRecord: 5, nextBank: 6, banks: []outsideBank{{"a", 1, 2, 3}, {"b", 4, 5, 6}}}
	_, payload, _ := openRecord(s.encode())
	f.Add(payload)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeState(header{kind: kindState, number: 4}, b)
		if err != nil {
			return
		}
		if again := s.encode()[headerSize:]; !bytes.Equal(again, b) {
			t.Errorf("%x became %x", b, again)
		}
	})
}

func FuzzColumns(f *testing.F) {
	keyed := encodeColumns(blockColumns{row: []int64{4, 5}, scale: []float32{1, 2}, bias: []float32{3, 4}, label: []int64{7, NoLabel}, key: []string{"b", "aa"}})
	f.Add(uint8(2), true, keyed[headerSize:])
	f.Add(uint8(1), false, encodeColumns(blockColumns{row: []int64{4}, scale: []float32{1}, bias: []float32{3}})[headerSize:])
	f.Fuzz(func(t *testing.T, rows uint8, keyed bool, b []byte) {
		c, err := decodeColumns(b, int(rows), keyed)
		if err != nil || c.checkKeys() != nil {
			return
		}
		in := blockColumns{row: []int64{}}
		for i := range c.n {
			in.row = append(in.row, c.row(i))
			if keyed {
				c.find(c.hash(i), 0, func(int) {})
			}
		}
		in.scale, in.bias = view[float32](c.scales), view[float32](c.biases)
		for i := range c.n {
			if c.labels != nil {
				in.label = append(in.label, c.label(i))
			}
		}
		if keyed {
			in.key = c.keys(nil)
		}
		if c.n == 0 || keyed && c.checkAll(c.row(0)) != nil {
			return // hashes that no writer makes
		}
		if again := encodeColumns(in)[headerSize:]; !bytes.Equal(again, b) && !sameHashes(&c) {
			t.Errorf("%x became %x", b, again)
		}
	})
}

// sameHashes tells whether two rows share a hash, whose order is then free.
func sameHashes(c *columnsView) bool {
	for i := 1; i < c.n && c.keyed; i++ {
		if c.hash(i) == c.hash(i-1) {
			return true
		}
	}
	return false
}

func FuzzAttribute(f *testing.F) {
	f.Add(uint8(4), encodeAttribute([]Value{{}, Int(-1), Float(0.5), Text("x")})[headerSize:])
	f.Fuzz(func(t *testing.T, rows uint8, b []byte) {
		values, err := decodeAttribute(nil, b, int(rows))
		if err != nil {
			return
		}
		if again := encodeAttribute(values)[headerSize:]; !bytes.Equal(again, b) {
			t.Errorf("%x became %x", b, again)
		}
	})
}
