package cli

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"

	"membank/store"
)

// bankDigest is the SHA-256, in hex, of a bank's live rows in row order, so it is
// the same however they lie on disk and whatever codes stand beside them. Hashed
// are, little-endian, a title with the width as uint32, and of every row its dim
// float32s, its label as int64 (store.NoLabel for none), the length of its key as
// uint32 and the key. One batch is held; of a bank that an index grouped see
// store.Snapshot.Batches.
func bankDigest(ctx context.Context, snap *store.Snapshot, progress func(int64)) (string, error) {
	h := sha256.New()
	buffer := binary.LittleEndian.AppendUint32([]byte("membank bank digest 1\n"), uint32(snap.Dim()))
	h.Write(buffer)
	var done int64
	err := snap.Batches(ctx, digestBatch, func(b store.Batch) error {
		for i := range b.Rows {
			buffer = buffer[:0]
			for _, x := range b.Vectors.Row(i) {
				buffer = binary.LittleEndian.AppendUint32(buffer, math.Float32bits(x))
			}
			buffer = binary.LittleEndian.AppendUint64(buffer, uint64(b.Labels[i]))
			buffer = binary.LittleEndian.AppendUint32(buffer, uint32(len(b.Keys[i])))
			h.Write(append(buffer, b.Keys[i]...))
		}
		done += int64(len(b.Rows))
		progress(done)
		return ctx.Err()
	})
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

const digestBatch = 1024 // rows
