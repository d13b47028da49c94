package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// sign encodes a block as its first row number and the bits of its first panel:
// enough to tell whether codes lie with the block that they were made from.
func sign(basis string) Encoder {
	return func(value []byte, b *Block) ([]byte, error) {
		return fmt.Appendf(value, "%s %d %v", basis, b.Row[0], b.Panels[:8]), nil
	}
}

// wantCodes compares every block's codes with those of the basis, "" for none.
func wantCodes(t *testing.T, db *DB, bank string, bases ...string) {
	t.Helper()
	s := snapshot(t, db, bank)
	defer s.Close()
	if s.Blocks() != len(bases) {
		t.Fatalf("%d blocks, expected %d", s.Blocks(), len(bases))
	}
	r, coded := s.NewReader(), 0
	for i, basis := range bases {
		var want []byte
		if basis != "" {
			coded++
			if err := r.View(i, func(b *Block) (err error) { want, err = sign(basis)(nil, b); return }); err != nil {
				t.Fatal(err)
			}
		}
		err := r.Codes(i, func(codes []byte) error {
			if !bytes.Equal(codes, want) {
				t.Errorf("block %d: codes %q, expected %q", i, codes, want)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if s.CodedBlocks() != coded {
		t.Errorf("%d coded blocks, expected %d", s.CodedBlocks(), coded)
	}
}

func TestCodes(t *testing.T) {
	ctx := context.Background()
	const dim = 4096 // a full block has 256 rows
	db := create(t)
	rows := Rows{Vectors: gaussian(700, dim, 1)}
	write(t, db, "train", slice(rows, 0, 600), WriterOptions{})
	wantCodes(t, db, "train", "", "", "")
	if _, err := db.WriteCodes(ctx, "train", nil, sign("x"), CodesOptions{}); err == nil {
		t.Error("codes without a basis were written")
	}
	before := snapshot(t, db, "train")
	steps := int64(0)
	info, err := db.WriteCodes(ctx, "train", []byte("first"), sign("first"), CodesOptions{Threads: 3, Progress: func(done, total int64) {
		if steps++; done != steps || total != 3 {
			t.Errorf("progress %d of %d at step %d", done, total, steps)
		}
	}})
	if err != nil || info.Generation != 2 || info.Rows != 600 {
		t.Fatalf("%+v, %v", info, err)
	}
	if before.CodedBlocks() != 0 {
		t.Error("a snapshot changed")
	}
	wantCodes(t, db, "train", "first", "first", "first")
	equalRows(t, all(t, db, "train"), Rows{Vectors: rows.Vectors.Slice(0, 600), Keys: decimals(600), Labels: unlabelled(600)})

	// An append rewrites the last block, which then has none; deleting rows
	// changes nothing.
	write(t, db, "train", slice(rows, 600, 700), WriterOptions{Mode: Append})
	if _, err := db.DeleteRows(ctx, "train", []int64{5}); err != nil {
		t.Fatal(err)
	}
	wantCodes(t, db, "train", "first", "first", "")
	db = reopen(t, db, Options{})
	encoded := 0
	_, err = db.WriteCodes(ctx, "train", nil, func(value []byte, b *Block) ([]byte, error) {
		encoded++
		return sign("first")(value, b)
	}, CodesOptions{})
	if err != nil || encoded != 1 {
		t.Fatalf("%d blocks encoded, %v", encoded, err)
	}
	wantCodes(t, db, "train", "first", "first", "first")

	// A failure half way leaves the bank as it was.
	broken := errors.New("broken")
	_, err = db.WriteCodes(ctx, "train", []byte("second"), func(value []byte, b *Block) ([]byte, error) {
		if b.Row[0] > 0 {
			return nil, broken
		}
		return sign("second")(value, b)
	}, CodesOptions{Threads: 2})
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := db.WriteCodes(cancelled, "train", []byte("second"), sign("second"), CodesOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	wantCodes(t, db, "train", "first", "first", "first")
	if _, err := db.WriteCodes(ctx, "train", []byte("second"), sign("second"), CodesOptions{}); err != nil {
		t.Fatal(err)
	}
	wantCodes(t, db, "train", "second", "second", "second")
	if basis, err := snapshot(t, db, "train").Basis(); err != nil || string(basis) != "second" {
		t.Errorf("basis %q, %v", basis, err)
	}
	write(t, db, "train", slice(rows, 0, 10), WriterOptions{Mode: Replace})
	wantCodes(t, db, "train", "")
}

func TestDamagedCodesAreNamed(t *testing.T) {
	db := create(t)
	write(t, db, "train", Rows{Vectors: gaussian(40, 8, 1)}, WriterOptions{})
	if _, err := db.WriteCodes(context.Background(), "train", []byte("basis"), sign("basis"), CodesOptions{}); err != nil {
		t.Fatal(err)
	}
	s := snapshot(t, db, "train")
	refs := map[recordKind]recordRef{kindBasis: s.g.basis, kindCodes: s.g.blocks[0].codes}
	s.Close()
	dir := db.Dir()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for kind, ref := range refs {
		damaged := copyTree(t, dir)
		withBadger(t, damaged, func(b *badger.DB) {
			var value []byte
			err := b.View(func(txn *badger.Txn) error {
				item, err := txn.Get(recordKey(ref.number))
				if err == nil {
					value, err = item.ValueCopy(nil)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			value[len(value)-1] ^= 4
			set(t, b, string(recordKey(ref.number)), value)
		})
		db, err := Open(context.Background(), damaged, Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		report, err := db.Verify(context.Background(), VerifyOptions{})
		var c *CorruptError
		if err != nil || len(report.Problems) != 1 || !errors.As(report.Problems[0].Err, &c) || c.Bank != "train" {
			t.Errorf("%v: %v %v", kind, report.Problems, err)
		}
		db.Close()
	}
}
