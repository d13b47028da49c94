// Package memory keeps the memory bank of a training run: the embeddings that a
// loop writes at every step and compares its batch with.
//
//	bank, err := memory.Create(ctx, db, "npid", memory.Config{Kind: memory.KindSlots, Rows: 1281167,
//		Views: []memory.View{{Dim: 128, Init: memory.InitUniform}}, Seed: 1}, memory.CreateOptions{})
//	slots, err := bank.Slots()
//	ids, err := bank.Sample(ctx, memory.SampleOptions{N: 4096, Step: step, Positives: batch, PositiveFirst: true})
//	scores, err := bank.Scores(ctx, 0, queries, ids)
//	loss, err := bank.NCE(ctx, scores, memory.NCEOptions{})
//	_, err = slots.Update(ctx, batch, []simd.Matrix{queries}, memory.UpdateOptions{KeepOld: 0.5, Step: step})
//	_, err = bank.Checkpoint(ctx, step)
//
// Slots are written by id, a Queue in turn; both are a Bank. What the
// implementations of the field do differently are options with names: Init, Renorm,
// Wrap, Order, Scope, ZRule. Which of them who uses stands at each.
//
//	              write            init                       renorm    wrap        order
//	InstDisc,CMC  Update 0.5       uniform                    l2
//	NPID (VISSL)  Update 0.5       uniform-unit, Ranks n      l2
//	NPID (mm)     FromNew(0.5)     unit                       l2
//	PyContrast    Update 0.5       unit                       l2
//	ODC           FromNew(0.5)     rows                       l2-plus
//	SimMatch      Update 0         unit                       none
//	MoCo, ReSSL   ReadThenPush     unit                                 assert      ring
//	NNCLR         Nearest, Push    unit                                 assert      ring
//	MSF           PushThenNearest  unit                                 assert      ring
//	lightly       Push             unit                                 drop-tail   ring
//	PyContrast    Push             unit                                 modulo      ring
//	XBM           PushThenNearest  zeros, ScopeWritten                  bounded     ring
//	SwAV          Push             zeros, Ready                         modulo      shift
//	OrderedQueue  Push, Ordered    zeros                                modulo      ring
//
// # Where rows are
//
// Rows lie in memory, row after row, outside of the garbage collector's heap: a
// bank takes 1.03 times its rows at 128 dimensions. A search is index.Search over a
// view that packs them block by block (view.go).
//
// # What is on disk
//
//	DIR/memory/NAME/@journal   what was written since the last checkpoint
//	bank NAME/step-N           a checkpoint: an ordinary bank, with versions in attribute "step"
//	bank NAME/step-N/view-1 …  its other views; NAME/step-N/prototypes
//
// An update computes what rows become, logs them, and then changes memory; so an
// update whose log record does not fit the disk did not happen. A log record says
// what rows are, not how they came to be. Durability is a matter of each call, and
// covers all calls before it: what was written in memory only goes into the record
// of the next call that is logged. A checkpoint commits its banks and then replaces
// the log by an empty one whose head names them: a kill at any moment leaves the
// old log with the old checkpoint or the new one with the new, and either gives the
// same rows.
//
// # Time
//
// A step is the training loop's number of an update. Each row has the step of its
// last write as its version, which never decreases. Reads see a bank at one moment;
// a search keeps writers waiting until it is done.
package memory
