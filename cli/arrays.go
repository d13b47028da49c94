package cli

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"math"
	"os"
	"path/filepath"

	"membank/index"
	"membank/store/dump"
)

// arrayAnswers are the two arrays of an .npz: rows int64 [q][k], padded with −1,
// and scores float32 [q][k], padded with NaN. Neither the number of queries nor,
// in a range search, the widest answer is known before the end, so hits wait in
// a temporary file beside the target.
type arrayAnswers struct {
	answering
	file  *newFile
	spool *spool
}

func newArrayAnswers(base answering) (answers, error) {
	file, err := base.s.createFile(base.path)
	if err != nil {
		return nil, err
	}
	spool, err := newSpool(base.s.spoolDir(filepath.Dir(base.path)))
	if err != nil {
		file.discard()
		return nil, err
	}
	return &arrayAnswers{answering: base, file: file, spool: spool}, nil
}

func (a *arrayAnswers) write(_ context.Context, _ int64, _ questions, hits [][]index.Hit) error {
	for _, list := range hits {
		if err := a.spool.add(list); err != nil {
			return err
		}
	}
	return nil
}

func (a *arrayAnswers) finish(queries int64, took float64) error {
	width := a.options.K
	if width == 0 {
		width = a.spool.widest
	}
	if err := writeAnswers(a.file, a.spool, width); err != nil {
		return err
	}
	if err := a.file.keep(); err != nil {
		return err
	}
	return a.wrote(queries, took)
}

func (a *arrayAnswers) abort() {
	a.file.discard()
	a.spool.discard()
}

var padScore = float32(math.NaN())

// spool keeps hits of unknown number on disk: for each query its number of hits
// (4 bytes), then row (8) and score (4) of each.
type spool struct {
	f       *os.File
	w       *bufio.Writer
	queries int64
	widest  int
}

func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, ".membank-*")
	if err != nil {
		return nil, err
	}
	return &spool{f: f, w: bufio.NewWriterSize(f, 1<<20)}, nil
}

func (s *spool) add(hits []index.Hit) error {
	var b [12]byte
	binary.LittleEndian.PutUint32(b[:], uint32(len(hits)))
	if _, err := s.w.Write(b[:4]); err != nil {
		return err
	}
	for _, h := range hits {
		binary.LittleEndian.PutUint64(b[:], uint64(h.Row))
		binary.LittleEndian.PutUint32(b[8:], math.Float32bits(h.Score))
		if _, err := s.w.Write(b[:]); err != nil {
			return err
		}
	}
	s.queries++
	s.widest = max(s.widest, len(hits))
	return nil
}

// each gives every query's hits back, in order; the slice is reused.
func (s *spool) each(fn func(hits []index.Hit) error) error {
	if err := s.w.Flush(); err != nil {
		return err
	}
	if _, err := s.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r := bufio.NewReaderSize(s.f, 1<<20)
	var b [12]byte
	var hits []index.Hit
	for range s.queries {
		if _, err := io.ReadFull(r, b[:4]); err != nil {
			return err
		}
		hits = hits[:0]
		for range binary.LittleEndian.Uint32(b[:]) {
			if _, err := io.ReadFull(r, b[:]); err != nil {
				return err
			}
			hits = append(hits, index.Hit{Row: int64(binary.LittleEndian.Uint64(b[:])), Score: math.Float32frombits(binary.LittleEndian.Uint32(b[8:]))})
		}
		if err := fn(hits); err != nil {
			return err
		}
	}
	return nil
}

func (s *spool) discard() {
	s.f.Close()
	os.Remove(s.f.Name())
}

// writeAnswers writes the spooled hits as the two arrays of an .npz.
func writeAnswers(w io.Writer, hits *spool, width int) error {
	z := dump.NewNPZWriter(w)
	rows, err := z.Array("rows", "<i8", hits.queries, int64(width))
	if err != nil {
		return err
	}
	line := make([]int64, width)
	err = hits.each(func(list []index.Hit) error {
		for j := range line {
			if line[j] = -1; j < len(list) {
				line[j] = list[j].Row
			}
		}
		return rows.Int64(line)
	})
	if err != nil {
		return err
	}
	if err := rows.Close(); err != nil {
		return err
	}
	scores, err := z.Array("scores", "<f4", hits.queries, int64(width))
	if err != nil {
		return err
	}
	scoreLine := make([]float32, width)
	err = hits.each(func(list []index.Hit) error {
		for j := range scoreLine {
			if scoreLine[j] = padScore; j < len(list) {
				scoreLine[j] = list[j].Score
			}
		}
		return scores.Float32(scoreLine)
	})
	if err != nil {
		return err
	}
	if err := scores.Close(); err != nil {
		return err
	}
	return z.Close()
}
