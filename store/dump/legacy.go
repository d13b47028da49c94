package dump

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
)

// Before torch 1.6 (and with _use_new_zipfile_serialization=False) a file is five
// pickles and the storages:
//
//	0x1950a86a20f9469cfc6c    that this is such a file
//	1001                      the protocol
//	{"little_endian": True, …}
//	the value, its tensors views of storages
//	["94…", …]                the keys of the storages in the order they follow
//	8 bytes, elements         of each: how many elements, little endian, and those

// legacyMagic is the first value's instruction.
var legacyMagic = []byte("\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.")

// isLegacy reports whether a file begins as torch.save's of the old format.
func isLegacy(lead []byte) bool {
	return len(lead) > 2 && lead[0] == 0x80 && bytes.Contains(lead[:min(len(lead), 32)], legacyMagic)
}

// torchLegacy reads the pickles of a file of the old format, and where each storage lies.
func (in input) torchLegacy() (*torchFile, error) {
	pos := int64(0)
	storages := map[string]*storage{}
	persistent := func(any) (any, error) { return nil, errPickle("a storage before the value") }
	next := func() (any, error) {
		v, n, err := unpickle(io.NewSectionReader(in.f, pos, in.size-pos), in.size-pos, persistent)
		pos += n
		return v, err
	}
	if _, err := next(); err != nil {
		return nil, err
	}
	protocol, err := next()
	if err != nil {
		return nil, err
	}
	if v, ok := protocol.(int64); !ok || v != 1001 {
		return nil, bad("is a torch file of an unknown protocol").fix(savePlain)
	}
	system, err := next()
	if err != nil {
		return nil, err
	}
	file := &torchFile{in: in, order: legacyOrder(system)}
	persistent = func(id any) (any, error) {
		s, err := reference(id)
		if err != nil {
			return nil, err
		}
		if t := id.(pickleTuple); len(t) != 6 {
			return nil, errPickle("a storage without its view")
		}
		if old := storages[s.key]; old != nil && old.descr != s.descr {
			return nil, errPickle("one storage of two types")
		}
		storages[s.key] = s
		return s, nil
	}
	value, err := next()
	if err != nil {
		return nil, err
	}
	persistent = func(any) (any, error) { return nil, errPickle("a storage after the value") }
	keys, err := next()
	if err != nil {
		return nil, err
	}
	places, err := in.legacyStorages(pos, keys, storages)
	if err != nil {
		return nil, err
	}
	file.run = func(s *storage) (run, error) {
		data := places[s.key]
		if data == nil {
			return run{}, bad("refers to storage %s, which it does not hold", quote(s.key)).fix("copy or save it again")
		}
		if (s.first+s.count)*s.size > data.Size() {
			return run{}, bad("promises %d elements of %s in storage %s, which has %d bytes", s.first+s.count, s.descr, quote(s.key), data.Size()).
				fix("copy or save it again")
		}
		return run{at: data}, nil
	}
	file.entries, err = listEntries(value, file.order)
	return file, err
}

// legacyOrder is the byte order of the elements.
func legacyOrder(system any) binary.ByteOrder {
	if d, ok := system.(*pickleDict); ok {
		for i, key := range d.keys {
			if name, _ := key.(string); name == "little_endian" {
				if little, ok := d.values[i].(bool); ok && !little {
					return binary.BigEndian
				}
			}
		}
	}
	return binary.LittleEndian
}

// legacyStorages walks over the storages from pos to the end of the file.
func (in input) legacyStorages(pos int64, keys any, storages map[string]*storage) (map[string]*io.SectionReader, error) {
	list, ok := keys.(*pickleList)
	if !ok {
		return nil, bad("has no list of its storages").fix("copy or save it again")
	}
	places := map[string]*io.SectionReader{}
	for _, k := range list.items {
		key, ok := k.(string)
		s := storages[key]
		if !ok || s == nil || places[key] != nil {
			return nil, bad("lists a storage that no tensor refers to, or one twice").fix("copy or save it again")
		}
		var lead [8]byte
		if n, err := in.f.ReadAt(lead[:], pos); n < len(lead) {
			return nil, cutShort(err)
		}
		count := binary.LittleEndian.Uint64(lead[:])
		pos += 8
		if count > math.MaxInt64/uint64(s.size) || int64(count)*s.size > in.size-pos {
			return nil, bad("promises %d elements of %s in storage %s, and %d bytes are left", count, s.descr, quote(key), in.size-pos).
				fix("the file is cut short: copy or save it again")
		}
		places[key] = io.NewSectionReader(in.f, pos, int64(count)*s.size)
		pos += int64(count) * s.size
	}
	if pos != in.size {
		return nil, bad("has %d bytes after its last storage", in.size-pos).fix("copy or save it again")
	}
	return places, nil
}

func cutShort(err error) error {
	if readFault(err) {
		return err
	}
	return bad("ends inside a storage").fix("the file is cut short: copy or save it again")
}
