package store

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// state is the small record that changes with every commit, in the transaction
// that replaces a manifest. It says which banks there are, so a manifest that
// Badger no longer finds is known to be missing, and it carries the sequence that
// the outside record is compared with.
type state struct {
	sequence   uint64 // commits since the database was created
	nextRecord uint64 // no record of a committed manifest has this number or a higher one
	nextBank   uint64
	banks      []outsideBank // sorted by name; Digest is the checksum of the manifest record
}

// The payload of the state, little endian, text as u16 length and bytes:
//
//	u64 next record | u64 next bank id
//	u32 n, n × bank: text name | u64 generation | u64 rows | u32 CRC32C of the manifest
//
// The sequence is the number in the record's header.
func (s *state) encode() []byte {
	b := make([]byte, headerSize, headerSize+20+64*len(s.banks))
	b = binary.LittleEndian.AppendUint64(b, s.nextRecord)
	b = binary.LittleEndian.AppendUint64(b, s.nextBank)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s.banks)))
	for _, k := range s.banks {
		b = appendText16(b, k.Name)
		b = binary.LittleEndian.AppendUint64(b, k.Generation)
		b = binary.LittleEndian.AppendUint64(b, uint64(k.Rows))
		b = binary.LittleEndian.AppendUint32(b, k.Digest)
	}
	sealRecord(b, header{kind: kindState, number: s.sequence})
	return b
}

func decodeState(h header, payload []byte) (*state, error) {
	f := &fields{b: payload}
	s := &state{sequence: h.number, nextRecord: f.u64(), nextBank: f.u64()}
	if n := f.count(2 + 8 + 8 + 4); n > 0 {
		s.banks = make([]outsideBank, n)
	}
	for i := range s.banks {
		s.banks[i] = outsideBank{Name: f.text16(), Generation: f.u64(), Rows: int64(f.u64()), Digest: f.u32()}
		if i > 0 && s.banks[i-1].Name >= s.banks[i].Name {
			return nil, fmt.Errorf("bank %q follows %q", s.banks[i].Name, s.banks[i-1].Name)
		}
	}
	return s, f.end()
}

func (s *state) find(bank string) (int, bool) {
	return slices.BinarySearchFunc(s.banks, bank, func(k outsideBank, name string) int {
		return strings.Compare(k.Name, name)
	})
}

// with returns the successor of s in which bank has that entry, or none if entry
// is nil. The caller sets nextRecord and nextBank.
func (s *state) with(bank string, entry *outsideBank) *state {
	next := &state{sequence: s.sequence + 1, banks: slices.Clone(s.banks)}
	i, found := next.find(bank)
	switch {
	case entry != nil && found:
		next.banks[i] = *entry
	case entry != nil:
		next.banks = slices.Insert(next.banks, i, *entry)
	case found:
		next.banks = slices.Delete(next.banks, i, i+1)
	}
	return next
}

// outside is what the outside record says of the same moment.
func (s *state) outside() outsideRecord {
	return outsideRecord{Sequence: s.sequence, Banks: s.banks}
}

// compareStates checks the state that Badger holds against what was acknowledged
// outside. nil means that the state stands: it is the acknowledged one, or the
// single commit after it that a kill cut off between Badger and the outside
// record.
func compareStates(s *state, o outsideRecord) error {
	switch {
	case s.sequence < o.Sequence:
		return &CorruptError{Block: -1, Record: "state", Cause: ErrRolledBack, Reason: fmt.Sprintf(
			"the database is at commit %d, expected %d%s", s.sequence, o.Sequence, differences(s.banks, o.Banks))}
	case s.sequence > o.Sequence+1:
		return &CorruptError{Block: -1, Record: "COMMIT.a and COMMIT.b", Reason: fmt.Sprintf(
			"they know commit %d, the database is at %d%s", o.Sequence, s.sequence, differences(s.banks, o.Banks))}
	case s.sequence == o.Sequence && !slices.Equal(s.banks, o.Banks):
		return &CorruptError{Block: -1, Record: "state", Reason: fmt.Sprintf(
			"commit %d is not the one that was acknowledged%s", s.sequence, differences(s.banks, o.Banks))}
	}
	return nil
}

// differences names the banks that two lists disagree about: "; bank "train" is
// at generation 4, expected 5".
func differences(have, want []outsideBank) string {
	byName := map[string]outsideBank{}
	for _, k := range have {
		byName[k.Name] = k
	}
	var s strings.Builder
	for _, w := range want {
		h, ok := byName[w.Name]
		delete(byName, w.Name)
		switch {
		case !ok:
			fmt.Fprintf(&s, "; bank %q is missing, expected at generation %d with %d rows", w.Name, w.Generation, w.Rows)
		case h.Generation != w.Generation:
			fmt.Fprintf(&s, "; bank %q is at generation %d, expected %d", w.Name, h.Generation, w.Generation)
		case h != w:
			fmt.Fprintf(&s, "; bank %q has another digest than was acknowledged", w.Name)
		}
	}
	for _, h := range have {
		if _, extra := byName[h.Name]; extra {
			fmt.Fprintf(&s, "; bank %q was not there", h.Name)
		}
	}
	return s.String()
}
