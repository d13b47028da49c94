// Package store keeps banks of embeddings in a Badger database, on disk for good
// and read in place.
//
// A DB is an open directory. A bank is a named set of rows of one dimension. A
// Writer streams rows into a bank and makes them visible at once, in Commit. A
// Snapshot pins one generation of a bank; its Readers hand out Blocks, whose
// panels lie in Badger's memory map, ready for the kernels of package simd.
//
//	db, err := store.Open(ctx, dir, store.Options{Create: true})
//	w, err := db.NewWriter(ctx, "train", 384, store.WriterOptions{})
//	err = w.Append(ctx, store.Rows{Vectors: m, Keys: keys})
//	info, err := w.Commit(ctx)
//	s, err := db.Snapshot("train")
//	err = s.NewReader().View(0, func(b *store.Block) error { … simd.Scan(…, b.Panels, …) … })
//
// # The directory
//
//	membank.json     marker and format version; written last when a database is made
//	COMMIT.a .b      the outside record: what was last acknowledged (outside.go)
//	CLOSED           what Badger's files were at the last orderly close (closing.go)
//	blocks/          Badger's directory
//	memory/BANK/     logs of memory banks (package journal); Badger knows nothing of them
//	lost+found/      what a pre-flight saved from Badger (preflight.go)
//	ballast          bytes to delete when the disk is full (space.go)
//
// # The key space
//
// Everything is written once, under a number that is not used again, and named by
// the manifest of a bank. Only manifests and the state are ever replaced:
//
//	's'              state: commit sequence; generation, rows and digest of each bank
//	'm' bank         manifest: block table, counts, provenance, layout
//	'r' number       record: panels, columns, attribute, deleted rows, classes,
//	                 basis, codes, lists, places, dead lanes or runs
//
// Trust runs from the outside in: the outside record holds the commit sequence and
// each manifest's checksum, as does the state; a manifest holds number, length and
// checksum of each record it names. So a record, a manifest or a state that is
// missing, altered, of an older copy of the directory or in another's place is
// noticed, whatever Badger says of it. Badger returns damaged values as empty or
// altered ones without an error, and forgets keys; it is never asked what there is,
// only for what is known to be there.
//
// # A record
//
// A value in Badger is a header of 48 bytes and a payload, little endian:
//
//	offset  bytes  field
//	0       4      "mbnk"
//	4       1      format version: 1; 2 of a manifest that has a layout
//	5       1      kind: 1 state, 2 manifest, 3 panels, 4 columns, 5 attribute,
//	               6 deleted rows, 7 classes, 8 basis, 9 codes, 10 lists, 11 places,
//	               12 dead lanes, 13 runs
//	6       1      dtype of the bank: 0 f32, 1 f16
//	7       1      0
//	8       8      number (of a manifest its generation, of the state its sequence)
//	16      8      bank id
//	24      4      rows (of the block; 0 where there is none)
//	28      4      dim
//	32      8      bytes of the payload
//	40      4      0
//	44      4      CRC32C of bytes 0..44 and of the payload
//	48      ...    payload
//
// Worked example: record 258, an attribute of 2 rows in bank 1 (f16, dimension 3)
// with the payload de ad be ef, is
//
//	6d626e6b 01 05 01 00 0201000000000000 0100000000000000
//	02000000 03000000 0400000000000000 00000000 <crc> deadbeef
//
// # A block
//
// A block is some rows: as many as make 4 MiB of panels, a multiple of 32, at
// most 16384 (10922 KiB of vectors at dimension 384 are 3 blocks of 2720 rows).
// Its panels are one record, and nothing but panels:
//
//	┌ panel 0: rows 0..31 ──────────────┐┌ panel 1: rows 32..63 ─┐
//	│ x₀[0] x₁[0] … x₃₁[0]   element 0  ││ x₃₂[0] …              │ …
//	│ x₀[1] x₁[1] … x₃₁[1]   element 1  ││                       │
//	│ …                                 ││                       │
//	└───────────────────────────────────┘└───────────────────────┘
//
// Element d of row i is the float at (i/32·dim + d)·32 + i%32, or the half in an
// f16 bank; the lanes behind the last row are zero. A second record holds the
// columns (row numbers, scale, bias, labels, keys; columns.go), and one record
// more each attribute (attributes.go). Manifest and state are drawn at
// manifest.go and state.go.
//
// # A layout
//
// Rows that were only ever appended stand in row order. Group sorts them by list,
// so that a search can read the blocks of some lists alone; UpdateRows writes a row
// again in another place. Then the manifest has a layout (layout.go), which says
// where rows stand: here, after row 1 was overwritten and row 6 deleted,
//
//	block      0: lists 0, 1         1: list 2       2: delta
//	lane       0  1  2 │ 3  4        0  1  2         0
//	row        0  4  5 │ 1  6        2  3  7         1
//	dead                 ×  ×
//	runs       (0,0) (1,3)           (2,0)           (1,0)
//	position   0  1  2   3  4        5  6  7         8
//	places     0→0 1→8 2→5 3→6 4→1 5→2 6→4 7→7       dead lanes: 3, 4
//
// What is written between two Groups or Folds is sorted by list within its own
// blocks, the deltas. Fold merges them with the rest and leaves dead lanes behind.
//
// # A commit
//
//	blocks        records in transactions of eight blocks, each synced by Badger
//	sync          db.Sync, whose error Badger's transactions would only log
//	check         no key twice in the bank
//	flip          manifest and state in one transaction
//	flip-sync     db.Sync
//	outside       the older of COMMIT.a and .b replaced, synced
//	acknowledged  Commit returns; only now are the rows promised
//	collect       records that no bank names any more are deleted
//
// A kill before flip leaves orphans, which the next writing open deletes; a kill
// between flip and outside leaves Badger one commit ahead of the outside record,
// which the next open accepts; any other difference between the two is ErrCorrupt.
//
// # Caveats
//
// One process may write, or several may read; Badger's lock is held from Open to
// Close. What View lends is valid until its function returns, and that function
// must not call the store. Checksums are computed at the first touch of a record
// in a process, so a scan of a fresh process reads at the speed of CRC32C and a
// repeated one at that of memory; damage that appears under a running process
// after the first touch is found by the next process, or by Verify, which always
// looks anew. Big-endian machines are refused.
package store
