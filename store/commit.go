package store

import (
	"context"
	"sort"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

// position is where a new row of the bank stood in the stream.
func (w *Writer) position(row int64) int64 {
	kept := row - w.firstNew()
	// The kept-th row that was not skipped: skipped[i]-i rows were kept before
	// the i-th skipped one.
	n := sort.Search(len(w.skipped), func(i int) bool { return w.skipped[i]-int64(i) > kept })
	return kept + int64(n)
}

// Commit makes the rows durable and visible: it syncs all blocks, looks for
// duplicate keys in the whole bank (*DuplicateKeyError), then replaces the
// manifest and the outside record. When it returns without an error the rows
// survive a power cut. An error leaves the bank as it was; the Writer is finished
// either way.
func (w *Writer) Commit(ctx context.Context) (Info, error) {
	if w.finished {
		return Info{}, ErrClosed
	}
	info, err := w.finish(ctx)
	if err != nil {
		w.Abort()
		return Info{}, err
	}
	w.finished = true
	w.end()
	return info, nil
}

func (w *Writer) finish(ctx context.Context) (Info, error) {
	if w.failed != nil {
		return Info{}, w.failed
	}
	if err := w.seal(ctx); err != nil {
		return Info{}, err
	}
	if err := w.pipeline.wait(); err != nil {
		return Info{}, err
	}
	w.db.onStep("sync")
	if err := w.db.sync(); err != nil {
		return Info{}, err
	}
	m := w.draft
	m.next = w.firstNew() + w.rows
	m.zeros += w.zeros
	m.classCount = int(w.classes.labels.GetCardinality())
	m.attributes, m.blocks = w.pipeline.table()
	source := w.options.Source
	if source.Time.IsZero() {
		source.Time = w.began.UTC()
	}
	if source.Seconds == 0 {
		source.Seconds = time.Since(w.began).Seconds()
	}
	m.addSource(source)
	g := &generation{manifest: m, deadRows: roaring64.New(), classes: w.classes}
	if w.options.Mode == Append {
		g.deadRows = w.base.g.deadRows
	}
	g.deadLanes = g.deadRows
	if m.layout != nil {
		w.carried.settle(g, w.base.g.deadLanes)
	}
	w.db.onStep("check")
	if err := w.checkDuplicates(ctx, g); err != nil {
		return Info{}, err
	}
	if err := ctx.Err(); err != nil {
		return Info{}, err
	}
	if err := w.db.flip(w.bank, g, change{classes: true, lanes: true}); err != nil {
		return Info{}, err
	}
	return g.info(), nil
}

// Abort drops all rows. It may be called at any time, also after Commit, when it
// does nothing.
func (w *Writer) Abort() {
	if w.finished {
		return
	}
	w.finished = true
	if w.pipeline != nil {
		w.pipeline.wait()
		// What cannot be deleted now is an orphan, collected at the next open.
		if err := w.db.deleteRecords(w.pipeline.written); err != nil {
			w.db.log.Info("aborted rows stay until the next open", "bank", w.bank, "error", err)
		}
	}
	w.end()
}

func (w *Writer) end() {
	if w.base != nil {
		w.base.Close()
	}
	w.db.release(w.bank)
}
