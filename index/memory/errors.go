package memory

import "errors"

// Errors of making and opening a memory bank.
var (
	// ErrNone: the database has no memory bank of that name.
	ErrNone = errors.New("no such memory bank")
	// ErrExists: Create found a memory bank of that name.
	ErrExists = errors.New("the memory bank exists already")
	// ErrConfig: a Config that can mean nothing.
	ErrConfig = errors.New("memory bank options")
	// ErrKind: slots were asked of a queue, or a queue of slots.
	ErrKind = errors.New("the memory bank is of the other kind")
	// ErrIncomplete: a kill cut off the creation of the bank.
	ErrIncomplete = errors.New("the memory bank was never completed")
	// ErrNoDatabase: the bank is in memory only, and what was asked needs a disk.
	ErrNoDatabase = errors.New("the memory bank has no database")
)

// Errors of a call's arguments. None of them changes the bank.
var (
	// ErrID: an id is no row of the bank, or names one that the call may not use.
	ErrID = errors.New("no such slot")
	// ErrRows: rows cannot be taken: wrong dimension or number, NaN, Inf, a norm
	// whose square overflows.
	ErrRows = errors.New("bad rows")
	// ErrBatch: the wrap rule refuses a batch of that size.
	ErrBatch = errors.New("batch does not fit the queue")
	// ErrOptions: an option is out of its range.
	ErrOptions = errors.New("options")
	// ErrStep: a step that is not positive, or a checkpoint of a step that the
	// bank has passed or has a checkpoint of.
	ErrStep = errors.New("step")
	// ErrEmpty: nothing can be drawn or found, as no row was written yet.
	ErrEmpty = errors.New("the memory bank is empty")
	// ErrNoCheckpoint: no checkpoint has that step.
	ErrNoCheckpoint = errors.New("no such checkpoint")
)

// ErrLost: a checkpoint's bank is not there, or not as it was written.
var ErrLost = errors.New("the checkpoint is lost")

// ErrBroken: an earlier failure left memory and disk different. Open the bank
// again: it is then at its last durable step.
var ErrBroken = errors.New("the memory bank must be opened again")

// ErrClosed: the bank was closed before the call.
var ErrClosed = errors.New("the memory bank is closed")
