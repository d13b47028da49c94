package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"membank/store"
)

// Codes are left out where they gain little: a bank of fewer rows is scanned in a
// few milliseconds a query batch, and rows of fewer dims are hardly longer than
// their codes.
const (
	buildRows = 16384
	buildDim  = 64
)

// BuildOptions say how BuildCodes runs. The zero value uses all cores.
type BuildOptions struct {
	Threads  int                     // 0 means GOMAXPROCS
	Progress func(done, total int64) // blocks encoded; calls do not overlap
	Relearn  bool                    // learn a new basis and encode all blocks, whatever there is
}

// BuildStats say what BuildCodes did.
type BuildStats struct {
	Codes   CodesInfo // what the bank has now
	Encoded int       // blocks that were encoded
	Learnt  bool      // a basis was learnt; otherwise the bank had one
	Skipped string    // why the bank gets no codes; "" if it has them
	Learn   float64   // seconds
	Encode  float64   // seconds, until the codes were durable
}

// CodesInfo describes the codes of a bank. It is zero for a bank without.
type CodesInfo struct {
	Blocks     int // of the bank
	Coded      int // of these, blocks that have codes
	First      int // dims of the first stage
	Second     int // dims of the second stage
	Directions int // that the basis holds
	Bytes      int64
}

// DescribeCodes says what codes a bank has. It reads the basis, not the codes.
func DescribeCodes(s *store.Snapshot) (CodesInfo, error) {
	c := CodesInfo{Blocks: s.Blocks(), Coded: s.CodedBlocks()}
	basis, err := s.Basis()
	if err != nil || basis == nil {
		return c, err
	}
	b, err := DecodeBasis(basis)
	if err != nil {
		return c, err
	}
	c.First, c.Second = b.Dims()
	c.Directions = b.Directions()
	c.Bytes = int64(len(basis))
	// Blocks without codes are the last ones: an append leaves those before its
	// own alone, and codes are written for all blocks or for none.
	for i := range c.Coded {
		c.Bytes += int64(b.codesBytes(s.BlockRows(i)))
	}
	return c, nil
}

// PaysOff says whether codes are worth their bytes for a bank of that shape; if
// not, why.
func PaysOff(rows int64, dim int) (ok bool, why string) {
	switch {
	case rows < buildRows:
		return false, fmt.Sprintf("a bank of fewer than %d rows is scanned as fast without", buildRows)
	case dim < buildDim:
		return false, fmt.Sprintf("rows of fewer than %d dimensions are scanned as fast without", buildDim)
	}
	return true, ""
}

// BuildCodes gives codes to the blocks of a bank that have none: with the basis of
// the bank, or with one learnt from its rows where there is none. Banks for which
// that does not pay (PaysOff, asked only where there is no basis yet) stay as they
// are; the stats say why. Answers do not change, only their cost.
//
// Readers go on meanwhile, and until it returns without an error the bank is as it
// was. It costs LearnBasis, and for each row two operations for each of the dim
// numbers and directions. A cancelled ctx ends it with its cause, within a block;
// learning itself is not interrupted. Other errors are those of store.WriteCodes.
func BuildCodes(ctx context.Context, db *store.DB, bank string, o BuildOptions) (store.Info, BuildStats, error) {
	if o.Threads <= 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	for {
		info, stats, err := buildCodes(ctx, db, bank, o)
		if !errors.Is(err, errOtherBasis) {
			return info, stats, err
		}
		o.Relearn = true
	}
}

// errOtherBasis: another basis came into the bank between reading it and writing.
var errOtherBasis = errors.New("codes were made with another basis than the bank has now")

func buildCodes(ctx context.Context, db *store.DB, bank string, o BuildOptions) (info store.Info, stats BuildStats, err error) {
	s, err := db.Snapshot(bank)
	if err != nil {
		return info, stats, err
	}
	defer s.Close()
	info = s.Info()
	record, err := s.Basis()
	if err != nil && !o.Relearn {
		return info, stats, err
	}
	b, err := basisFor(ctx, s, record, o, &stats)
	if err != nil {
		return info, stats, err
	}
	if b != nil && (stats.Learnt || s.CodedBlocks() < s.Blocks()) {
		var learnt []byte
		if stats.Learnt {
			learnt = b.Encode()
		}
		began := time.Now()
		info, err = db.WriteCodes(ctx, bank, learnt, b.EncodeBlock, store.CodesOptions{Threads: o.Threads, Progress: o.Progress})
		stats.Encode = time.Since(began).Seconds()
		if err != nil {
			return info, stats, err
		}
	}
	after, err := db.Snapshot(bank)
	if err != nil {
		return info, stats, err
	}
	defer after.Close()
	if b != nil {
		if is, err := after.Basis(); err != nil || !bytes.Equal(is, b.Encode()) {
			return info, stats, errors.Join(err, errOtherBasis)
		}
	}
	stats.Codes, err = DescribeCodes(after)
	if stats.Encoded = stats.Codes.Coded; b == nil {
		stats.Encoded = 0
	} else if !stats.Learnt {
		stats.Encoded -= s.CodedBlocks()
	}
	return info, stats, err
}

// basisFor decodes the basis of the bank or learns one; nil if the bank is to have
// none.
func basisFor(ctx context.Context, s *store.Snapshot, record []byte, o BuildOptions, stats *BuildStats) (*Basis, error) {
	if record != nil && !o.Relearn {
		return DecodeBasis(record)
	}
	info := s.Info()
	if ok, why := PaysOff(info.Rows, info.Dim); !ok {
		stats.Skipped = why
		return nil, nil
	}
	began := time.Now()
	b, err := LearnBasis(ctx, s, o.Threads)
	stats.Learn = time.Since(began).Seconds()
	if err == nil && b == nil {
		stats.Skipped = "no bound is known for so many dimensions"
	}
	stats.Learnt = b != nil
	return b, err
}

// readCodes makes a search of s use the codes of the bank, if it has any. What is
// wrong with their basis is for Search to say.
func (ix *Index) readCodes(s *store.Snapshot) {
	if ix.rows < codesFrom || s.CodedBlocks() == 0 {
		return
	}
	record, err := s.Basis()
	if err == nil {
		ix.basis, err = DecodeBasis(record)
	}
	if err == nil && ix.basis.dim != ix.dim {
		ix.basis, err = nil, fmt.Errorf("%w: their basis has %d dimensions, the bank %d", ErrCodes, ix.basis.dim, ix.dim)
	}
	ix.broken = err
	ix.codes = func() codesView { return s.NewReader().Codes }
}
