package soak

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"membank/simd"
)

const slotsBank, queueBank = "soak/slots", "soak/queue"

// shared is the scenario of clients that write one bank and one queue.
type shared struct {
	*run
	acked []atomic.Int64 // by client: steps that were acknowledged, slots and queue
	sent  []atomic.Int64 // and those that were begun
	locks []sync.Mutex   // by common slot
	chain []*chain
}

func (r *run) shared(ctx context.Context, dir string) error {
	s := &shared{run: r, acked: make([]atomic.Int64, r.o.Clients), sent: make([]atomic.Int64, r.o.Clients), locks: make([]sync.Mutex, commonRows)}
	for range commonRows {
		s.chain = append(s.chain, newChain(r.plan.clients))
	}
	server, err := r.start(ctx, dir)
	if err != nil {
		return err
	}
	if err := r.makeBanks(ctx, server.url, slotsBank, queueBank, r.plan.rows(), slotDim, queuePushes*pushRows); err != nil {
		return errors.Join(err, server.stop())
	}
	end := time.Now().Add(r.o.Duration)
	var all sync.WaitGroup
	for i := range r.plan.clients {
		all.Go(func() {
			w := &worker{shared: s, me: i, client: r.newClient(server.url), seen: slices.Repeat([]int64{-1}, int(r.plan.rows())), last: map[int64]int64{}}
			defer w.client.close()
			for n := int64(0); time.Now().Before(end) && ctx.Err() == nil; n++ {
				if err := w.turn(ctx, n); err != nil {
					if ctx.Err() == nil {
						r.fault("shared", "client %d, update %d: %v", i, n, err)
					}
					return
				}
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return errors.Join(ctx.Err(), server.stop())
	}
	before := s.finish(ctx, server.url)
	if err := server.stop(); err != nil {
		r.fault("shared", "%v", err)
		return nil
	}
	return s.again(ctx, dir, before)
}

// makeBanks makes the slots and the queue of a scenario, of zeros.
func (r *run) makeBanks(ctx context.Context, url, slots, queue string, rows int64, dim int, capacity int64) error {
	c := r.newClient(url)
	defer c.close()
	_, err := c.ask(ctx, "POST", fmt.Sprintf("/v1/memory/%s?rows=%d&dim=%d&init=zeros", escape(slots), rows, dim), nil)
	if err == nil {
		_, err = c.ask(ctx, "POST", fmt.Sprintf("/v1/memory/%s?kind=queue&rows=%d&dim=%d&init=zeros", escape(queue), capacity, queueDim), nil)
	}
	return err
}

// worker is one client.
type worker struct {
	*shared
	me     int64
	client *client
	seen   []int64         // by slot: the newest version that this client saw
	last   map[int64]int64 // by common slot: this client's newest step that wrote it
}

// turn updates slots, pushes and reads both banks.
func (w *worker) turn(ctx context.Context, n int64) error {
	step := w.plan.step(w.me, n)
	ids, common := w.plan.ids(step), w.plan.common(step)
	w.sent[w.me].Store(n + 1)
	before, err := w.client.update(ctx, slotsBank, step, ids, w.plan.vectors(step, ids, slotDim), "0", common)
	if err != nil {
		return err
	}
	w.updates.Add(1)
	if err := w.found(common, before); err != nil {
		return err
	}
	for _, id := range common {
		w.last[id] = step
	}
	if err := w.client.push(ctx, queueBank, step, w.plan.vectors(step, pushed(), queueDim), slices.Repeat([]int64{step}, pushRows)); err != nil {
		return err
	}
	w.pushes.Add(1)
	w.acked[w.me].Store(n + 1)
	if err := w.readSlots(ctx, step); err != nil {
		return err
	}
	return w.readQueue(ctx)
}

// found notes what an update found in common slots.
func (w *worker) found(common []int64, before *answer) error {
	rows := before.rows["rows"]
	if !slices.Equal(before.ints["ids"], common) || rows.Rows != len(common) || rows.Dim != slotDim {
		return fmt.Errorf("update --gather of %v gives %v", common, before.ints["ids"])
	}
	for i, id := range common {
		step, err := w.plan.read(rows.Row(i), id)
		if err != nil {
			return fmt.Errorf("slot %d, before the update: %w", id, err)
		}
		at := id - w.plan.clients*ownRows
		client, n := w.plan.origin(step)
		w.locks[at].Lock()
		err = w.chain[at].find(client, n)
		w.locks[at].Unlock()
		if err != nil {
			return fmt.Errorf("slot %d: an update was lost or done twice: %w", id, err)
		}
	}
	w.rows.Add(int64(len(common)))
	return nil
}

// floors are what every client has acknowledged: whoever asks from now on sees it.
func (s *shared) floors() []int64 {
	floors := make([]int64, len(s.acked))
	for i := range floors {
		floors[i] = s.acked[i].Load()
	}
	return floors
}

// readSlots reads the bank after the client's own step and checks it.
func (w *worker) readSlots(ctx context.Context, step int64) error {
	floors := w.floors()
	a, err := w.client.contents(ctx, slotsBank, "")
	if err != nil {
		return err
	}
	m := moment{shared: w.shared, rows: a.rows["rows"], versions: a.ints["step"], floors: floors}
	if err := m.check(); err != nil {
		return err
	}
	for id, version := range m.versions {
		if version < w.seen[id] {
			return fmt.Errorf("the version of slot %d went from %d back to %d", id, w.seen[id], version)
		}
		w.seen[id] = version
		if own, wrote := w.last[int64(id)]; wrote && version < own {
			return fmt.Errorf("slot %d has version %d after this client wrote it at step %d", id, version, own)
		}
	}
	if got := m.steps[w.me*ownRows]; got != step {
		return fmt.Errorf("the update of step %d is lost: this client's slots are of step %d", step, got)
	}
	return nil
}

// moment is a bank as it was read.
type moment struct {
	*shared
	rows     simd.Matrix
	versions []int64
	floors   []int64 // acknowledged before it was asked for, by client
	steps    []int64 // that wrote each row; 0: none
}

// check finds out whether a bank is one that may be: every row whole, every batch
// whole, nothing missing that was acknowledged and nothing that nobody sent.
func (m *moment) check() error {
	p := m.plan
	if int64(m.rows.Rows) != p.rows() || m.rows.Dim != slotDim {
		return fmt.Errorf("the bank is %d × %d, and should be %d × %d", m.rows.Rows, m.rows.Dim, p.rows(), slotDim)
	}
	m.reads.Add(1)
	m.run.rows.Add(p.rows())
	m.steps = make([]int64, m.rows.Rows)
	for id := range m.steps {
		var err error
		if m.steps[id], err = p.read(m.rows.Row(id), int64(id)); err != nil {
			return fmt.Errorf("slot %d: %w", id, err)
		}
	}
	at := make([]int64, p.clients) // the step that each client is at in this moment
	for c := range p.clients {
		at[c] = m.steps[c*ownRows]
		if err := m.own(c, at[c]); err != nil {
			return err
		}
	}
	for i := range int64(commonRows) {
		if err := m.common(p.clients*ownRows+i, at); err != nil {
			return err
		}
	}
	return nil
}

// own checks the slots that a client has for itself.
func (m *moment) own(c, step int64) error {
	_, n := m.plan.origin(step)
	if n+1 < m.floors[c] {
		return fmt.Errorf("an update is lost: the slots of client %d are of its update %d, and %d were acknowledged", c, n+1, m.floors[c])
	}
	if sent := m.sent[c].Load(); n >= sent {
		return fmt.Errorf("the slots of client %d are of its update %d, and it sent %d", c, n+1, sent)
	}
	version := step
	if step == 0 {
		version = -1
	}
	for id := c * ownRows; id < (c+1)*ownRows; id++ {
		if m.steps[id] != step {
			return fmt.Errorf("a batch is torn: slot %d is of step %d and slot %d of step %d", c*ownRows, step, id, m.steps[id])
		}
		if m.versions[id] != version {
			return fmt.Errorf("slot %d of step %d has version %d", id, step, m.versions[id])
		}
	}
	return nil
}

// common checks a slot that all write: its row is the newest that one client wrote
// into it up to the step that this client is at, and its version the highest of any.
func (m *moment) common(id int64, at []int64) error {
	step, version := m.steps[id], m.versions[id]
	newest := int64(-1)
	fits := step == 0
	for c := range m.plan.clients {
		last := m.lastCommon(id, at[c])
		newest = max(newest, last)
		fits = fits || last == step
		if step == 0 && last > 0 {
			return fmt.Errorf("slot %d was never written, and client %d wrote it at step %d", id, c, last)
		}
	}
	if !fits {
		return fmt.Errorf("slot %d is of step %d, which is nobody's newest update of it: what is read is of no one moment, or an update was lost", id, step)
	}
	if version != newest {
		return fmt.Errorf("slot %d has version %d, and the highest step that wrote it is %d", id, version, newest)
	}
	return nil
}

// lastCommon is the newest step that wrote a common slot among those of the client
// that is at step; -1: none.
func (m *moment) lastCommon(id, step int64) int64 {
	for ; step > 0; step -= m.plan.clients {
		if slices.Contains(m.plan.common(step), id) {
			return step
		}
	}
	return -1
}

// readQueue reads the queue, oldest row first, and checks it.
func (w *worker) readQueue(ctx context.Context) error {
	floors := w.floors()
	a, err := w.client.contents(ctx, queueBank, "&ordered=true")
	if err != nil {
		return err
	}
	return w.checkQueue(a, floors)
}

// checkQueue: whole batches, and of each client consecutive ones, in order, up to
// what it has acknowledged at least.
func (s *shared) checkQueue(a *answer, floors []int64) error {
	rows, versions, labels := a.rows["rows"], a.ints["step"], a.ints["labels"]
	if rows.Rows%pushRows != 0 || rows.Rows > queuePushes*pushRows || len(labels) != rows.Rows {
		return fmt.Errorf("the queue has %d rows and %d labels, pushed by %d into %d", rows.Rows, len(labels), pushRows, queuePushes*pushRows)
	}
	s.reads.Add(1)
	s.rows.Add(int64(rows.Rows))
	newest := slices.Repeat([]int64{-1}, len(floors))
	fill := pushed()
	high := make([]int64, rows.Rows)
	for i := range rows.Rows {
		step, err := s.plan.read(rows.Row(i), fill[i%pushRows])
		if err != nil {
			return fmt.Errorf("row %d of the queue: %w", i, err)
		}
		client, n := s.plan.origin(step)
		if client < 0 {
			return fmt.Errorf("row %d of the queue was never pushed", i)
		}
		high[i] = step
		switch {
		case labels[i] != step:
			return fmt.Errorf("row %d of the queue is of step %d and its label of step %d", i, step, labels[i])
		case versions[i] < step:
			return fmt.Errorf("row %d of the queue, of step %d, has version %d", i, step, versions[i])
		case i%pushRows > 0 && step != high[i-1]:
			return fmt.Errorf("a push is torn: row %d of the queue is of step %d and row %d of step %d", i-1, high[i-1], i, step)
		case i%pushRows > 0:
		case newest[client] >= 0 && n != newest[client]+1:
			return fmt.Errorf("in the queue push %d of client %d follows its push %d", n, client, newest[client])
		case n >= s.sent[client].Load():
			return fmt.Errorf("the queue has push %d of client %d, which sent %d", n, client, s.sent[client].Load())
		default:
			newest[client] = n
		}
	}
	for c, n := range newest {
		if n >= 0 && n+1 < floors[c] {
			return fmt.Errorf("the newest push of client %d in the queue is %d, and %d were acknowledged: one was lost", c, n, floors[c])
		}
	}
	return nil
}

// finish checks the whole history once all clients are done, and returns what the
// banks hold: slots and queue.
func (s *shared) finish(ctx context.Context, url string) []*answer {
	fail := func(format string, args ...any) []*answer { s.fault("shared", format, args...); return nil }
	c := s.newClient(url)
	defer c.close()
	slots, err := c.contents(ctx, slotsBank, "")
	if err != nil {
		return fail("%v", err)
	}
	queue, err := c.contents(ctx, queueBank, "&ordered=true")
	if err != nil {
		return fail("%v", err)
	}
	m := moment{shared: s, rows: slots.rows["rows"], versions: slots.ints["step"], floors: s.floors()}
	if err := errors.Join(m.check(), s.checkQueue(queue, m.floors)); err != nil {
		return fail("at the end: %v", err)
	}
	for at := range int64(commonRows) {
		if err := s.whole(at, m.steps[s.plan.clients*ownRows+at]); err != nil {
			return fail("slot %d: %v", s.plan.clients*ownRows+at, err)
		}
	}
	for _, b := range []struct {
		bank          string
		acked, pushed int64
	}{{slotsBank, s.updates.Load(), 0}, {queueBank, s.pushes.Load(), s.pushes.Load() * pushRows}} {
		i, err := c.show(ctx, b.bank)
		if err != nil {
			return fail("%v", err)
		}
		if i.Updates != b.acked || i.Pushed != b.pushed {
			return fail("%s counts %d updates and %d rows pushed, acknowledged were %d and %d", b.bank, i.Updates, i.Pushed, b.acked, b.pushed)
		}
	}
	return []*answer{slots, queue}
}

// whole checks the history of a common slot: what was found and what is there are
// together what was written.
func (s *shared) whole(at, last int64) error {
	chain := s.chain[at]
	client, n := s.plan.origin(last)
	if err := chain.find(client, n); err != nil {
		return fmt.Errorf("an update was lost: %w, and it is there still", err)
	}
	if !chain.start {
		return fmt.Errorf("an update was done twice: nobody found the row as it was at first")
	}
	for c := range s.plan.clients {
		for n := range s.acked[c].Load() {
			step := s.plan.step(c, n)
			if wrote := slices.Contains(s.plan.common(step), s.plan.clients*ownRows+at); wrote != chain.found[c].has(n) {
				return fmt.Errorf("update %d of client %d: written %v, found by another %v: it was lost", n, c, wrote, !wrote)
			}
		}
	}
	return nil
}

// again starts the server on the database that another one left in order, and
// compares.
func (s *shared) again(ctx context.Context, dir string, before []*answer) error {
	if before == nil {
		return nil
	}
	server, err := s.start(ctx, dir)
	if err != nil {
		return err
	}
	c := s.newClient(server.url)
	defer c.close()
	for i, flags := range []string{"", "&ordered=true"} {
		bank := []string{slotsBank, queueBank}[i]
		a, err := c.contents(ctx, bank, flags)
		switch {
		case err != nil:
			s.fault("shared", "after an orderly stop and a start: %v", err)
		case !slices.Equal(a.rows["rows"].Data, before[i].rows["rows"].Data) || !slices.Equal(a.ints["step"], before[i].ints["step"]) || !slices.Equal(a.ints["labels"], before[i].ints["labels"]):
			s.fault("shared", "%s is another after an orderly stop and a start", bank)
		}
	}
	if err := server.stop(); err != nil {
		s.fault("shared", "%v", err)
	}
	return nil
}
