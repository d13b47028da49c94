// Package journal is an append-only log of one owner: what has changed since a
// checkpoint, in order, so that a process killed at any moment finds the state it
// last acknowledged.
//
//	j, err := journal.Create(dir, head, journal.Options{})
//	end, err := j.Append(journal.Piece{Kind: 1, Step: 7, Bytes: n, Fill: …})   // survives kill -9
//	err = j.Sync(end)                                                         // survives a power cut
//	err = j.Rotate(newHead)                                                   // at a checkpoint
//
// A log is one file, DIR/@journal. Its first record is the head: what the records
// after it apply to. Rotate writes a new file with a new head beside it, syncs it
// and renames it over the old one, so a reader finds the old log or the new one.
//
// # The file, little endian
//
//	offset  bytes  field
//	0       8      "MBJOURNL"
//	8       4      format version: 1
//	12      4      0
//	16      ...    records
//
// A record is a header of 40 bytes and its payload:
//
//	offset  bytes  field
//	0       4      "mbjr"
//	4       4      CRC32C of bytes 8..40 and of the payload
//	8       4      bytes of the payload
//	12      1      kind: 0 the head, 1 to 254 the owner's, 255 closed in order
//	13      1      1: the next record belongs to the same change
//	14      2      0
//	16      8      sequence number: 0 the head, then 1, 2, …
//	24      8      step, the owner's
//	32      8      synced: bytes of the file that were durable when this was written
//	40      ...    payload
//
// # After a kill
//
// Open reads every record. Where one is incomplete or does not match its checksum,
// the file ends with the last complete change before it: the rest was never
// acknowledged, is cut off, and Torn says how much it was. But if a whole record
// further on says that the place was durable already, then bytes were lost that had
// been promised, and Open fails with ErrDamaged. What it cannot tell from a torn
// tail is damage to the last change of a log that was not closed in order.
//
// # Caveats
//
// A log has one writer: a second Create or Open in the same process is ErrBusy, and
// other processes are kept out by the lock of the database around it. Append and
// Rotate are for one goroutine at a time; Sync may be called by many at once, and
// one fsync serves all that wait. A failed fsync is final (the kernel may have
// dropped the pages): every later call fails with it.
package journal
