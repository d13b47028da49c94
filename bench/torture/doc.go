// Package torture looks for ways to make a membank database lose data, lie or
// hang.
//
// It runs a random workload in a child process and keeps a ledger of what the
// database acknowledged, outside of it. Then it does one of
//
//	kills    SIGKILL at a random moment, or at a named step of a commit
//	damages  flips, cuts, zeroed pages, rubbish, missing files and files of an
//	         older copy, in a closed database and in one that was killed
//	full     a small file system that fills up
//	power    a file system image copied while the writer is stopped, as a power
//	         cut would leave it
//
// and looks again, in a child too, since what it looks for includes panics, exits
// and hangs. The rules:
//
//   - after a kill or a power cut every bank is as the ledger has it, or complete
//     with the one operation that was under way; Verify is clean; the next ingest
//     succeeds; nobody had to do anything.
//   - after damage every answer is right or an error that wraps store.ErrCorrupt;
//     an error of a bank names the bank. Never wrong data, never a bank that is
//     empty or gone without an error, and Verify does not call it clean.
//   - on a full disk writes are refused with store.ErrNoSpace, reads go on, and
//     nothing that was acknowledged is lost.
//
// Rows are functions of a seed (see model.go), so the ledger holds a line for an
// operation, not its data, and every element of every row is compared. Elements
// are small integers: scores are exact, and a naive loop over the model says what
// a search must answer.
//
// A run prints its seed. Iteration i has the seed+i; a fault names it with the
// arguments that repeat the iteration. Kills at random moments are not repeatable
// to the instruction, damage and kills at steps are.
//
// To add an operation, add a row to the table in operations.go.
package torture
