package eval

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"

	"membank/simd"
	"membank/store"
)

// standIns say which rows of a bank are equal, so that of those one is compared with
// others and stands for all.
type standIns struct {
	// first is, of each row number, the smallest row of the same bits; noStandIn of
	// rows that are deleted.
	first []int64
	// rows is, of each row that stands for others and itself, how many they are.
	rows     []int32
	zero     int64 // the first row of zeros; noStandIn: there is none
	repeated int64 // rows that another stands for
}

const noStandIn = -1

// print16 is half a SHA-256: two rows that share it are taken as equal. No two inputs
// are known that do and are not.
type print16 struct {
	hash [16]byte
	row  int64
}

// findStandIns reads the bank once, and holds 36 bytes a row meanwhile, 12 after. As
// in diagnose −0 is 0. A row too short to have a direction, but not zero, stands for
// itself: its cosine with its equal is not 1.
func findStandIns(ctx context.Context, s *store.Snapshot, threads int) (*standIns, error) {
	info := s.Info()
	in := &standIns{first: make([]int64, info.Next), rows: make([]int32, info.Next), zero: noStandIn}
	for i := range in.first {
		in.first[i] = noStandIn
	}
	prints := make([][]print16, s.Blocks())
	errs := make([]error, s.Blocks())
	readers := make([]*store.Reader, max(threads, 1))
	for w := range readers {
		readers[w] = s.NewReader()
	}
	zero := sha256.Sum256(make([]byte, 4*info.Dim))
	spread(threads, s.Blocks(), func(w, i int) {
		if ctx.Err() == nil {
			prints[i], errs[i] = blockPrints(readers[w], i, info.Dim)
		}
	})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var all []print16
	for i, part := range prints {
		if errs[i] != nil {
			return nil, errs[i]
		}
		all, prints[i] = append(all, part...), nil
	}
	slices.SortFunc(all, func(a, b print16) int {
		if c := bytes.Compare(a.hash[:], b.hash[:]); c != 0 || a.row == b.row {
			return c
		}
		if a.row < b.row {
			return -1
		}
		return 1
	})
	for i, p := range all {
		first := p.row
		if i > 0 && p.hash == all[i-1].hash && p.hash != [16]byte{} {
			first = in.first[all[i-1].row]
			in.repeated++
		} else if p.hash == [16]byte(zero[:16]) {
			in.zero = p.row
		}
		in.first[p.row] = first
		in.rows[first]++
	}
	return in, nil
}

// blockPrints hashes the live rows of a block; a row too short to have a direction, or
// of no finite norm, has no hash.
func blockPrints(r *store.Reader, block, dim int) (list []print16, err error) {
	panel := simd.NewMatrix(simd.PanelRows, dim)
	bits := make([]byte, 0, 4*dim)
	err = r.View(block, func(b *store.Block) error {
		for lane := range b.Rows {
			if lane%simd.PanelRows == 0 {
				simd.Unpack(panel, b.Panels[lane*dim:][:simd.PanelRows*dim])
			}
			if b.Dead[lane] {
				continue
			}
			p, x := print16{row: b.Row[lane]}, panel.Row(lane%simd.PanelRows)
			if norm := simd.Norm(x); norm == 0 || norm >= simd.Epsilon && finite(norm) {
				bits = bits[:0]
				for _, v := range x {
					bits = binary.LittleEndian.AppendUint32(bits, math.Float32bits(v+0))
				}
				sum := sha256.Sum256(bits)
				p.hash = [16]byte(sum[:16])
			}
			list = append(list, p)
		}
		return nil
	})
	return list, err
}

// alone reports whether a row stands for itself and perhaps for others.
func (in *standIns) alone(row int64) bool { return in.first[row] == row }

// score is the cosine of a row with its equals.
func (in *standIns) score(row int64) float32 {
	if row == in.zero {
		return 0
	}
	return 1
}
