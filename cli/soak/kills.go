package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Sizes of the banks that one client writes while servers are killed.
const (
	killRows, killBatch = 64, 6
	killQueue           = 20 // no multiple of pushRows: batches wrap
	checkpointEvery     = 24 // steps
)

// killing is the scenario of servers that are killed.
type killing struct {
	*run
	rng    *rand.Rand
	killed atomic.Bool
	acks   atomic.Int64 // of the server that runs
	asking atomic.Int64 // requests under way
}

func (r *run) killing(ctx context.Context, dir string) error {
	k := &killing{run: r, rng: r.plan.source(0, 3)}
	server, err := r.start(ctx, dir)
	if err != nil {
		return err
	}
	var banks []*killBank
	for i := range r.o.Clients {
		slots := &killBank{run: r, name: fmt.Sprintf("soak/slots-%d", i), seed: uint64(2 * i), rows: make([]float32, killRows*slotDim), version: slices.Repeat([]int64{-1}, killRows)}
		queue := &killBank{run: r, name: fmt.Sprintf("soak/queue-%d", i), seed: uint64(2*i + 1), queue: true, rows: make([]float32, killQueue*queueDim), version: slices.Repeat([]int64{-1}, killQueue)}
		if err := r.makeBanks(ctx, server.url, slots.name, queue.name, killRows, slotDim, killQueue); err != nil {
			return errors.Join(err, server.stop())
		}
		banks = append(banks, slots, queue)
	}
	for n := 0; n < r.o.Kills && ctx.Err() == nil && len(r.faults) == 0; n++ {
		if server, err = k.round(ctx, dir, server, banks); err != nil {
			if ctx.Err() == nil {
				r.fault("kills", "kill %d: %v", n, err)
			}
			break
		}
	}
	if server != nil {
		if err := server.stop(); err != nil && ctx.Err() == nil {
			r.fault("kills", "%v", err)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return r.verify(ctx, "kills", dir)
}

// round lets the clients work, kills the server in the midst of it, starts it again
// and checks every bank.
func (k *killing) round(ctx context.Context, dir string, server *server, banks []*killBank) (*server, error) {
	k.killed.Store(false)
	k.acks.Store(0)
	enough, pause := k.rng.Int64N(6*int64(len(banks))), time.Duration(k.rng.Int64N(int64(8*time.Millisecond)))
	errs := make(chan error, len(banks))
	var all sync.WaitGroup
	for i := 0; i < len(banks); i += 2 {
		all.Go(func() {
			c := k.newClient(server.url)
			defer c.close()
			for err := error(nil); err == nil; {
				for _, b := range banks[i : i+2] {
					if err = k.advance(ctx, c, b); err != nil {
						break
					}
				}
				if err != nil && (!k.killed.Load() || errors.Is(err, errRefused)) {
					errs <- fmt.Errorf("client %d: %w", i/2, err)
				}
			}
		})
	}
	for begun := time.Now(); k.acks.Load() < enough && len(errs) == 0 && time.Since(begun) < hang && ctx.Err() == nil; {
		time.Sleep(200 * time.Microsecond)
	}
	time.Sleep(pause)
	k.killed.Store(true)
	k.inFlight.Add(k.asking.Load())
	err := server.kill()
	all.Wait()
	select {
	case first := <-errs:
		err = errors.Join(first, err)
	default:
	}
	k.count(func(c *Kills) { c.Total++ })
	if err == nil && k.rng.IntN(6) == 0 {
		k.count(func(c *Kills) { c.Total++; c.Starting++ })
		err = k.startAndKill(dir, time.Duration(k.rng.Int64N(int64(150*time.Millisecond))))
	}
	if err != nil {
		return nil, err
	}
	next, err := k.start(ctx, dir)
	if err != nil {
		return nil, err
	}
	c := k.newClient(next.url)
	defer c.close()
	for _, b := range banks {
		if err := b.check(ctx, c); err != nil {
			return next, fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return next, nil
}

func (r *run) count(change func(*Kills)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.kills)
}

// advance writes the next step of a bank, and now and then a checkpoint.
func (k *killing) advance(ctx context.Context, c *client, b *killBank) error {
	k.asking.Add(1)
	defer k.asking.Add(-1)
	if err := b.advance(ctx, c); err != nil {
		return err
	}
	k.acks.Add(1)
	if b.sent%checkpointEvery != 0 {
		return nil
	}
	return b.checkpoint(ctx, c)
}

// killBank is a bank that one client writes, and what it must hold: the client
// itself knows, since a step's batch follows from the step.
type killBank struct {
	*run
	name    string
	seed    uint64
	queue   bool
	rows    []float32 // as after step at
	version []int64
	at      int64
	durable int64 // the last step that was acknowledged as one that survives
	sent    int64 // the last step that was sent
}

func (b *killBank) dim() int {
	if b.queue {
		return queueDim
	}
	return slotDim
}

// batch is what a step writes; ids may occur twice.
func (b *killBank) batch(step int64) (ids []int64, vectors []float32) {
	source := rand.New(rand.NewPCG(b.plan.seed^b.seed<<32, uint64(step)))
	n := killBatch
	if b.queue {
		n = pushRows
	}
	for range n {
		ids = append(ids, source.Int64N(killRows))
		for range b.dim() {
			vectors = append(vectors, float32(source.NormFloat64()))
		}
	}
	return ids, vectors
}

// keepOld is the weight of old rows: every other step mixes, so that a step that was
// done twice, or left out, shows in all that follow.
func keepOld(step int64) float32 { return 0.5 * float32(step%2) }

// advance sends the next step.
func (b *killBank) advance(ctx context.Context, c *client) error {
	step := b.sent + 1
	ids, vectors := b.batch(step)
	b.sent = step
	var err error
	if b.queue {
		err = c.push(ctx, b.name, step, vectors, slices.Repeat([]int64{step}, len(ids)))
	} else {
		_, err = c.update(ctx, b.name, step, ids, vectors, fmt.Sprint(keepOld(step)), nil)
	}
	if err != nil {
		return err
	}
	if durabilityOf(step) != "memory" {
		b.durable = step
	}
	if b.queue {
		b.pushes.Add(1)
	} else {
		b.updates.Add(1)
	}
	return nil
}

// checkpoint makes one and forgets those before it.
func (b *killBank) checkpoint(ctx context.Context, c *client) error {
	if _, err := c.ask(ctx, "POST", "/v1/memory/"+escape(b.name)+"/checkpoint", nil); err != nil {
		return err
	}
	b.durable = b.sent
	a, err := c.ask(ctx, "GET", "/v1/memory/"+escape(b.name), nil)
	if err != nil {
		return err
	}
	var shown struct {
		Base        int64
		Checkpoints []struct{ Step int64 }
	}
	if err := json.Unmarshal(a.summary, &shown); err != nil {
		return err
	}
	if shown.Base != b.sent {
		return fmt.Errorf("%w: the log applies to checkpoint %d after one of step %d", errRefused, shown.Base, b.sent)
	}
	for _, p := range shown.Checkpoints {
		if p.Step == shown.Base {
			continue
		}
		if _, err := c.ask(ctx, "POST", fmt.Sprintf("/v1/memory/%s/forget?step=%d", escape(b.name), p.Step), nil); err != nil {
			return err
		}
	}
	return nil
}

// check compares a bank with the steps it must be after.
func (b *killBank) check(ctx context.Context, c *client) error {
	flags := ""
	if b.queue {
		flags = "&scope=all"
	}
	a, err := c.contents(ctx, b.name, flags)
	if err != nil {
		return err
	}
	rows, versions, labels := a.rows["rows"], a.ints["step"], a.ints["labels"]
	if rows.Rows*rows.Dim != len(b.rows) || rows.Dim != b.dim() {
		return fmt.Errorf("the bank is %d × %d", rows.Rows, rows.Dim)
	}
	at := max(0, slices.Max(versions))
	if at < b.durable || at > b.sent {
		return fmt.Errorf("it is at step %d, and %d was acknowledged as durable and %d sent", at, b.durable, b.sent)
	}
	for b.at < at {
		b.at++
		b.apply(b.at)
	}
	for i := range versions {
		if versions[i] != b.version[i] {
			return fmt.Errorf("after step %d row %d has version %d, not %d", at, i, versions[i], b.version[i])
		}
		if labels != nil && labels[i] != versions[i] || labels == nil && b.queue && at > 0 {
			return fmt.Errorf("after step %d the labels of the queue are not the steps that pushed: %v", at, labels)
		}
		if got, want := rows.Row(i), b.rows[i*b.dim():(i+1)*b.dim()]; !slices.Equal(got, want) {
			return fmt.Errorf("after step %d row %d is %v, not %v", at, i, got, want)
		}
	}
	b.reads.Add(1)
	b.run.rows.Add(int64(rows.Rows))
	b.count(func(k *Kills) { k.Open += b.sent - b.durable; k.OpenKept += at - b.durable })
	b.sent, b.durable = at, at
	return nil
}

// apply does a step: slots are mixed with what they were before the batch, and of an
// id that occurs twice the last row counts; a queue is written in turn.
func (b *killBank) apply(step int64) {
	ids, vectors := b.batch(step)
	dim, before, keep := b.dim(), slices.Clone(b.rows), keepOld(step)
	for i, id := range ids {
		if b.queue {
			id, keep = ((step-1)*pushRows+int64(i))%killQueue, 0
		}
		for d := range dim {
			b.rows[id*int64(dim)+int64(d)] = keep*before[id*int64(dim)+int64(d)] + (1-keep)*vectors[i*dim+d]
		}
		b.version[id] = step
	}
}

func escape(bank string) string { return url.PathEscape(bank) }
