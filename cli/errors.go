package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"

	"membank/bench/eval"
	"membank/index"
	"membank/index/ivf"
	"membank/index/kmeans"
	"membank/index/memory"
	"membank/store"
	"membank/store/dump"
	"membank/store/journal"
)

// Exit codes, as the contract names them.
const (
	exitOK          = 0
	exitFailure     = 1   // internal or I/O failure
	exitUsage       = 2   // wrong usage
	exitBadInput    = 3   // bad input data
	exitNotFound    = 4   // no such bank, key or file
	exitCorrupt     = 5   // corruption detected
	exitInterrupted = 130 // Ctrl-C
)

// failure is an error this room words itself, exit code included.
type failure struct {
	exit int
	code string // for programs: "usage", "bad_input", …
	text string // "what: why (what to do)"
	err  error  // what it was made of; nil if nothing
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.err }

func usage(format string, a ...any) error {
	return &failure{exit: exitUsage, code: "usage", text: fmt.Sprintf(format, a...)}
}

func badInput(format string, a ...any) error {
	return &failure{exit: exitBadInput, code: "bad_input", text: fmt.Sprintf(format, a...)}
}

func notFound(format string, a ...any) error {
	return &failure{exit: exitNotFound, code: "not_found", text: fmt.Sprintf(format, a...)}
}

// meanings maps the sentinels of the rooms below to exit codes, codes for
// programs and, where the room cannot know it, the remedy. The first that an
// error is decides, so the specific stand before the general.
var meanings = []struct {
	is     error
	exit   int
	code   string
	remedy string
}{
	{context.Canceled, exitInterrupted, "interrupted", "nothing was changed; run it again"},
	{store.ErrRolledBack, exitCorrupt, "rolled_back", "restore the database from a copy; membank doctor says more"},
	{store.ErrCorrupt, exitCorrupt, "corrupt", "membank verify lists the damage; restore the database from a copy, or ingest the bank again"},
	{store.ErrLocked, exitFailure, "locked", "wait for the other process to end, or stop it"},
	{store.ErrBusy, exitFailure, "busy", "wait until the other write is done"},
	{store.ErrReadOnly, exitFailure, "read_only", "change the directory's permissions or its file system's, or name another with --db"},
	{store.ErrNoSpace, exitFailure, "no_space", "free some space on that disk, or name a database on another with --db"},
	{store.ErrForeignBadger, exitBadInput, "foreign_database", "name a directory of membank's own with --db"},
	{store.ErrNewerFormat, exitBadInput, "newer_format", "use the membank that wrote it, or a newer one"},
	{store.ErrNotMembank, exitBadInput, "not_a_database", "name a membank database, or a new directory, with --db"},
	{store.ErrNoBank, exitNotFound, "no_such_bank", "membank ls names the banks"},
	{store.ErrGrouped, exitUsage, "grouped", "membank index drop BANK makes it flat"},
	{store.ErrFlat, exitUsage, "not_grouped", "membank index build BANK groups it"},
	{store.ErrNoKey, exitNotFound, "no_such_key", "membank export writes all keys"},
	{store.ErrNoRow, exitNotFound, "no_such_row", "membank show says how many rows there are"},
	{store.ErrBankExists, exitUsage, "bank_exists", "add rows with --append, or overwrite it with --replace"},
	{store.ErrBadName, exitUsage, "bad_name", "letters, digits, '.', '_', '-', parts joined by '/'"},
	{store.ErrDuplicateKey, exitBadInput, "duplicate_key", "every key names one row of the bank"},
	{store.ErrDim, exitBadInput, "wrong_dim", "use features of one width in a bank"},
	{store.ErrDType, exitBadInput, "wrong_dtype", "--dtype f32 keeps every value"},
	{memory.ErrNone, exitNotFound, "no_such_bank", "membank bank show names the memory banks"},
	{memory.ErrNoCheckpoint, exitNotFound, "no_such_checkpoint", "membank bank show lists the checkpoints"},
	{memory.ErrExists, exitUsage, "bank_exists", "name another, or take its place with --replace"},
	{memory.ErrKind, exitUsage, "usage", "slots are updated, a queue is pushed"},
	{memory.ErrConfig, exitUsage, "usage", "see --help"},
	{memory.ErrOptions, exitUsage, "usage", "see --help"},
	{memory.ErrStep, exitUsage, "usage", "membank bank show says which step it is at"},
	{memory.ErrNoDatabase, exitUsage, "usage", "make it in a database"},
	{memory.ErrID, exitBadInput, "bad_id", "membank bank show says how many slots there are"},
	{memory.ErrRows, exitBadInput, "bad_rows", "nothing was changed"},
	{memory.ErrBatch, exitBadInput, "bad_batch", "choose --wrap modulo when the queue is made"},
	{memory.ErrEmpty, exitBadInput, "empty", "write rows first, or take initial ones in with --scope all"},
	{memory.ErrLost, exitCorrupt, "corrupt", "membank bank restore NAME --step N goes back to another checkpoint"},
	{memory.ErrIncomplete, exitCorrupt, "incomplete", "membank bank drop removes it; then make it again"},
	{journal.ErrDamaged, exitCorrupt, "corrupt", "restore the database from a copy"},
	{journal.ErrNewer, exitBadInput, "newer_format", "use the membank that wrote it, or a newer one"},
	{journal.ErrBusy, exitFailure, "locked", "another part of this process has it open"},
	{dump.ErrFormat, exitBadInput, "bad_input", ""},
	{store.ErrBadRow, exitBadInput, "bad_row", "leave such rows out with --skip-bad"},
	{eval.ErrProtocol, exitUsage, "usage", "membank eval knn --protocol help lists them"},
	{eval.ErrLeaveOneOut, exitUsage, "usage", "name one bank for both"},
	{eval.ErrNoLabels, exitBadInput, "no_labels", "ingest the bank with --labels"},
	{eval.ErrForegone, exitBadInput, "foregone", ""},
	{eval.ErrGroundTruth, exitBadInput, "bad_ground_truth", "membank eval retrieval --help describes the files"},
	{eval.ErrGroup, exitBadInput, "bad_groups", "name the tokens of an image alike, or group them with --gem-group"},
	{eval.ErrGroups, exitBadInput, "bad_groups", ""},
	{eval.ErrPerturbed, exitBadInput, "bad_pairs", ""},
	{eval.ErrWhitening, exitBadInput, "bad_whitening", "learn from a bank of more, and different, rows, or keep fewer directions"},
	{eval.ErrAgreement, exitBadInput, "no_agreement", "label two rows at least in both"},
	{eval.ErrTransfer, exitBadInput, "no_figures", ""},
	{eval.ErrTooFew, exitBadInput, "too_few_rows", "ingest more rows"},
	{eval.ErrUnmatched, exitBadInput, "no_rows_in_common", "banks are matched by key: ingest them with the same --keys"},
	{eval.ErrNoAttribute, exitNotFound, "no_such_attribute", "membank show lists the attributes"},
	{kmeans.ErrOptions, exitUsage, "usage", "see membank cluster --help"},
	{kmeans.ErrTooFewRows, exitBadInput, "too_few_rows", "ask for fewer"},
	{kmeans.ErrVariance, exitBadInput, "no_variance", "cluster them as they are, without --pca"},
	{kmeans.ErrRow, exitBadInput, "bad_row", "take such rows out"},
	{index.ErrOptions, exitUsage, "usage", "see --help"},
	{index.ErrQuery, exitBadInput, "bad_query", "take such rows out"},
	{index.ErrOverflow, exitBadInput, "overflow", "scale the vectors down"},
	{index.ErrCodes, exitCorrupt, "corrupt_codes", "membank index codes BANK --relearn makes them anew; --no-codes searches without"},
	{index.ErrLists, exitCorrupt, "corrupt_lists", "membank index drop BANK removes the lists; --exact searches without"},
	{ivf.ErrEmpty, exitBadInput, "no_rows", "ingest some rows first"},
	{ivf.ErrFewRows, exitBadInput, "too_few_rows", "2 queries or more are needed"},
	{store.ErrFlat, exitBadInput, "no_index", "membank index build BANK makes one"},
	{index.ErrMemory, exitFailure, "memory", "raise --memory, or ask for fewer neighbours"},
	{fs.ErrNotExist, exitNotFound, "no_such_file", "check the path"},
	{syscall.ENOSPC, exitFailure, "no_space", "free some space on that disk"},
	{syscall.EROFS, exitFailure, "read_only", "that file system is mounted read-only; write elsewhere"},
	{fs.ErrPermission, exitFailure, "no_permission", "change the permissions, or run as the owner"},
}

// meaning of an error: its exit code, its code for programs, its one line.
func meaning(err error) (exit int, code, line string) {
	line = strings.Join(strings.Fields(err.Error()), " ")
	var f *failure
	if errors.As(err, &f) {
		return f.exit, f.code, line
	}
	var bad *dump.Error
	isFile := errors.As(err, &bad)
	for _, m := range meanings {
		if errors.Is(err, m.is) {
			exit, code = m.exit, m.code
			if m.remedy != "" && !strings.HasSuffix(line, ")") {
				line += " (" + m.remedy + ")"
			}
			return exit, code, line
		}
	}
	if isFile {
		return exitBadInput, "bad_input", line
	}
	return exitFailure, "failure", line
}

// report prints an error as one line, and again for programs with --json, and
// returns the exit code.
func report(stderr io.Writer, err error, asJSON bool) int {
	exit, code, line := meaning(err)
	fmt.Fprintf(stderr, "membank: %s\n", line)
	if asJSON {
		var document struct {
			Error struct {
				Code    string `json:"code"`
				Message string `json:"message"`
			} `json:"error"`
		}
		document.Error.Code, document.Error.Message = code, line
		json.NewEncoder(stderr).Encode(document)
	}
	return exit
}
