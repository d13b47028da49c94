package eval

import "errors"

// When the question makes no sense, whatever the banks hold.
var (
	// ErrProtocol: a preset nobody has defined, or an override its rule cannot
	// take (a temperature for a majority vote, k below 1, …).
	ErrProtocol = errors.New("unusable protocol")

	// ErrLeaveOneOut: leave-one-out asks every row of the gallery against the
	// others, and the query set given is another bank.
	ErrLeaveOneOut = errors.New("leave-one-out needs one bank")
)

// When the banks cannot answer it.
var (
	// ErrNoLabels: no row of the gallery, or none of the query set, has a label.
	ErrNoLabels = errors.New("no labelled rows")

	// ErrForegone: labels alone settle the figure, whatever the embeddings: all rows that
	// vote are of one class, no query has a class that could be found. The number would
	// be 1 or 0, and say nothing.
	ErrForegone = errors.New("labels alone decide")

	// ErrGroundTruth: a file of what queries should find that cannot be read, or
	// names rows that the banks lack.
	ErrGroundTruth = errors.New("unusable ground truth")

	// ErrGroup: rows that should make up one image and do not.
	ErrGroup = errors.New("rows that cannot be pooled")

	// ErrWhitening: a whitening that cannot be learnt or applied.
	ErrWhitening = errors.New("unusable whitening")

	// ErrGroups: an attribute that the bank lacks, or groups that cannot be made of it.
	ErrGroups = errors.New("unusable groups")

	// ErrPerturbed: a perturbed row that is none of the clean set's.
	ErrPerturbed = errors.New("rows that do not belong together")

	// ErrTransfer: no model has a figure on any data set.
	ErrTransfer = errors.New("a table without a figure")

	// ErrAgreement: two labelings that cannot be compared: of different lengths,
	// or with fewer than two rows that both label.
	ErrAgreement = errors.New("labelings cannot be compared")
)
